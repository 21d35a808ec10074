//! Which model a command is about, where a shape is enough.

use super::Failure;
use super::compile::default_context;
use crate::driver::Source;
use std::path::PathBuf;

/// Context of a preset unless told otherwise.
const CONTEXT: u32 = 512;

/// A checkpoint or a preset, and the context.
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("subject").required(true).args(["model", "preset"]))]
pub struct Subject {
    /// Checkpoint directory: config.json, safetensors, tokenizer.json.
    model: Option<PathBuf>,
    /// Instead of MODEL, a shape and assumed ranges: llama-3-8b or tinyllama-1.1b.
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
    /// Where the model comes from.
    pub fn source(&self) -> Source {
        match &self.model {
            Some(model) => Source::Model(model.clone(), self.calibrate.clone()),
            None => Source::Preset(self.preset.clone().unwrap_or_default()),
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
