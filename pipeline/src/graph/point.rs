//! A point of the matrix.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Axes and values as text, in order of the axes' names. Cheap to clone: all nodes at a point share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point(Arc<[(Arc<str>, Arc<str>)]>);

impl Point {
    /// Axes with their values, in order of the axes' names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(axis, value)| (&**axis, &**value))
    }
    /// The value of an axis.
    pub fn get(&self, axis: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == axis).map(|(_, value)| value)
    }
    /// True if the point names no axis.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// As a map of its own.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|(axis, value)| (axis.to_owned(), value.to_owned())).collect()
    }
}

impl Default for Point {
    fn default() -> Self {
        Self(Arc::from([]))
    }
}

impl FromIterator<(Arc<str>, Arc<str>)> for Point {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<str>)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

/// `[axis=value,...]`; nothing when it is empty.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "[";
        for (axis, value) in self.iter() {
            write!(f, "{before}{axis}={value}")?;
            before = ",";
        }
        f.write_str(if self.is_empty() { "" } else { "]" })
    }
}
