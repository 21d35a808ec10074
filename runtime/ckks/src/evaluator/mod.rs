//! Operations on ciphertexts.
//!
//! | operation | operands | result |
//! |---|---|---|
//! | add, sub, add_plain, sub_plain | same level and degree | the same |
//! | mul, square, mul_plain, mul_const | degree 1, same level | degree 2, same level |
//! | rescale | degree 2 at level ℓ | degree 1 at ℓ - 1 |
//! | drop_to_level | any degree | same degree, lower level, canonical scale |
//! | rotate, conjugate, rotate_many | any degree | the same |
//! | negate, mul_by_i, add_const | any degree | the same |

mod arithmetic;
mod diagonals;
mod galois;
mod product;
mod scale;

use crate::ciphertext::Ciphertext;
use crate::context::Context;
use crate::error::{CkksError, Result};
use crate::keys::EvaluationKeys;

/// Computes on ciphertexts of one secret key with its evaluation keys. Shareable between threads.
#[derive(Clone, Copy, Debug)]
pub struct Evaluator<'a> {
    ctx: &'a Context,
    keys: &'a EvaluationKeys,
}

impl<'a> Evaluator<'a> {
    /// An evaluator.
    pub fn new(ctx: &'a Context, keys: &'a EvaluationKeys) -> Self {
        Self { ctx, keys }
    }

    /// The context.
    pub fn context(&self) -> &'a Context {
        self.ctx
    }

    /// The evaluation keys.
    pub fn keys(&self) -> &'a EvaluationKeys {
        self.keys
    }

    pub(crate) fn check_key(&self, op: &'static str, ct: &Ciphertext) -> Result<()> {
        if ct.key == self.keys.id() {
            return Ok(());
        }
        Err(CkksError::ForeignKey {
            op,
            what: "the ciphertext",
        })
    }

    /// Whether two ciphertexts may be combined at the same level and degree.
    pub(crate) fn check_pair(
        &self,
        op: &'static str,
        a: &Ciphertext,
        b: &Ciphertext,
    ) -> Result<()> {
        if a.key != b.key {
            return Err(CkksError::ForeignKey {
                op,
                what: "one of the ciphertexts",
            });
        }
        a.check_like(op, b.level, b.degree)
    }
}
