//! What can be wrong with an ONNX file.

use super::super::FrontendError;
use miette::Diagnostic;
use std::fmt;
use std::path::PathBuf;

/// Why an ONNX file was not imported: what, where, and what to do about it.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum OnnxError {
    /// The file system refused.
    #[error("{path}: {source}")]
    #[diagnostic(code(onnx::io))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No ONNX file, or a damaged one.
    #[error("{path}: not an ONNX file, or a damaged one: {cause}; export it again")]
    #[diagnostic(code(onnx::parse))]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The model as a whole is not what is read here.
    #[error("{path}: {found}; {remedy}")]
    #[diagnostic(code(onnx::model))]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// A stored tensor does not read.
    #[error("{path}: initializer `{name}` {cause}; {remedy}")]
    #[diagnostic(code(onnx::initializer))]
    Initializer {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong.
        cause: String,
        /// What to do.
        remedy: &'static str,
    },
    /// An operation is none of a decoder's, or not where it should be.
    #[error("{path}: {place}: {found}; expected here: {expected}")]
    #[diagnostic(code(onnx::node))]
    Node {
        /// The file.
        path: PathBuf,
        /// The operation.
        place: Box<Place>,
        /// What is wrong.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// The checkpoint could not be written, or does not read back.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Checkpoint(#[from] FrontendError),
}

/// Where in the graph an operation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The node's name; may be empty.
    pub name: String,
    /// Its operation, with the domain if that is not ONNX's own.
    pub op: String,
    /// Its number, from 1.
    pub number: usize,
    /// How many nodes there are.
    pub nodes: usize,
    /// Its first output.
    pub output: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            op,
            number,
            nodes,
            output,
        } = self;
        write!(
            f,
            "node `{name}` ({op}, {number} of {nodes}, output `{output}`)"
        )
    }
}

/// A refusal before it knows the file.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What is wrong.
    pub(super) found: String,
    /// What would be right.
    pub(super) expected: String,
    /// The node to name; none: the one at hand.
    pub(super) blame: Option<usize>,
    /// What went wrong instead, where it is no matter of this graph's operations.
    pub(super) error: Option<Box<OnnxError>>,
}

impl From<OnnxError> for Refusal {
    fn from(error: OnnxError) -> Self {
        Self {
            error: Some(error.into()),
            ..Self::new("", "")
        }
    }
}

impl Refusal {
    pub(super) fn new(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            found: found.into(),
            expected: expected.into(),
            blame: None,
            error: None,
        }
    }

    pub(super) fn blaming(self, node: usize) -> Self {
        Self {
            blame: Some(node),
            ..self
        }
    }
}

/// What evaluating a part of the graph gives.
pub(super) type Step<T> = Result<T, Refusal>;
