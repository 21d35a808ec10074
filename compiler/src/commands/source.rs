//! Which model a command is about, where a shape is enough.

use super::Failure;
use super::compile::default_context;
use crate::driver::Source;
use crate::frontend::{Checkpoint, FrontendError, Preset};
use std::path::PathBuf;

/// Context of a preset unless told otherwise.
const CONTEXT: u32 = 512;

/// A checkpoint or a preset, and the context.
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("subject").required(true).args(["model", "preset"]))]
pub struct Subject {
    /// Checkpoint directory: config.json, safetensors, tokenizer.json.
    model: Option<PathBuf>,
    /// Instead of MODEL, a shape and assumed ranges: llama-3-8b, tinyllama-1.1b or gpt2-small.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Text, a conversation per line, or safetensors with input_ids [B, T] [default: calibration.txt or
    /// calibration.safetensors in MODEL].
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    calibrate: Option<PathBuf>,
    /// Most tokens of one conversation [default: 512 of a preset; else the model's, at most 256].
    #[arg(long, value_name = "N")]
    context: Option<u32>,
}

impl Subject {
    /// The model, opened.
    pub fn source(&self) -> Result<Source, FrontendError> {
        match &self.model {
            Some(model) => {
                let checkpoint = Box::new(Checkpoint::open(model)?);
                Ok(Source::Checkpoint(checkpoint, self.calibrate.clone()))
            }
            None => {
                let name = self.preset.as_deref().unwrap_or_default();
                Ok(Source::Preset(Box::new(Preset::named(name)?)))
            }
        }
    }

    /// The context asked for, or the default.
    pub fn context(&self) -> Result<u32, Failure> {
        match (self.context, &self.model) {
            (Some(context), _) => Ok(context),
            (None, Some(model)) => default_context(model),
            (None, None) => Ok(CONTEXT),
        }
    }
}
