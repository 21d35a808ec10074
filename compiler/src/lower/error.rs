//! Why a decoder could not be lowered.

use crate::approx::FitError;

/// Why a decoder could not be lowered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LowerError {
    /// A pin at a site that the model does not have.
    #[error(
        "there is no site `{site}` to pin; `sottoc explain PLAN` lists a plan's sites, with {{i}} for the layer"
    )]
    NoSite {
        /// The site asked for.
        site: String,
    },
    /// A pin of a form that its site's operation does not have.
    #[error(
        "`{site}` cannot be pinned to that: products take tiled, spread, gather, inputs, real, baby, once, copies, alone or with; norms exact or \
         additions; attention inside, outside or squarings"
    )]
    NoForm {
        /// The site.
        site: String,
    },
    /// Pins that contradict each other or what the model's sizes allow.
    #[error("no program of this model has everything that is pinned; pin less")]
    Pinned,
    /// A vector does not fit one ciphertext.
    #[error(
        "{what}: {features} features do not fit the {slots} slots of one ciphertext; vectors of several ciphertexts are not supported yet"
    )]
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
    BlockLength {
        /// Tokens asked for.
        block: u32,
    },
    /// A block that is too long.
    #[error(
        "--block {block}: at most {most} tokens of this model fit side by side, each with room for every other's key; ask for fewer"
    )]
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
    NoRoom {
        /// Tokens asked for.
        block: u32,
    },
    /// An option out of range.
    #[error("{option} {value} is not in the range {range}")]
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
    Range {
        /// Site.
        site: String,
        /// Part of it.
        part: &'static str,
    },
    /// An approximation missed its error target.
    #[error("at `{site}`: {source}")]
    Fit {
        /// Site.
        site: String,
        /// Why.
        source: FitError,
    },
    /// The decoder uses operations in an order that this lowering does not know.
    #[error("at `{site}`: {what} is not something this compiler can lower")]
    Unsupported {
        /// Site.
        site: String,
        /// What was found.
        what: String,
    },
}
