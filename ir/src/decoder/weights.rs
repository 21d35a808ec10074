//! Where the interpreter finds the tensors that the stage names.

use std::collections::BTreeMap;

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
}

/// Why a tensor could not be had.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// There is none of that name.
    #[error("the checkpoint has no tensor `{name}`{hint}")]
    Missing {
        /// The name asked for.
        name: String,
        /// What the source knows about why, and the remedy; starts with a separator or is empty.
        hint: String,
    },
    /// It has another shape than the model needs.
    #[error("tensor `{name}` has shape {actual:?}, the model's configuration needs {expected:?}")]
    Shape {
        /// The name asked for.
        name: String,
        /// What the model needs.
        expected: Vec<usize>,
        /// What the checkpoint holds.
        actual: Vec<usize>,
    },
    /// It is there and could not be read.
    #[error("tensor `{name}` could not be read")]
    Read {
        /// The name asked for.
        name: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Resolves tensor names.
pub trait WeightSource: Sync {
    /// The tensor called `name`, no `{i}` in it.
    fn tensor(&self, name: &str) -> Result<&Tensor, WeightError>;

    /// The tensor called `name` if it has the shape `expected`.
    fn shaped(&self, name: &str, expected: &[usize]) -> Result<&Tensor, WeightError> {
        let tensor = self.tensor(name)?;
        if tensor.shape == expected {
            return Ok(tensor);
        }
        Err(WeightError::Shape {
            name: name.into(),
            expected: expected.into(),
            actual: tensor.shape.clone(),
        })
    }
}

/// Tensors in memory by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensors(pub BTreeMap<String, Tensor>);

impl WeightSource for Tensors {
    fn tensor(&self, name: &str) -> Result<&Tensor, WeightError> {
        self.0.get(name).ok_or_else(|| WeightError::Missing {
            name: name.into(),
            hint: String::new(),
        })
    }
}
