//! Sealing with the scheme: the secret key's only home.

use super::model::{ClientModel, ModelError};
use super::seal::Sealer;
use sotto_ckks::{Ciphertext, CkksError, Context, Encoder, SecretKey};
use std::sync::Arc;

/// Encrypts tokens and decrypts answers with a secret key.
pub struct CkksSealer {
    context: Context,
    secret: SecretKey,
    model: Arc<ClientModel>,
}

/// Why sealing or opening failed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The scheme refused.
    #[error(transparent)]
    Scheme(#[from] CkksError),
    /// The model's part refused.
    #[error(transparent)]
    Model(#[from] ModelError),
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

    /// The ciphertext of a token's embedding, at the plan's input level.
    pub fn encrypt(&self, token: u32) -> Result<Ciphertext, SealError> {
        let level = self.model.input_level() as usize;
        let slots = self.model.input(token)?;
        let plaintext = Encoder::new(&self.context).encode(&slots, level, 1)?;
        Ok(self.secret.encrypt(&plaintext)?)
    }

    /// The logits in an answer.
    pub fn decrypt(&self, answer: &[Ciphertext]) -> Result<Vec<f64>, SealError> {
        let encoder = Encoder::new(&self.context);
        let mut vectors = Vec::with_capacity(answer.len());
        for (ct, width) in answer.iter().zip(self.model.output_widths()) {
            let plaintext = self.secret.decrypt(ct)?;
            let slots = encoder.decode_periodic(&plaintext, width)?;
            vectors.push(slots.into_iter().map(|slot| slot.re).collect());
        }
        Ok(self.model.logits(&vectors)?)
    }
}

impl Sealer for CkksSealer {
    fn seal(&self, token: u32) -> Result<Vec<u8>, String> {
        let ct = self.encrypt(token).map_err(|cause| cause.to_string())?;
        Ok(ct.to_bytes(&self.context))
    }

    fn open(&self, ciphertexts: &[Vec<u8>]) -> Result<Vec<f64>, String> {
        let read = |bytes: &Vec<u8>| Ciphertext::from_bytes(&self.context, bytes);
        let answer: Result<Vec<_>, _> = ciphertexts.iter().map(read).collect();
        let answer = answer.map_err(|cause| cause.to_string())?;
        self.decrypt(&answer).map_err(|cause| cause.to_string())
    }

    fn vocabulary(&self) -> u32 {
        self.model.vocabulary()
    }
}
