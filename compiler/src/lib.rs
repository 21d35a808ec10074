//! The Sotto compiler.

pub mod approx;
