//! Why a packed program could not be placed.

use miette::Diagnostic;
use thiserror::Error;

/// Why a packed program could not be placed.
#[derive(Clone, Debug, PartialEq, Error, Diagnostic)]
pub enum PlaceError {
    /// An operand is defined nowhere before its use.
    #[error(
        "template `{template}`, {site}: operand v{value} is neither a parameter nor an earlier result"
    )]
    #[diagnostic(code(place::undefined))]
    Undefined {
        /// Template name.
        template: String,
        /// Site of the use.
        site: String,
        /// The value's number.
        value: u32,
    },
    /// A packed program already carries an operation that only placement may insert.
    #[error(
        "template `{template}`, {site}: `{op}` belongs to the leveled stage; a packed program must not contain it"
    )]
    #[diagnostic(code(place::leveled))]
    Leveled {
        /// Template name.
        template: String,
        /// Site of the node.
        site: String,
        /// The operation.
        op: &'static str,
    },
    /// An operation names a table entry or a template that does not exist, or with other operands than it takes.
    #[error("template `{template}`, {site}: {what}")]
    #[diagnostic(code(place::malformed))]
    Malformed {
        /// Template name.
        template: String,
        /// Site of the node.
        site: String,
        /// What is wrong, in words.
        what: String,
    },
    /// A state is read before the current token is appended, so its storage level cannot be decided by its readers.
    #[error(
        "template `{template}`, {site}: state `{state}` is read before its append, or never appended in this template; append first"
    )]
    #[diagnostic(code(place::state_order))]
    StateOrder {
        /// Template name.
        template: String,
        /// Site of the reader.
        site: String,
        /// State name.
        state: String,
    },
    /// No assignment of levels and bootstraps is legal.
    #[error(
        "template `{template}`: no legal placement, the placer got stuck at {site}: between two values that may be refreshed \
         (range at most 1, period within an available bootstrap) there are more levels than the {top} a refreshed value has; \
         scale the ranges there into [-1, 1] or lower the degree of the polynomial"
    )]
    #[diagnostic(code(place::no_placement))]
    NoPlacement {
        /// Template name.
        template: String,
        /// Earliest node that the search could not serve; the first one of a comparator, which does not tell.
        site: String,
        /// Top application level.
        top: u32,
    },
    /// Consecutive steps cannot be joined.
    #[error(
        "step {step} (template `{template}`): no level at which it can hand its results to the next run; at least one value on \
         the way through the template must be refreshable (range at most 1)"
    )]
    #[diagnostic(code(place::no_boundary))]
    NoBoundary {
        /// Index of the step.
        step: usize,
        /// Template name.
        template: String,
    },
    /// The program has no steps, or consecutive ones do not fit.
    #[error("program `{program}`: {what}")]
    #[diagnostic(code(place::steps))]
    Steps {
        /// Program name.
        program: String,
        /// What is wrong.
        what: String,
    },
}
