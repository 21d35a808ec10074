//! Executing plans: the [`Backend`] trait, the one executor, and the cleartext backend.

mod backend;

pub use backend::{Backend, Diagonals};
