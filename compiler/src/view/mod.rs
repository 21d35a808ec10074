//! Programs to look at: what `inspect` prints and `compare` holds against each other.
//!
//! A packed program, a leveled one and a plan's program are one type here, [`SlotView`]: nodes over values with optional levels. A plan's
//! buffers become values again, so that its instructions read as the nodes they were made from. [`Given`] is what a path may name.

mod given;
mod near;
mod program;

pub use given::{Given, GivenError, read};
pub use near::near;
pub use program::{NodeView, SlotView, TemplateView, ValueView};
