//! CKKS parameter sets as data, and pure functions over them.
//!
//! A [`ParamSet`] states everything two programs must agree on before they can share a ciphertext: the ring, the primes, which
//! primes make up each *level* and at which scale values live there, how key switching splits the modulus into digits, and the
//! secrets with the moduli their keys live under. Nothing here encrypts anything; the scheme and the compiler both stand on it.
//!
//! ```
//! let set = sotto_params::ParamSet::secure_128();
//! set.validate().unwrap();
//! assert!(set.log_qp() <= 1747.0);
//! assert_eq!(set.security().bits, 128);
//! ```

mod arith;
pub mod bootstrap;
mod chain;
pub mod galois;
pub mod poly;
mod security;
mod set;
mod validate;

/// Most bytes of freed polynomials that the scheme keeps for reuse: part of the memory that a plan predicts.
pub const POOL_BYTES: usize = 768 << 20;

pub use arith::is_prime;
pub use security::{SecretSecurity, SecurityReport, TERNARY_CLASSICAL_128};
pub use set::{Digest, Ephemeral, Level, LevelKind, ParamSet, SecretKind};
pub use validate::ParamError;
