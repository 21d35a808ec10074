//! From `decoder` to `packed`: kernels, layouts, approximations and complex pairing are fixed here.
//!
//! Every operation of the decoder becomes slot operations on periodic vectors; its module says how. All affine maps (gains,
//! units, 1/√d, the maps to [-1, 1]) end in weights, masks and polynomials. What is left to placement is levels alone.
//!
//! **Units.** The residual stream has one unit for the whole model, so that layers chain; K and V have one each, so that there
//! is one state. Every other vector has the unit that its calibrated range with margin gives it, so stored values lie in
//! [-1, 1] (polynomial results that multiply something small, as 1/x does, are the exception).
//!
//! **Templates.** Consecutive layers share a template when approximations that cover the union of their ranges need no higher
//! degree anywhere than the worse of the two alone; see [`templates`].

mod attention;
mod block;
mod builder;
mod centre;
mod diagonals;
mod embed;
mod error;
mod linear;
mod model;
mod norm;
mod options;
mod ranges;
mod template;
mod templates;

pub use builder::Draft;
pub use centre::{centre, sites as centred};
pub use error::LowerError;
pub use linear::baby_steps;
pub use model::Model;
pub use options::{Choices, Geometry, Options, Way, widths};
pub use ranges::{Ranges, Span};
pub use templates::{draft, groups, lower, lower_block, lower_typical, model, typical};
