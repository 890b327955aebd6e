//! Self-attention with several heads.

use tch::{Device, Kind, TchError, Tensor};

use super::adapter::BlockAdapter;
use super::frames::Frames;
use super::linear::Linear;
use super::pass::Pass;

/// Self-attention with several heads: (B, T, H) -> (B, T, H).
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) out: Linear,
    /// An adapter behind the output.
    pub(crate) block: Option<Box<dyn BlockAdapter>>,
    pub(crate) num_heads: i64,
    pub(crate) dropout: f64,
}

/// Queries, keys and values of one input, (B, A, T, D) each.
#[derive(Debug)]
pub(crate) struct Projected {
    query: Tensor,
    key: Tensor,
    value: Tensor,
}

impl Projected {
    /// (B, A, T, D).
    pub(crate) fn query(&self) -> &Tensor {
        &self.query
    }
}

/// Surroundings of one attention: what it looks at besides its input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    /// Keys that count (true or false), or what is added to the scores; none when all keys count. Broadcast to (B, A, T, T).
    pub(crate) mask: Option<&'a Tensor>,
    /// Learned keys and values in front of those of the input.
    pub(crate) prefix: Option<&'a KeysAndValues>,
    /// Which frames are real; none when all count.
    pub(crate) frames: Option<&'a Frames>,
    pub(crate) pass: &'a Pass,
}

impl Attention {
    /// Makes queries, keys and values of `x` (B, T, H).
    pub(crate) fn project(&self, x: &Tensor, pass: &Pass) -> Result<Projected, TchError> {
        let (batch, frames, hidden) = x.size3()?;
        let heads = |made: &Tensor| {
            let split = [batch, frames, self.num_heads, hidden / self.num_heads];
            made.f_view(split)?.f_transpose(1, 2) // (B, A, T, D)
        };
        let [query, key, value] = Linear::forward_all([&self.query, &self.key, &self.value], x, pass)?;
        Ok(Projected { query: heads(&query)?, key: heads(&key)?, value: heads(&value)? })
    }

    /// Lets the queries attend to the keys, and projects what comes out: (B, T, H).
    pub(crate) fn attend(&self, projected: Projected, context: &Context) -> Result<Tensor, TchError> {
        let Projected { query, mut key, mut value } = projected;
        let &Context { mask, prefix, frames, pass } = context;
        let mut mask = mask.map(Tensor::shallow_clone);
        if let Some(prefix) = prefix {
            (key, value) = prefix.extend(&key, &value, pass)?;
            mask = mask.map(|mask| prefix.extend_mask(&mask)).transpose()?;
        }
        let (batch, heads, num_frames, width) = query.size4()?;
        let mixed = mix([&query, &key, &value], mask.as_ref(), self.dropout, pass)?;
        let merged = mixed.f_transpose(1, 2)?.f_reshape([batch, num_frames, heads * width])?;
        let output = self.out.forward(&merged, pass)?;
        match &self.block {
            Some(block) => block.forward(&output, frames),
            None => Ok(output),
        }
    }
}

/// Attention of queries (B, A, T, D) to keys and values (B, A, S, D): softmax of the scaled scores, thinned in training, times the values.
fn mix([query, key, value]: [&Tensor; 3], mask: Option<&Tensor>, dropout: f64, pass: &Pass) -> Result<Tensor, TchError> {
    let dropout = pass.probability(dropout);
    if dropout == 0.0 || query.device() != Device::Cpu {
        return Tensor::f_scaled_dot_product_attention(query, key, value, mask, dropout, false, None, false);
    }
    // Libtorch takes these steps, too, when it drops something on a CPU, but draws one number after the other.
    let scale = (*query.size().last().unwrap_or(&1) as f64).sqrt().recip();
    let mut scores = query.f_mul_scalar(scale)?.f_matmul(&key.f_transpose(-2, -1)?)?; // (B, A, T, S)
    if let Some(mask) = mask {
        scores = match mask.kind() {
            Kind::Bool => scores.f_masked_fill(&mask.f_logical_not()?, f64::NEG_INFINITY)?,
            _ => scores.f_add(mask)?,
        };
    }
    pass.dropout(&scores.f_softmax(-1, scores.kind())?, dropout)?.f_matmul(value)
}

/// Learned keys and values of one attention, (P, 2 * H): row p holds the p-th key and value, \[key then value, head, D\].
#[derive(Debug)]
pub(crate) struct KeysAndValues {
    pub(crate) rows: Tensor,
    pub(crate) dropout: f64,
}

impl KeysAndValues {
    /// Puts them in front of `key` and `value`, (B, A, T, D) each -> (B, A, P + T, D). Every utterance draws its own dropout.
    fn extend(&self, key: &Tensor, value: &Tensor, pass: &Pass) -> Result<(Tensor, Tensor), TchError> {
        let (batch, heads, _, width) = key.size4()?;
        let num = self.rows.size()[0];
        let split = self.rows.f_view([num, 2, heads, width])?.f_permute([1, 2, 0, 3])?; // (2, A, P, D)
        let each = split.f_unsqueeze(1)?.f_expand([2, batch, heads, num, width], false)?;
        let each = pass.dropout(&each, self.dropout)?;
        let in_front = |at, of: &Tensor| Tensor::f_cat(&[&each.f_select(0, at)?, of], 2);
        Ok((in_front(0, key)?, in_front(1, value)?))
    }

    /// Lets every query see them: a mask of keys, true or false, or what is added to the scores, (.., T) -> (.., P + T).
    fn extend_mask(&self, mask: &Tensor) -> Result<Tensor, TchError> {
        let mut shape = mask.size();
        if let Some(last) = shape.last_mut() {
            *last = self.rows.size()[0];
        }
        let visible = if mask.kind() == Kind::Bool {
            Tensor::f_ones(shape.as_slice(), (mask.kind(), mask.device()))?
        } else {
            Tensor::f_zeros(shape.as_slice(), (mask.kind(), mask.device()))?
        };
        Tensor::f_cat(&[&visible, mask], -1)
    }
}
