//! Text to token ids, by the checkpoint's `tokenizer.json`.

use super::Checkpoint;
use miette::Diagnostic;
use std::path::PathBuf;

/// A checkpoint's tokenizer and its first token.
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
    bos: Option<u32>,
}

/// Why text was not tokenized.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum TokenizerError {
    /// There is none.
    #[error(
        "{path} is missing: text needs the checkpoint's tokenizer.json, token ids (safetensors with input_ids) do not; add the file"
    )]
    #[diagnostic(code(tokenizer::missing))]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The tokenizer does not load.
    #[error(
        "{path}: the tokenizer does not load; text needs the checkpoint's tokenizer.json, token ids do not"
    )]
    #[diagnostic(code(tokenizer::load))]
    Load {
        /// The file.
        path: PathBuf,
        /// Why.
        source: tokenizers::Error,
    },
    /// The tokenizer refuses a text or ids.
    #[error("{path}: the tokenizer failed")]
    #[diagnostic(code(tokenizer::run))]
    Run {
        /// The file.
        path: PathBuf,
        /// Why.
        source: tokenizers::Error,
    },
}

impl Tokenizer {
    /// Loads the tokenizer beside `checkpoint`'s weights.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self, TokenizerError> {
        let path = checkpoint.dir().join("tokenizer.json");
        if !path.exists() {
            return Err(TokenizerError::Missing { path });
        }
        let inner =
            tokenizers::Tokenizer::from_file(&path).map_err(|source| TokenizerError::Load {
                path: path.clone(),
                source,
            })?;
        Ok(Self {
            path,
            inner,
            bos: checkpoint.facts().bos,
        })
    }

    /// The ids of `text`, the model's BOS token before them if it has one.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        // Without the tokenizer's own special tokens: some checkpoints' tokenizers add BOS, some do not.
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|source| self.run(source))?;
        Ok(self
            .bos
            .into_iter()
            .chain(encoding.get_ids().iter().copied())
            .collect())
    }

    fn run(&self, source: tokenizers::Error) -> TokenizerError {
        TokenizerError::Run {
            path: self.path.clone(),
            source,
        }
    }
}
