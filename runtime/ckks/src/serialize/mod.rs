//! Bytes and files: versioned, checked, bound to parameters and key.
//!
//! Every object is one frame: magic, format version, object kind, digest of the parameter set, name of the secret key, body, and the
//! BLAKE3 checksum of all that. Residues are 32-bit little-endian words. Lengths follow from the parameter set, so none is read
//! from the input and believed. Damage (truncation, flipped bits, trailing bytes), a newer version, another object or another parameter
//! set each give an error of their own.

mod frame;
mod key_file;
mod objects;
mod secret_file;

pub use key_file::{EvaluationKeyFile, IndexEntry};
