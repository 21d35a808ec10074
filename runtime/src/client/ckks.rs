//! Sealing with the scheme: the secret key's only home.

use super::model::{ClientModel, ModelError};
use super::seal::{Sealer, Tokens};
use miette::Diagnostic;
use sotto_ckks::{Ciphertext, CkksError, Context, Encoder, SecretKey};
use std::sync::Arc;

/// Encrypts tokens and decrypts answers with a secret key.
pub struct CkksSealer {
    context: Context,
    secret: SecretKey,
    model: Arc<ClientModel>,
}

/// Why sealing or opening failed.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum SealError {
    /// The scheme refused.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Scheme(#[from] CkksError),
    /// The model's part refused.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Model(#[from] ModelError),
    /// An answer at another level or degree than the plan's.
    #[error(
        "ciphertext {index} of the answer is at level {level}, degree {degree}, where the plan's is at level {expected}, degree 1; \
         use the same plan and version of sotto on both sides"
    )]
    #[diagnostic(code(encryption::answer_at))]
    AnswerAt {
        /// Which of the answer's ciphertexts.
        index: usize,
        /// Level found.
        level: usize,
        /// Degree found.
        degree: u8,
        /// Level that the plan states.
        expected: u32,
    },
}

impl CkksSealer {
    /// A sealer for one key and model.
    pub fn new(context: Context, secret: SecretKey, model: Arc<ClientModel>) -> Self {
        Self {
            context,
            secret,
            model,
        }
    }

    /// The ciphertext of the embeddings of tokens, the first at `position` of the session, at the plan's input level.
    pub fn encrypt(&self, tokens: Tokens<'_>, position: u32) -> Result<Ciphertext, SealError> {
        let level = self.model.input_wire(tokens)?.level as usize;
        let slots = self.model.input(tokens, position)?;
        let plaintext = Encoder::new(&self.context).encode(&slots, level, 1)?;
        Ok(self.secret.encrypt(&plaintext)?)
    }

    /// The logits in an answer to tokens, which must have the shape that the plan states: as many ciphertexts, at these levels. What is
    /// encrypted in them is no reason to refuse.
    pub fn decrypt(
        &self,
        tokens: Tokens<'_>,
        answer: &[Ciphertext],
    ) -> Result<Vec<f64>, SealError> {
        self.check(tokens, answer)?;
        let encoder = Encoder::new(&self.context);
        let mut vectors = Vec::with_capacity(answer.len());
        for (ct, wire) in answer.iter().zip(self.model.outputs(tokens)) {
            let plaintext = self.secret.decrypt(ct)?;
            let slots = encoder.decode_periodic(&plaintext, wire.period())?;
            vectors.push(slots.into_iter().map(|slot| slot.re).collect());
        }
        Ok(self.model.logits(tokens, &vectors)?)
    }

    fn check(&self, tokens: Tokens<'_>, answer: &[Ciphertext]) -> Result<(), SealError> {
        self.model.check_count(tokens, answer.len())?;
        let expected = self.model.outputs(tokens);
        for (index, (ct, wire)) in answer.iter().zip(expected).enumerate() {
            if ct.level() != wire.level as usize || ct.degree() != 1 {
                return Err(SealError::AnswerAt {
                    index,
                    level: ct.level(),
                    degree: ct.degree(),
                    expected: wire.level,
                });
            }
        }
        Ok(())
    }
}

impl Sealer for CkksSealer {
    fn seal(&self, tokens: Tokens<'_>, position: u32) -> Result<Vec<u8>, String> {
        let ct = self.encrypt(tokens, position);
        let ct = ct.map_err(|cause| cause.to_string())?;
        Ok(ct.to_bytes(&self.context))
    }

    fn open(&self, tokens: Tokens<'_>, ciphertexts: &[Vec<u8>]) -> Result<Vec<f64>, String> {
        let read = |bytes: &Vec<u8>| Ciphertext::from_bytes(&self.context, bytes);
        let answer: Result<Vec<_>, _> = ciphertexts.iter().map(read).collect();
        let answer = answer.map_err(|cause| cause.to_string())?;
        self.decrypt(tokens, &answer)
            .map_err(|cause| cause.to_string())
    }

    fn vocabulary(&self) -> u32 {
        self.model.vocabulary()
    }

    fn block(&self) -> u32 {
        self.model.block()
    }
}
