//! Why a decoder could not be lowered.

use crate::approx::FitError;
use miette::Diagnostic;

/// Why a decoder could not be lowered.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Diagnostic)]
pub enum LowerError {
    /// A pin at a site that the model does not have.
    #[error("there is no site `{site}` to pin; this model's are {}", sites.join(", "))]
    #[diagnostic(code(lower::no_site))]
    NoSite {
        /// The site asked for.
        site: String,
        /// Those of which something can be pinned.
        sites: Vec<String>,
    },
    /// A pin of a form that its site's operation does not have.
    #[error(
        "`{site}` cannot be pinned to that: products take tiled, spread, gather, inputs, real, baby, once, copies, alone or with; norms exact or \
         additions; activations about-zero or window; attention inside, outside, diagonals, stored-once, stored-copies or squarings"
    )]
    #[diagnostic(code(lower::no_form))]
    NoForm {
        /// The site.
        site: String,
    },
    /// Pins that contradict each other or what the model's sizes allow.
    #[error("no program of this model has everything that is pinned ({}); pin less", pins.join(", "))]
    #[diagnostic(code(lower::pinned))]
    Pinned {
        /// The pins.
        pins: Vec<String>,
    },
    /// A vector does not fit one ciphertext.
    #[error(
        "{what}: {features} features do not fit the {slots} slots of one ciphertext; vectors of several ciphertexts are not supported yet"
    )]
    #[diagnostic(code(lower::too_wide))]
    TooWide {
        /// Which vector.
        what: &'static str,
        /// Its features.
        features: usize,
        /// Slots of the ring.
        slots: u32,
    },
    /// A block of no power of two tokens.
    #[error("--block {block}: give a power of two; 1 takes prompts token by token")]
    #[diagnostic(code(lower::block_length))]
    BlockLength {
        /// Tokens asked for.
        block: u32,
    },
    /// A block that is too long.
    #[error(
        "--block {block}: at most {most} tokens of this model fit side by side, each with room for every other's key; ask for fewer"
    )]
    #[diagnostic(code(lower::block))]
    Block {
        /// Tokens asked for.
        block: u32,
        /// Most tokens.
        most: u32,
    },
    /// A stage file whose cache has no room for blocks.
    #[error(
        "--block {block}: the cache of the stage file has no room for blocks of {block} tokens; begin with the decoder stage, or leave out --block"
    )]
    #[diagnostic(code(lower::no_room))]
    NoRoom {
        /// Tokens asked for.
        block: u32,
    },
    /// An option out of range.
    #[error("{option} {value} is not in the range {range}")]
    #[diagnostic(code(lower::option))]
    Option {
        /// Which.
        option: &'static str,
        /// Given.
        value: f64,
        /// Allowed.
        range: &'static str,
    },
    /// Calibration never saw a site.
    #[error(
        "no calibrated range for `{part}` of `{site}`: calibrate on at least two different tokens of this model"
    )]
    #[diagnostic(code(lower::range))]
    Range {
        /// Site.
        site: String,
        /// Part of it.
        part: &'static str,
    },
    /// An approximation missed its error target.
    #[error("at `{site}`: {source}")]
    #[diagnostic(code(lower::fit))]
    Fit {
        /// Site.
        site: String,
        /// Why.
        source: FitError,
    },
    /// The decoder uses operations in an order that this lowering does not know.
    #[error("at `{site}`: {what} is not something this compiler can lower")]
    #[diagnostic(code(lower::unsupported))]
    Unsupported {
        /// Site.
        site: String,
        /// What was found.
        what: String,
    },
}
