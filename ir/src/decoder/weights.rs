//! Where the interpreter finds the tensors that the stage names.

use miette::Diagnostic;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A checkpoint tensor, row-major. Checkpoints store f32 or less, so f32 holds every value exactly; arithmetic on it is f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Extents; `[out, in]` for a linear map.
    pub shape: Vec<usize>,
    /// As many entries as the product of the extents.
    pub data: Vec<f32>,
}

impl Tensor {
    /// Row `i` of a matrix; a vector is one row.
    pub fn row(&self, i: usize) -> &[f32] {
        let width = self.shape.last().copied().unwrap_or(1);
        &self.data[i * width..(i + 1) * width]
    }

    /// Rows of the first extent, by themselves.
    pub fn slice(&self, rows: Range<usize>) -> Tensor {
        let width: usize = self.shape[1..].iter().product();
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        Tensor {
            shape,
            data: self.data[rows.start * width..rows.end * width].to_vec(),
        }
    }
}

/// Why a tensor could not be had.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum WeightError {
    /// There is none of that name.
    #[error("the checkpoint has no tensor `{name}`{hint}")]
    #[diagnostic(code(weights::missing))]
    Missing {
        /// The name asked for.
        name: String,
        /// What the source knows about why, and the remedy; starts with a separator or is empty.
        hint: String,
    },
    /// It has another shape than the model needs.
    #[error("tensor `{name}` has shape {actual:?}, the model's configuration needs {expected:?}")]
    #[diagnostic(code(weights::shape))]
    Shape {
        /// The name asked for.
        name: String,
        /// What the model needs.
        expected: Vec<usize>,
        /// What the checkpoint holds.
        actual: Vec<usize>,
    },
    /// It has fewer rows than are asked for.
    #[error(
        "tensor `{name}` has {count} rows, rows {rows:?} are needed: the stage and the checkpoint do not belong together"
    )]
    #[diagnostic(code(weights::rows))]
    Rows {
        /// The name asked for.
        name: String,
        /// Asked for.
        rows: Range<usize>,
        /// Rows there are.
        count: usize,
    },
    /// It is there and could not be read.
    #[error("tensor `{name}` could not be read")]
    #[diagnostic(code(weights::read))]
    Read {
        /// The name asked for.
        name: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Resolves tensor names. A source may read or make a tensor anew whenever it is asked for: whoever needs one again soon keeps it.
pub trait WeightSource: Sync {
    /// Extents of the tensor called `name`, no `{i}` in it.
    fn shape(&self, name: &str) -> Result<Vec<usize>, WeightError>;

    /// The tensor called `name`.
    fn tensor(&self, name: &str) -> Result<Arc<Tensor>, WeightError>;

    /// Some rows of it (of a vector, entries), and no others.
    fn rows(&self, name: &str, rows: Range<usize>) -> Result<Tensor, WeightError> {
        check_rows(name, &self.shape(name)?, &rows)?;
        Ok(self.tensor(name)?.slice(rows))
    }

    /// Refuses a tensor that has not the shape `expected`.
    fn check_shape(&self, name: &str, expected: &[usize]) -> Result<(), WeightError> {
        let actual = self.shape(name)?;
        if actual == expected {
            return Ok(());
        }
        Err(WeightError::Shape {
            name: name.into(),
            expected: expected.into(),
            actual,
        })
    }
}

/// Refuses rows that a tensor of this shape has not.
///
/// # Errors
/// [`WeightError::Rows`].
pub fn check_rows(name: &str, shape: &[usize], rows: &Range<usize>) -> Result<(), WeightError> {
    let count = shape.first().copied().unwrap_or(0);
    if rows.start <= rows.end && rows.end <= count {
        return Ok(());
    }
    Err(WeightError::Rows {
        name: name.into(),
        rows: rows.clone(),
        count,
    })
}

/// Tensors in memory by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensors(pub BTreeMap<String, Arc<Tensor>>);

impl WeightSource for Tensors {
    fn shape(&self, name: &str) -> Result<Vec<usize>, WeightError> {
        Ok(self.tensor(name)?.shape.clone())
    }

    fn tensor(&self, name: &str) -> Result<Arc<Tensor>, WeightError> {
        self.0
            .get(name)
            .cloned()
            .ok_or_else(|| WeightError::Missing {
                name: name.into(),
                hint: String::new(),
            })
    }
}
