//! What the compiler and the runtime both speak.
//!
//! The stages a decoder passes through on its way to a plan:
//!
//! | stage | module | what has been decided |
//! |---|---|---|
//! | `decoder` | [`decoder`] | the model, exactly |
//! | `packed` | [`slot`] with [`slot::Packed`] | kernels, layouts, approximations, complex pairing |
//! | `leveled` | [`slot`] with [`slot::Leveled`] | where to refresh, at which level everything runs |
//! | `plan` | [`plan`] | everything: instruction stream, buffers, keys, packed weights |
//!
//! [`cost`] is what measured prices look like: the runtime writes tables, the compiler reads them. [`exec`] holds the [`exec::Backend`] trait and the one executor that drives every backend.
//! [`golden`] reads and writes what the model computes in float64, [`fidelity`] says how close other logits are; [`text`] is the text form's common grammar.
//! [`trace`] is what a run left of its times, and how that stands against the plan.
//! Nothing here knows cryptography, and nothing here searches.

pub mod cost;
pub mod decoder;
mod digest;
pub mod exec;
pub mod fidelity;
pub mod golden;
pub mod plan;
pub mod slot;
#[cfg(test)]
mod testing;
pub mod text;
pub mod trace;
mod violation;
mod whole;

pub use digest::{Digest, DigestError};
/// Parameter sets: what the level table, the keys and the bootstraps of every stage refer to.
pub use sotto_params as params;
pub use violation::{Violation, Violations};
pub use whole::write_whole;
