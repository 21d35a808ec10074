//! The Sotto compiler.
//!
//! [`frontend`] reads a checkpoint, or an ONNX graph ([`frontend::onnx`]), to the `decoder` stage, of which [`mod@reference`] computes the truth in float64;
//! [`lower`] takes that to a packed program as [`search`] chooses, with the nonlinearities that [`approx`] fits, and [`pack`] makes the program's data
//! and records its ranges; [`place`] takes a packed program to a leveled one, priced by [`cost`]; [`emit`] turns that into the
//! plan's instructions, keys and estimate; [`level`] drives both. [`driver`] is the list of passes.
//! [`view`] and [`compare`] look at what came out, of any stage; [`report`] is a page of it.

pub mod approx;
pub mod commands;
pub mod compare;
pub mod cost;
pub mod driver;
pub mod emit;
pub mod frontend;
pub mod input;
pub mod inspect;
pub mod level;
pub mod lower;
pub mod pack;
pub mod place;
pub mod reference;
pub mod report;
pub mod search;
pub mod view;
