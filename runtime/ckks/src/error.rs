//! What can go wrong, with the remedy.

use miette::Diagnostic;
use sotto_params::ParamError;
use sotto_params::bootstrap::BootstrapError;
use sotto_params::poly::PolyError;
use std::path::PathBuf;

/// Result of the scheme's operations.
pub type Result<T> = std::result::Result<T, CkksError>;

/// An error of the scheme. Every variant names the thing at fault.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum CkksError {
    /// The parameter set is inconsistent or not secure.
    #[error("parameter set refused: {0}")]
    #[diagnostic(code(ckks::params))]
    Params(#[from] ParamError),
    /// The NTT has no plan for a prime.
    #[error("no number-theoretic transform of {n} points modulo {prime}")]
    #[diagnostic(code(ckks::no_transform))]
    NoTransform {
        /// Ring degree.
        n: usize,
        /// The prime.
        prime: u32,
    },
    /// A level that the parameter set, key or operation does not have.
    #[error("{op}: level {level} is out of range, the highest possible here is {highest}")]
    #[diagnostic(code(ckks::level))]
    Level {
        /// The operation.
        op: &'static str,
        /// The level asked for.
        level: usize,
        /// The highest level possible.
        highest: usize,
    },
    /// Two operands differ in level or degree.
    #[error(
        "{op}: operands at level {left_level} (degree {left_degree}) and level {right_level} (degree {right_degree}) do not match; rescale or drop one of them first"
    )]
    #[diagnostic(code(ckks::mismatch))]
    Mismatch {
        /// The operation.
        op: &'static str,
        /// Level of the left operand.
        left_level: usize,
        /// Degree of the left operand.
        left_degree: u8,
        /// Level of the right operand.
        right_level: usize,
        /// Degree of the right operand.
        right_degree: u8,
    },
    /// An operand has the wrong degree for the operation.
    #[error(
        "{op}: operand at level {level} has degree {degree}, but the operation needs degree {needed} (a product becomes degree 1 by rescale)"
    )]
    #[diagnostic(code(ckks::degree))]
    Degree {
        /// The operation.
        op: &'static str,
        /// Level of the operand.
        level: usize,
        /// Its degree.
        degree: u8,
        /// The degree needed.
        needed: u8,
    },
    /// An evaluation key that was not generated, or not up to the level of its use.
    #[error(
        "{op} at level {level}: the evaluation keys lack {key}; generate it at level {level} or above"
    )]
    #[diagnostic(code(ckks::missing_key))]
    MissingKey {
        /// The operation.
        op: &'static str,
        /// The key in words, with its Galois element and step.
        key: String,
        /// Level of the use.
        level: usize,
    },
    /// Slot vectors have the wrong length.
    #[error("{op}: {len} slots given; need a power of two up to {max}")]
    #[diagnostic(code(ckks::slots))]
    Slots {
        /// The operation.
        op: &'static str,
        /// The length given.
        len: usize,
        /// The number of slots of the ring.
        max: usize,
    },
    /// A value that is not finite or does not fit the modulus at its scale.
    #[error(
        "{op}: a value of magnitude {magnitude:e} at scale 2^{log_scale:.1} does not fit level {level} (modulus of {log_q:.0} bits)"
    )]
    #[diagnostic(code(ckks::range))]
    Range {
        /// The operation.
        op: &'static str,
        /// Largest magnitude (infinite or NaN values are reported as they are).
        magnitude: f64,
        /// log2 of the scale.
        log_scale: f64,
        /// The level.
        level: usize,
        /// log2 of the level's modulus.
        log_q: f64,
    },
    /// The diagonals given to a linear transform are not those of its split.
    #[error(
        "linear transform: {given} diagonals given do not match the {split} of the baby-step/giant-step split"
    )]
    #[diagnostic(code(ckks::diagonals))]
    Diagonals {
        /// Number given.
        given: usize,
        /// Number in the split.
        split: usize,
    },
    /// A polynomial that cannot be evaluated.
    #[error("polynomial refused: {0}")]
    #[diagnostic(code(ckks::polynomial))]
    Polynomial(#[from] PolyError),
    /// A polynomial needs more levels than are left.
    #[error(
        "polynomial: it consumes {depth} levels, but its argument is at level {level}; bootstrap first or lower the degree"
    )]
    #[diagnostic(code(ckks::too_deep))]
    TooDeep {
        /// Levels consumed.
        depth: usize,
        /// Level of the argument.
        level: usize,
    },
    /// A bootstrap that the parameter set does not allow.
    #[error("bootstrap refused: {0}")]
    #[diagnostic(code(ckks::bootstrap))]
    Bootstrap(#[from] BootstrapError),
    /// A bootstrap's operand lies below the level it starts from.
    #[error(
        "bootstrap: the operand is at level {level}, but slots-to-coefficients starts at level {needed}; bootstrap before that level is used up"
    )]
    #[diagnostic(code(ckks::below_input))]
    BelowInput {
        /// Level of the operand.
        level: usize,
        /// Level needed.
        needed: usize,
    },
    /// Objects of different parameter sets.
    #[error("{what} belongs to another parameter set (its digest differs from that of `{set}`)")]
    #[diagnostic(code(ckks::foreign_params))]
    ForeignParams {
        /// What was given.
        what: &'static str,
        /// Name of the parameter set in use.
        set: String,
    },
    /// Objects of different secret keys.
    #[error("{op}: {what} belongs to another secret key")]
    #[diagnostic(code(ckks::foreign_key))]
    ForeignKey {
        /// The operation.
        op: &'static str,
        /// What was given.
        what: &'static str,
    },
    /// Bytes that are not what they should be.
    #[error("{what}: {why}")]
    #[diagnostic(code(ckks::corrupt))]
    Corrupt {
        /// What was being read.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The parameter set cannot bootstrap.
    #[error("parameter set `{0}` has no ephemeral secret, so it cannot bootstrap")]
    #[diagnostic(code(ckks::no_ephemeral))]
    NoEphemeral(String),
    /// Reading or writing a file failed.
    #[error("{path}: {source}", path = path.display())]
    #[diagnostic(code(ckks::io))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The device that computes failed.
    #[error("{device}: {why}")]
    #[diagnostic(code(ckks::device))]
    Device {
        /// Which device.
        device: String,
        /// What went wrong, and what to do.
        why: String,
    },
    /// The operating system gave no entropy.
    #[error("the operating system gave no entropy: {0}")]
    #[diagnostic(code(ckks::entropy))]
    Entropy(String),
}
