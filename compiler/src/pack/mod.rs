//! From recipes to numbers: packing a checkpoint's tensors, and the ranges that the packed program's values really reach.

mod assume;
mod checkpoint;
mod client;
mod ranges;

pub use assume::assume;
pub use checkpoint::CheckpointData;
pub use client::{input, output, returns};
pub use ranges::{RangeError, recalibrate, widen};

/// Name of the template that looks the embedding up where the server holds the table.
pub const EMBED: &str = "embed";
/// Name of the last template.
pub const FINAL: &str = "final";
