//! Why a plan cannot be written or read.

use super::PLAN_VERSION;
use crate::Digest;
use miette::Diagnostic;
use std::path::{Path, PathBuf};

/// Why a plan cannot be written or read; every case names the file and what was expected.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum PlanError {
    /// The operating system refused.
    #[error("{doing} {path}: {source}")]
    #[diagnostic(code(plan::io))]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// There is no plan.
    #[error(
        "{dir} is no plan: it holds no plan.ron; make one with `sottoc compile MODEL -o {dir}`"
    )]
    #[diagnostic(code(plan::no_plan))]
    NoPlan {
        /// The directory.
        dir: PathBuf,
    },
    /// The plan has no weights to compute with.
    #[error(
        "{dir} was compiled without weights: it can be read, priced and given keys, not run; compile from a checkpoint, or with \
         `--weights synthetic:SEED`"
    )]
    #[diagnostic(code(plan::no_weights))]
    NoWeights {
        /// The directory.
        dir: PathBuf,
    },
    /// `plan.ron` does not begin like one.
    #[error("{path} does not begin with `// sotto plan VERSION DIGEST`; it is damaged or no plan")]
    #[diagnostic(code(plan::header))]
    Header {
        /// The file.
        path: PathBuf,
    },
    /// Written by another version.
    #[error(
        "{path} has plan format {found}, this program reads {PLAN_VERSION}; compile the model again with the sottoc of this version"
    )]
    #[diagnostic(code(plan::version))]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Content and digest disagree.
    #[error(
        "{path} is damaged: its content has digest {found}, expected is {expected}; compile the model again"
    )]
    #[diagnostic(code(plan::digest))]
    Digest {
        /// The file.
        path: PathBuf,
        /// Stated.
        expected: Digest,
        /// Computed.
        found: Digest,
    },
    /// `plan.ron` is intact but not a plan of this version.
    #[error("{path}:{place}: {message}")]
    #[diagnostic(code(plan::syntax))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line and column.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A file of the plan is not there.
    #[error("{path} is missing; the plan expects {expected} bytes there with digest {digest}")]
    #[diagnostic(code(plan::missing))]
    Missing {
        /// The file.
        path: PathBuf,
        /// Bytes expected.
        expected: u64,
        /// Digest expected.
        digest: Digest,
    },
    /// A file has the wrong length.
    #[error(
        "{path} has {found} bytes, the plan expects {expected}; it is truncated or belongs to another plan"
    )]
    #[diagnostic(code(plan::size))]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes expected.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// A path leads out of the plan directory.
    #[error("the plan names the file `{path}`, which is not inside server/ or client/")]
    #[diagnostic(code(plan::path))]
    Path {
        /// The path.
        path: String,
    },
    /// The target exists and is something else.
    #[error("{dir} exists and is no plan; choose another directory or remove it")]
    #[diagnostic(code(plan::occupied))]
    Occupied {
        /// The directory.
        dir: PathBuf,
    },
    /// A number to be packed is infinite or not a number.
    #[error("`{name}` of layer {layer} holds {value} at entry {entry}; weights must be finite")]
    #[diagnostic(code(plan::not_finite))]
    NotFinite {
        /// Declared name.
        name: String,
        /// Layer.
        layer: u32,
        /// The number.
        value: f64,
        /// Where.
        entry: usize,
    },
    /// The compiler's source has no such data.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] crate::slot::DataError),
    /// A plan cannot be written as text.
    #[error("writing plan.ron: {0}")]
    #[diagnostic(code(plan::text))]
    Text(String),
}

impl PlanError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| PlanError::Io {
            doing,
            path,
            source,
        }
    }
}
