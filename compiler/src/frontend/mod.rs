//! From a checkpoint directory in the Hugging Face layout to the `decoder` stage.
//!
//! | file | holds |
//! |---|---|
//! | `config.json` | the model's sizes and constants: [`ModelFacts`] |
//! | `model.safetensors`, or `model.safetensors.index.json` and its shards | the tensors |
//! | `tokenizer.json` | the tokenizer, needed for text only: [`Tokenizer`] |
//!
//! [`Checkpoint::open`] reads the configuration and every file's header and checks that each tensor that the model needs is
//! there, in a readable format and of the right shape, so that whatever is wrong is said before any work is done. Tensor
//! data are read when asked for, and kept up to a limit: a model need not fit in memory.

mod config;
mod error;
mod gpt2;
mod llama;
pub mod onnx;
mod preset;
mod store;
mod synthetic;
mod template;
mod tokenizer;

pub use error::FrontendError;
pub use preset::{Preset, Profile, SiteProfile};
pub use synthetic::Synthetic;
pub use tokenizer::{Tokenizer, TokenizerError};

use sotto_ir::Digest;
use sotto_ir::decoder::{Architecture, Decoder, ModelFacts, Tensor, WeightError, WeightSource};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use store::{Store, View};

/// An opened checkpoint: its facts and its tensors by name.
pub struct Checkpoint {
    dir: PathBuf,
    facts: ModelFacts,
    /// `config.json` as it stands in the file.
    config: Vec<u8>,
    store: Store,
    digest: OnceLock<Digest>,
}

impl Checkpoint {
    /// Opens the checkpoint in `dir`.
    ///
    /// # Errors
    /// Whatever is missing, unsupported, truncated or misshapen, with the file, the tensor and the remedy.
    pub fn open(dir: &Path) -> Result<Self, FrontendError> {
        let (facts, config) = config::read(&dir.join("config.json"))?;
        let mut store = Store::open(dir)?;
        if facts.architecture == Architecture::Gpt2 {
            store.imply(gpt2::PREFIX);
            store.view(views(&facts));
        }
        let checkpoint = Self {
            dir: dir.into(),
            facts,
            config,
            store,
            digest: OnceLock::new(),
        };
        let stage = checkpoint.stage(Digest([0; 32]));
        stage.verify().map_err(|source| FrontendError::Facts {
            path: dir.join("config.json"),
            source,
        })?;
        for (name, shape) in stage.tensors() {
            checkpoint
                .store
                .check(&name, &shape, || remedy(&checkpoint.facts, &name))?;
        }
        Ok(checkpoint)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The model's sizes and constants.
    pub fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    /// BLAKE3 over the configuration and every tensor the model reads (name, format, shape, bytes; sorted by name): the same
    /// for any sharding of the same content.
    pub fn digest(&self) -> Result<Digest, FrontendError> {
        if let Some(digest) = self.digest.get() {
            return Ok(*digest);
        }
        let digest = self.compute_digest()?;
        Ok(*self.digest.get_or_init(|| digest))
    }

    fn compute_digest(&self) -> Result<Digest, FrontendError> {
        let tensors = self.stage(Digest([0; 32])).tensors();
        let origins = tensors.iter().map(|(name, _)| self.store.origin(name));
        let mut names: Vec<&str> = origins.collect();
        names.sort();
        names.dedup();
        let mut hash = blake3::Hasher::new_derive_key("sotto checkpoint 1");
        let part = |hash: &mut blake3::Hasher, bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(&mut hash, &self.config);
        for name in names {
            part(&mut hash, name.as_bytes());
            let raw = self.store.raw(name)?;
            part(&mut hash, raw.description.as_bytes());
            hash.update(&(raw.len() as u64).to_le_bytes());
            raw.read(&mut |bytes| {
                hash.update(bytes);
            })?;
        }
        Ok(Digest(*hash.finalize().as_bytes()))
    }

    /// The `decoder` stage, verified.
    pub fn decoder(&self) -> Result<Decoder, FrontendError> {
        Ok(self.stage(self.digest()?))
    }

    fn stage(&self, digest: Digest) -> Decoder {
        stage(&self.facts, digest)
    }
}

/// The stage of a model with these facts.
fn stage(facts: &ModelFacts, digest: Digest) -> Decoder {
    match facts.architecture {
        Architecture::Llama => llama::decoder(facts, digest),
        Architecture::Gpt2 => gpt2::decoder(facts, digest),
    }
}

/// What of the stage's tensors a checkpoint stores otherwise: their names, and where they are.
fn views(facts: &ModelFacts) -> Vec<(String, View)> {
    match facts.architecture {
        Architecture::Llama => Vec::new(),
        Architecture::Gpt2 => gpt2::views(facts),
    }
}

impl WeightSource for Checkpoint {
    fn shape(&self, name: &str) -> Result<Vec<usize>, WeightError> {
        self.store.shape(name)
    }

    fn tensor(&self, name: &str) -> Result<Arc<Tensor>, WeightError> {
        self.store.tensor(name)
    }

    fn rows(&self, name: &str, rows: Range<usize>) -> Result<Tensor, WeightError> {
        self.store.rows(name, rows)
    }
}

/// The head of an untied model.
fn head(facts: &ModelFacts) -> &'static str {
    match facts.architecture {
        Architecture::Llama => llama::HEAD,
        Architecture::Gpt2 => gpt2::HEAD,
    }
}

/// What to do about a missing tensor.
fn remedy(facts: &ModelFacts, name: &str) -> String {
    if name == head(facts) && !facts.tied {
        return "if the head shares the embedding table, config.json must say \"tie_word_embeddings\": true".into();
    }
    if name.ends_with(".bias") && facts.architecture == Architecture::Llama {
        return "config.json says that these projections have biases (\"attention_bias\" or \"mlp_bias\"): correct it, or \
                save the model with all its tensors"
            .into();
    }
    "save the model again with all its tensors (save_pretrained of the transformers library writes this layout)".into()
}
