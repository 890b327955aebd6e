//! Layers that keep no activations: each is computed again, with a graph, when its gradient is due.
//!
//! Takes the memory of one layer in the place of all, for one more forward pass. Source: Chen et al. 2016, arXiv:1604.06174.
//! A layer draws its noise from a generator that is seeded for it alone, so that the second time equals the first.

use tch::{TchError, Tensor};

use crate::nn::frames::Frames;
use crate::nn::pass::Pass;

/// A forward pass whose layers kept no graph.
#[derive(Debug)]
pub(crate) struct Recompute {
    /// Output below the layers, with its graph, and the leaf that the layers saw instead; none when nothing below is trained.
    root: Option<[Tensor; 2]>,
    /// From the lowest trained layer upwards.
    pub(crate) steps: Vec<Step>,
    pub(crate) keys: Option<Tensor>,
    pub(crate) frames: Option<Frames>,
    pub(crate) pass: Pass,
}

/// One layer's run.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) layer: usize,
    pub(crate) input: Tensor,
    /// A leaf: what lies above leaves the gradient there.
    pub(crate) output: Tensor,
}

impl Recompute {
    pub(crate) fn new(pass: &Pass, keys: Option<&Tensor>, frames: Option<&Frames>) -> Self {
        let share = |frames: &Frames| Frames {
            counts: frames.counts.clone(),
            real: frames.real.as_ref().map(Tensor::shallow_clone),
            alone: frames.alone,
        };
        Self {
            root: None,
            steps: Vec::new(),
            keys: keys.map(Tensor::shallow_clone),
            frames: frames.map(share),
            pass: pass.clone(),
        }
    }

    /// Cuts the graph between what lies below the layers and them.
    pub(crate) fn begin(&mut self, x: Tensor) -> Result<Tensor, TchError> {
        if !x.requires_grad() {
            return Ok(x);
        }
        let leaf = x.f_detach()?.f_set_requires_grad(true)?;
        self.root = Some([x, leaf.shallow_clone()]);
        Ok(leaf)
    }

    /// Runs a layer. Below the lowest trained one there is nothing to compute again.
    pub(crate) fn run(
        &mut self,
        layer: usize,
        input: &Tensor,
        forward: impl Fn() -> Result<Tensor, TchError>,
    ) -> Result<Tensor, TchError> {
        let output = if input.requires_grad() { tch::no_grad(&forward)? } else { forward()? };
        if !input.requires_grad() && !output.requires_grad() {
            return Ok(output);
        }
        let output = output.f_detach()?.f_set_requires_grad(true)?;
        self.steps.push(Step { layer, input: input.shallow_clone(), output: output.shallow_clone() });
        Ok(output)
    }

    /// Takes the gradient that the layers' input got on to what lies below.
    pub(crate) fn finish(self) -> Result<(), TchError> {
        match self.root {
            Some([x, leaf]) => backward_from(&x, &leaf.grad()),
            None => Ok(()),
        }
    }
}

/// Goes backward from `output` with a given gradient.
pub(crate) fn backward_from(output: &Tensor, gradient: &Tensor) -> Result<(), TchError> {
    if !gradient.defined() {
        return Ok(());
    }
    output.f_mul(gradient)?.f_sum(output.kind())?.f_backward()
}
