//! What can be wrong with a checkpoint.

use miette::Diagnostic;
use sotto_ir::Violations;
use std::path::PathBuf;

/// Why a checkpoint was not read: what, where, and what to do about it.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum FrontendError {
    /// The file system refused.
    #[error("{path}: {source}")]
    #[diagnostic(code(model::io))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The directory is no checkpoint.
    #[error(
        "{path} does not exist; name a checkpoint directory in Hugging Face layout: config.json, safetensors, tokenizer.json"
    )]
    #[diagnostic(code(model::no_config))]
    NoConfig {
        /// The file looked for.
        path: PathBuf,
    },
    /// There is no preset of this name.
    #[error("there is no preset `{name}`; there are {known}")]
    #[diagnostic(code(model::no_preset))]
    NoPreset {
        /// The name asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// More layers of a preset than it has, or none.
    #[error("--layers {layers}: the preset has {most} layers; give 1 to {most}")]
    #[diagnostic(code(model::layers))]
    Layers {
        /// Asked for.
        layers: u32,
        /// The preset's.
        most: usize,
    },
    /// A preset's profile lacks a site that its weights follow from.
    #[error(
        "the profile of the preset `{preset}` has no site `{site}`; write it again with models/presets/make_ranges.py"
    )]
    #[diagnostic(code(model::site))]
    Site {
        /// The preset.
        preset: &'static str,
        /// The site.
        site: String,
    },
    /// Not JSON, or not of the expected form.
    #[error("{path}: not as expected: {source}")]
    #[diagnostic(code(model::json))]
    Json {
        /// The file.
        path: PathBuf,
        /// Why, with line and column.
        source: serde_json::Error,
    },
    /// A key that has no default is not in the configuration.
    #[error("{path}: the key \"{key}\" is missing; add it as the model was trained")]
    #[diagnostic(code(model::missing_key))]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// The configuration asks for what this compiler does not know.
    #[error("{path}: {key} = {found} is not supported; supported: {supported}")]
    #[diagnostic(code(model::unsupported))]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What would be.
        supported: String,
    },
    /// The configuration contradicts itself.
    #[error("{path}: the configuration contradicts itself")]
    #[diagnostic(code(model::facts))]
    Facts {
        /// The file.
        path: PathBuf,
        /// How.
        source: Violations,
    },
    /// The directory has a configuration but no weights.
    #[error("{dir}: neither model.safetensors nor model.safetensors.index.json is there; {remedy}")]
    #[diagnostic(code(model::no_weights))]
    NoWeights {
        /// The directory.
        dir: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// A safetensors header does not read.
    #[error("{path}: not a safetensors file: {cause}; fetch or save it again")]
    #[diagnostic(code(model::header))]
    Header {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A safetensors file ends early, or late.
    #[error(
        "{path}: the file has {actual} bytes, its header describes {expected}: it was truncated or damaged; fetch or save it again"
    )]
    #[diagnostic(code(model::length))]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes by the header.
        expected: u64,
        /// Bytes there are.
        actual: u64,
    },
    /// The index names a file that is not there.
    #[error(
        "{index}: tensor `{tensor}` should be in {shard}, which is not there; fetch the missing file"
    )]
    #[diagnostic(code(model::missing_shard))]
    MissingShard {
        /// The index.
        index: PathBuf,
        /// The tensor.
        tensor: String,
        /// The file.
        shard: PathBuf,
    },
    /// The index names a place outside the checkpoint.
    #[error(
        "{index}: tensor `{tensor}` is placed in \"{shard}\", which is not a file name; a shard lies beside its index"
    )]
    #[diagnostic(code(model::shard_name))]
    ShardName {
        /// The index.
        index: PathBuf,
        /// The tensor.
        tensor: String,
        /// The name.
        shard: String,
    },
    /// A tensor is nowhere.
    #[error("{path}: tensor `{name}` is missing; {remedy}")]
    #[diagnostic(code(model::missing_tensor))]
    MissingTensor {
        /// The file, or the index, or the shard that should hold it.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What to do.
        remedy: String,
    },
    /// A tensor has another shape than the configuration gives it.
    #[error(
        "{path}: tensor `{name}` has shape {actual:?}, config.json makes it {expected:?}; use the config.json that was saved with these weights"
    )]
    #[diagnostic(code(model::shape))]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// By the configuration.
        expected: Vec<usize>,
        /// By the file.
        actual: Vec<usize>,
    },
    /// A tensor is stored in a format that is not read.
    #[error(
        "{path}: tensor `{name}` is stored as {found}; supported: F32, F16, BF16. Save the model in one of these (dequantized)"
    )]
    #[diagnostic(code(model::format))]
    Format {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its format.
        found: String,
    },
    /// A tensor holds an infinity or NaN.
    #[error("{path}: tensor `{name}` holds {found} at entry {entry}: the weights are damaged")]
    #[diagnostic(code(model::not_finite))]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The value.
        found: f32,
        /// Where, counting row-major.
        entry: usize,
    },
}
