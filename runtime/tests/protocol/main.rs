//! Client and server over a real connection, with an engine that computes on plain numbers instead of ciphertexts: the
//! protocol's own promises, apart from any cryptography.

mod generation;
mod sessions;
mod setup;
