//! Keys: the secret, the public key, and the switching keys an evaluator needs.

mod evaluation;
mod generate;
mod public;
mod secret;
mod switching;

pub use evaluation::{EvaluationKeys, KeyRequest};
pub use generate::KeyGenerator;
pub use public::PublicKey;
pub(crate) use public::key_primes as public_key_primes;
pub use secret::SecretKey;
pub(crate) use switching::KeyShape;
pub use switching::{KeyDigit, KeyKind, SwitchingKey};

use std::fmt;

/// Public, random name of a secret key, carried by everything made with it, so that mixing keys is an error and not noise.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub(crate) [u8; 16]);

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
