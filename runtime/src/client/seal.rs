//! Turning embedded tokens into what is sent, and what comes back into logits.

/// What one round trip takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens<'t> {
    /// One token, by the plan's decode program.
    One(u32),
    /// Some tokens of the prompt, by its prefill program: at least one, at most a block.
    Block(&'t [u32]),
}

impl Tokens<'_> {
    /// How many.
    pub fn count(&self) -> u32 {
        match self {
            Tokens::One(_) => 1,
            Tokens::Block(tokens) => tokens.len() as u32,
        }
    }

    /// What the protocol calls it: tokens of a block, 0 for one by itself.
    pub fn block(&self) -> u32 {
        match self {
            Tokens::One(_) => 0,
            Tokens::Block(tokens) => tokens.len() as u32,
        }
    }
}

/// Seals tokens and opens answers; the secret key lives behind it.
pub trait Sealer: Sync {
    /// Encrypts the embeddings of tokens, the first at `position` of the session; returns the bytes to send.
    fn seal(&self, tokens: Tokens<'_>, position: u32) -> Result<Vec<u8>, String>;
    /// Decrypts the answer to tokens to the logits of the whole vocabulary, after the last of them.
    fn open(&self, tokens: Tokens<'_>, ciphertexts: &[Vec<u8>]) -> Result<Vec<f64>, String>;
    /// Size of the vocabulary.
    fn vocabulary(&self) -> u32;
    /// Most tokens of a block; 1 where a prompt is taken token by token.
    fn block(&self) -> u32;
}
