//! The Sotto compiler.
//!
//! [`approx`] fits the nonlinearities; [`place`] takes a packed program to a leveled one, priced by [`cost`].

pub mod approx;
pub mod cost;
pub mod place;
