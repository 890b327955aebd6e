//! The transformer layers that a method is limited to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::misfit::Misfit;
use crate::Mistakes;
use crate::sites::Stack;

/// Transformer layers of a stack, counted from 0 at the bottom: `[0, 5, 11]`, `{ from = 12, to = 23 }` or `{ last = 4 }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "layers are a list as in `[0, 5, 11]`, a range as in `{ from = 12, to = 23 }` (both included) or `{ last = 4 }`"
)]
pub enum Layers {
    /// These.
    Listed(Vec<u32>),
    /// All from one to another.
    Range {
        /// The lowest.
        from: u32,
        /// The highest, included.
        to: u32,
    },
    /// The topmost ones.
    Last {
        /// Number of layers.
        last: u32,
    },
}

impl Layers {
    /// Returns the layers of a stack in ascending order.
    ///
    /// Errors: [`Misfit::Layer`] for one that the stack does not have.
    pub fn of(&self, stack: &Stack) -> Result<Vec<u32>, Misfit> {
        let &Stack { label: stack, num_layers, .. } = stack;
        let outside = |layer: u32| Misfit::Layer { layer, stack, num_layers };
        let mut found = match self {
            Self::Listed(layers) => layers.clone(),
            // Before the range is made: it may be as long as a typing error.
            Self::Range { to, .. } if *to >= num_layers => return Err(outside(*to)),
            Self::Range { from, to } => (*from..=*to).collect(),
            Self::Last { last } => {
                let first = num_layers.checked_sub(*last).ok_or(Misfit::TooManyLayers { last: *last, stack, num_layers })?;
                (first..num_layers).collect()
            }
        };
        found.sort_unstable();
        match found.last() {
            Some(&layer) if layer >= num_layers => Err(outside(layer)),
            _ => Ok(found),
        }
    }

    /// Returns the layers of a stack that `some` names, in ascending order; all of them when it names none.
    ///
    /// Errors: [`Misfit::Layer`] for one that the stack does not have.
    pub fn or_all(some: Option<&Self>, stack: &Stack) -> Result<Vec<u32>, Misfit> {
        some.map_or_else(|| Ok((0..stack.num_layers).collect()), |layers| layers.of(stack))
    }

    /// Reports mistakes that do not depend on the encoder.
    pub(crate) fn check(some: Option<&Self>, mistakes: &mut Mistakes) {
        let mut note = |sentence: String| mistakes.push(("method.layers", sentence));
        match some {
            Some(Self::Listed(layers)) if layers.is_empty() => {
                note("must name one or more layers; leave it out for all of them".to_owned());
            }
            Some(Self::Listed(layers)) => {
                if let Some((_, layer)) = layers.iter().enumerate().find(|(at, layer)| layers[..*at].contains(layer)) {
                    note(format!("must be without repeats, but {layer} is there twice"));
                }
            }
            Some(Self::Range { from, to }) if from > to => note(format!("must go upwards, not from {from} to {to}")),
            Some(Self::Last { last: 0 }) => note("must keep one or more layers, not the last 0".to_owned()),
            None | Some(Self::Range { .. } | Self::Last { .. }) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(num_layers: u32) -> Stack {
        Stack { label: "encoder", prefix: "encoder.layers.", prefix_table: "prefix_encoder", num_layers }
    }

    #[track_caller]
    fn check(text: &str, num_layers: u32, expected: &[u32]) {
        let layers: Layers = serde_json::from_str(text).unwrap();
        assert_eq!(layers.of(&stack(num_layers)).unwrap(), expected);
    }

    #[test]
    fn lists_ranges_and_the_last_ones_are_read() {
        check("[5, 0]", 6, &[0, 5]);
        check("[2, 5]", 6, &[2, 5]);
        check(r#"{"from": 2, "to": 5}"#, 6, &[2, 3, 4, 5]);
        check(r#"{"last": 2}"#, 6, &[4, 5]);
        let error = serde_json::from_str::<Layers>(r#""top""#).unwrap_err().to_string();
        assert!(error.contains("{ from = 12, to = 23 }"), "{error}");
    }

    #[test]
    fn layers_that_are_not_there_are_named() {
        let error = |layers: Layers| layers.of(&stack(12)).unwrap_err().to_string();
        let expected = "`layers` names layer 12, but the encoder has 12 layers, counted from 0";
        assert_eq!(error(Layers::Listed(vec![3, 12])), expected);
        assert_eq!(error(Layers::Range { from: 3, to: u32::MAX }), expected.replace("layer 12", "layer 4294967295"));
        assert_eq!(error(Layers::Last { last: 13 }), "`layers` asks for the last 13, but the encoder has 12 layers");
    }

    #[test]
    fn senseless_ones_are_refused() {
        for layers in
            [Layers::Listed(vec![]), Layers::Listed(vec![1, 2, 1]), Layers::Range { from: 3, to: 2 }, Layers::Last { last: 0 }]
        {
            let mut mistakes = Vec::new();
            Layers::check(Some(&layers), &mut mistakes);
            assert_eq!(mistakes.len(), 1, "{layers:?}");
        }
    }
}
