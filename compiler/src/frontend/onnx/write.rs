//! An import as a checkpoint directory: `config.json`, `model.safetensors` in f32, `tokenizer.json` if there is one.

use super::{Import, OnnxError};
use serde_json::{Map, Value, json};
use sotto_ir::decoder::{Activation, Architecture, AttentionBias, ModelFacts, Rope, RopeScaling};
use sotto_ir::write_whole;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What a checkpoint of ours consists of; a directory with anything else is not written to.
const FILES: [&str; 3] = ["config.json", "model.safetensors", "tokenizer.json"];

fn io(path: &Path) -> impl FnOnce(io::Error) -> OnnxError {
    let path = path.to_path_buf();
    move |source| OnnxError::Io { path, source }
}

impl Import {
    /// Writes the checkpoint into `dir`, with a copy of `tokenizer` if one is given. The same graph gives the same bytes.
    ///
    /// # Errors
    /// A directory that holds anything else, a weight that no f32 is equal to, or whatever the file system says. `config.json` is
    /// written last: without it, the directory is no checkpoint.
    pub fn write(&self, dir: &Path, tokenizer: Option<&Path>) -> Result<(), OnnxError> {
        let tokenizer = tokenizer.map(|path| fs::read(path).map_err(io(path)));
        let tokenizer = tokenizer.transpose()?;
        fs::create_dir_all(dir).map_err(io(dir))?;
        for entry in fs::read_dir(dir).map_err(io(dir))? {
            let name = entry.map_err(io(dir))?.file_name();
            if !FILES.iter().any(|&file| name == file) {
                return Err(OnnxError::Model {
                    path: dir.into(),
                    found: format!("the directory holds `{}`", name.display()),
                    remedy: "name a new directory, or an earlier import".into(),
                });
            }
        }
        let [config, weights, copy] = FILES.map(|name| dir.join(name));
        for path in [&config, &copy] {
            match fs::remove_file(path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    return Err(io(path)(cause));
                }
                _ => {}
            }
        }
        if let Some(bytes) = tokenizer {
            write_whole(&copy, &bytes).map_err(io(&copy))?;
        }
        self.write_weights(&weights)?;
        let mut text = serde_json::to_string_pretty(&config_of(&self.facts)).unwrap_or_default();
        text.push('\n');
        write_whole(&config, text.as_bytes()).map_err(io(&config))
    }

    /// One tensor after the other, so that only one is held in memory besides what the graph holds.
    fn write_weights(&self, path: &Path) -> Result<(), OnnxError> {
        let partial: PathBuf = path.with_extension("safetensors.partial");
        let written = self.stream(&partial);
        if written.is_err() {
            // The error that matters is on its way.
            let _ = fs::remove_file(&partial);
        }
        written?;
        fs::rename(&partial, path).map_err(io(path))
    }

    fn stream(&self, path: &Path) -> Result<(), OnnxError> {
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!({"format": "pt"}));
        let mut end = 0u64;
        for (name, weight) in &self.tensors {
            let shape = weight.shape();
            let start = end;
            end += shape.iter().product::<usize>() as u64 * size_of::<f32>() as u64;
            let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
            header.insert(name.clone(), entry);
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        // Data begin at a multiple of 8 bytes.
        header.resize(header.len().next_multiple_of(8), b' ');
        let file = File::create(path).map_err(io(path))?;
        let mut out = BufWriter::new(file);
        out.write_all(&(header.len() as u64).to_le_bytes())
            .and_then(|()| out.write_all(&header))
            .map_err(io(path))?;
        for name in self.tensors.keys() {
            for x in self.read(name)?.data {
                out.write_all(&x.to_le_bytes()).map_err(io(path))?;
            }
        }
        let file = out.into_inner().map_err(|e| io(path)(e.into_error()))?;
        file.sync_all().map_err(io(path))
    }
}

/// The configuration in the transformers library's keys.
fn config_of(facts: &ModelFacts) -> Value {
    match facts.architecture {
        Architecture::Llama => llama_config(facts),
        Architecture::Gpt2 => gpt2_config(facts),
    }
}

fn gpt2_config(facts: &ModelFacts) -> Value {
    json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "dtype": "float32",
        "activation_function": match facts.activation {
            Activation::Silu => "silu",
            Activation::GeluTanh => "gelu_new",
            Activation::Gelu => "gelu",
        },
        "n_embd": facts.hidden,
        "n_layer": facts.layers,
        "n_head": facts.heads,
        "n_inner": facts.intermediate,
        "n_positions": facts.max_positions,
        "vocab_size": facts.vocab,
        "layer_norm_epsilon": facts.norm_eps,
        "tie_word_embeddings": facts.tied,
        "bos_token_id": facts.bos,
        "eos_token_id": eos_of(facts),
    })
}

fn llama_config(facts: &ModelFacts) -> Value {
    let (class, kind) = match facts.attention_bias {
        AttentionBias::Qkv => ("Qwen2ForCausalLM", "qwen2"),
        AttentionBias::None | AttentionBias::All => ("LlamaForCausalLM", "llama"),
    };
    let rope = facts.positions.rope().map(rope_of);
    json!({
        "architectures": [class],
        "model_type": kind,
        "dtype": "float32",
        "hidden_act": "silu",
        "hidden_size": facts.hidden,
        "num_hidden_layers": facts.layers,
        "num_attention_heads": facts.heads,
        "num_key_value_heads": facts.kv_heads,
        "head_dim": facts.head_dim,
        "intermediate_size": facts.intermediate,
        "vocab_size": facts.vocab,
        "rms_norm_eps": facts.norm_eps,
        "rope_parameters": rope,
        "tie_word_embeddings": facts.tied,
        "attention_bias": facts.attention_bias.on_inputs(),
        "mlp_bias": facts.mlp_bias,
        "bos_token_id": facts.bos,
        "eos_token_id": eos_of(facts),
        "max_position_embeddings": facts.max_positions,
    })
}

fn eos_of(facts: &ModelFacts) -> Value {
    match &facts.eos[..] {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    }
}

fn rope_of(rope: &Rope) -> Value {
    let theta = rope.theta;
    match rope.scaling {
        RopeScaling::None => json!({"rope_type": "default", "rope_theta": theta}),
        RopeScaling::Linear { factor } => {
            json!({"rope_type": "linear", "rope_theta": theta, "factor": factor})
        }
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_positions,
        } => json!({
            "rope_type": "llama3",
            "rope_theta": theta,
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_positions,
        }),
    }
}
