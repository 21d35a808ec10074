//! Weights: which initializer, and which of its entries, loaded only where the numbers matter.

use super::array::{Array, count};
use super::error::OnnxError;
use super::graph::{Stored, floats};
use std::path::Path;
use std::sync::Arc;

/// A weight: an initializer, or a small array that was computed from constants.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    source: Source,
    /// Whether rows and columns of the source change places.
    transposed: bool,
}

#[derive(Clone, Debug)]
enum Source {
    Stored(Arc<Stored>),
    /// Entries of an initializer at these places, counted row by row.
    Picked(Arc<Stored>, Arc<Array<usize>>),
    Folded(Arc<Array<f64>>),
    /// As many zeros.
    Zeros(usize),
}

impl PartialEq for Weight {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.source, &other.source) {
            (Source::Stored(a), Source::Stored(b)) => Arc::ptr_eq(a, b),
            (Source::Picked(a, from), Source::Picked(b, other_from)) => {
                Arc::ptr_eq(a, b) && from == other_from
            }
            (Source::Folded(a), Source::Folded(b)) => a == b,
            (Source::Zeros(a), Source::Zeros(b)) => a == b,
            _ => false,
        };
        same && self.transposed == other.transposed
    }
}

impl Weight {
    pub(super) fn stored(stored: &Arc<Stored>) -> Self {
        Self {
            source: Source::Stored(stored.clone()),
            transposed: false,
        }
    }

    pub(super) fn folded(array: &Array<f64>) -> Self {
        Self {
            source: Source::Folded(Arc::new(array.clone())),
            transposed: false,
        }
    }

    /// A bias that the graph leaves out, as exporters do where all its entries are 0.
    pub(super) fn zeros(count: usize) -> Self {
        Self {
            source: Source::Zeros(count),
            transposed: false,
        }
    }

    fn picked(stored: &Arc<Stored>, places: Array<usize>) -> Self {
        Self {
            source: Source::Picked(stored.clone(), places.into()),
            transposed: false,
        }
    }

    /// These rows of a matrix; none of anything but a stored one that has them.
    pub(super) fn rows(&self, rows: &[usize]) -> Option<Self> {
        let Source::Stored(stored) = &self.source else {
            return None;
        };
        let &[count, width] = &stored.shape[..] else {
            return None;
        };
        if self.transposed || rows.iter().any(|&row| row >= count) {
            return None;
        }
        let place = |index: &[usize]| rows[index[0]] * width + index[1];
        let places = Array::from_fn(&[rows.len(), width], place)?;
        Some(Self::picked(stored, places))
    }

    /// With its entries moved about; none unless it was picked out of an initializer.
    pub(super) fn moved(
        &self,
        change: impl FnOnce(&Array<usize>) -> Option<Array<usize>>,
    ) -> Option<Self> {
        match &self.source {
            Source::Picked(stored, places) if !self.transposed => {
                Some(Self::picked(stored, change(places)?))
            }
            _ => None,
        }
    }

    /// The table [rows, width] whose rows from `first` on these are, in order. That is the whole initializer: a graph of fixed
    /// size holds just the rows that it uses.
    pub(super) fn table(&self, first: usize, width: usize) -> Option<Self> {
        let in_order = |places: &Array<usize>| {
            let mut each = places.data.iter().enumerate();
            each.all(|(i, &place)| place == first * width + i)
        };
        let stored = match &self.source {
            _ if self.transposed || self.shape().last() != Some(&width) => return None,
            Source::Stored(stored) if first == 0 => stored,
            Source::Picked(stored, places) if in_order(places) => stored,
            _ => return None,
        };
        let entries = count(&stored.shape)?;
        let shape = [entries.checked_div(width)?, width];
        if stored.shape == shape {
            return Some(Self::stored(stored));
        }
        let places = Array::vector((0..entries).collect()).reshape(&shape)?;
        Some(Self::picked(stored, places))
    }

    /// Extents, after transposition.
    pub(super) fn shape(&self) -> Vec<usize> {
        let mut shape = match &self.source {
            Source::Stored(stored) => stored.shape.clone(),
            Source::Picked(_, places) => places.shape.clone(),
            Source::Folded(array) => array.shape.clone(),
            &Source::Zeros(count) => vec![count],
        };
        if self.transposed {
            shape.reverse();
        }
        shape
    }

    /// Rows and columns exchanged; a vector stays what it is.
    pub(super) fn transpose(&self) -> Self {
        Self {
            source: self.source.clone(),
            transposed: self.transposed != (self.shape().len() == 2),
        }
    }

    /// The name in the file, for people.
    pub(super) fn name(&self) -> &str {
        match &self.source {
            Source::Stored(stored) | Source::Picked(stored, _) => &stored.name,
            Source::Folded(_) => "computed from constants",
            Source::Zeros(_) => "not in the graph: zeros",
        }
    }

    /// Whether both hold the same matrix. Stored ones are compared as they lie, for they may be as large as models get.
    pub(super) fn same(&self, other: &Self, model: &Path) -> Result<bool, OnnxError> {
        let (Source::Stored(a), Source::Stored(b)) = (&self.source, &other.source) else {
            return Ok(self.load(model)? == other.load(model)?);
        };
        let (&[rows, columns], Some(each)) = (&self.shape()[..], a.format.bytes()) else {
            return Ok(self.load(model)? == other.load(model)?);
        };
        if self == other {
            return Ok(true);
        }
        if a.format != b.format || self.shape() != other.shape() {
            return Ok(false);
        }
        let (a, b) = (a.bytes(model)?, b.bytes(model)?);
        let place = |transposed: bool, row: usize, column: usize| {
            let entry = match transposed {
                true => column * rows + row,
                false => row * columns + column,
            };
            entry * each..(entry + 1) * each
        };
        Ok((0..rows).all(|row| {
            (0..columns).all(|column| {
                a[place(self.transposed, row, column)] == b[place(other.transposed, row, column)]
            })
        }))
    }

    /// The numbers, row-major after transposition.
    pub(super) fn load(&self, model: &Path) -> Result<Array<f64>, OnnxError> {
        let shape = self.shape();
        let data = match &self.source {
            Source::Folded(array) => array.data.clone(),
            &Source::Zeros(count) => vec![0.0; count],
            Source::Stored(stored) => numbers(stored, model)?,
            Source::Picked(stored, places) => {
                let all = numbers(stored, model)?;
                places.data.iter().map(|&place| all[place]).collect()
            }
        };
        let data = match (self.transposed, &shape[..]) {
            (true, &[rows, columns]) => (0..rows * columns)
                .map(|i| data[i % columns * rows + i / columns])
                .collect(),
            _ => data,
        };
        Ok(Array { shape, data })
    }
}

/// All numbers of an initializer.
fn numbers(stored: &Stored, model: &Path) -> Result<Vec<f64>, OnnxError> {
    let data = floats(stored.format, &stored.bytes(model)?);
    data.ok_or_else(|| OnnxError::Initializer {
        path: model.into(),
        name: stored.name.clone(),
        cause: format!("holds {:?}, weights are floats", stored.format),
        remedy: "export the model again",
    })
}
