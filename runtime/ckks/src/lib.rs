//! RNS-CKKS on 32-bit words.

pub mod bootstrap;
pub mod ciphertext;
pub mod context;
pub mod encoding;
pub mod error;
pub mod evaluator;
pub mod keys;
mod keyswitch;
pub mod linear;
pub mod poly;
mod ring;
mod sampling;
pub mod serialize;
mod wide;

pub use bootstrap::Bootstrapper;
pub use ciphertext::Ciphertext;
pub use context::Context;
pub use encoding::{Encoder, Plaintext};
pub use error::{CkksError, Result};
pub use evaluator::Evaluator;
pub use keys::{
    EvaluationKeys, KeyGenerator, KeyId, KeyKind, KeyRequest, PublicKey, SecretKey, SwitchingKey,
};
pub use linear::LinearTransform;
pub use num_complex::Complex64;
pub use poly::ChebyshevSeries;
pub use serialize::{EvaluationKeyFile, IndexEntry};
