//! The Sotto compiler.
//!
//! [`approx`] fits the nonlinearities; [`place`] takes a packed program to a leveled one, priced by [`cost`]; [`emit`] turns that into the
//! plan's instructions, keys and estimate; [`level`] drives both.

pub mod approx;
pub mod cost;
pub mod emit;
pub mod level;
pub mod place;
