//! Turning an embedded token into what is sent, and what comes back into logits.

/// Seals tokens and opens answers; the secret key lives behind it.
pub trait Sealer: Sync {
    /// Encrypts the embedding of a token; returns the bytes to send.
    fn seal(&self, token: u32) -> Result<Vec<u8>, String>;
    /// Decrypts an answer to the logits of the whole vocabulary.
    fn open(&self, ciphertexts: &[Vec<u8>]) -> Result<Vec<f64>, String>;
    /// Size of the vocabulary.
    fn vocabulary(&self) -> u32;
}
