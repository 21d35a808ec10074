//! Executes Sotto plans: the server that computes on ciphertexts, and the client that alone holds the secret key.
//!
//! [`server`] and [`client`] are different modules with different types and meet only in [`proto`] (what they say to each
//! other) and [`keys`] (how evaluation keys lie on disk). [`trial`] runs a plan without either, to check it.

pub mod cipher;
pub mod client;
pub mod commands;
mod follow;
pub mod keys;
pub mod plan;
pub mod process;
pub mod proto;
pub mod server;
pub mod trace;
pub mod trial;

pub use follow::StepProgress;
