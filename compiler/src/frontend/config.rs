//! `config.json` to [`ModelFacts`], in the keys of older and newer transformers versions; GPT-2's keys are [`gpt2`]'s.
//!
//! | fact | newer keys | older keys |
//! |---|---|---|
//! | rotary base | `rope_parameters.rope_theta` | `rope_theta` |
//! | rotary scaling | `rope_parameters.rope_type` and its numbers | `rope_scaling`: null, or `type` or `rope_type` and its numbers |
//!
//! `dtype` (older: `torch_dtype`) is not read: each tensor says in its file how it is stored. Defaults are those of the
//! transformers library's Llama configuration.
//!
//! Mistral and Qwen2 are Llamas: Qwen2 with biases on q, k and v. Their sliding windows are refused, unless no position is out of
//! the window's sight.

mod gpt2;

use super::FrontendError;
use serde::Deserialize;
use serde_json::Value;
use sotto_ir::decoder::{
    Activation, Architecture, AttentionBias, ModelFacts, Positions, Rope, RopeScaling,
};
use std::io::ErrorKind;
use std::path::Path;

#[derive(Deserialize)]
struct Config {
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: Option<usize>,
    vocab_size: Option<usize>,
    rms_norm_eps: Option<f64>,
    hidden_act: Option<String>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    bos_token_id: Option<Tokens>,
    eos_token_id: Option<Tokens>,
    max_position_embeddings: Option<usize>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeConfig>,
    rope_parameters: Option<RopeConfig>,
    quantization_config: Option<Value>,
    #[serde(default = "usual_window")]
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
}

/// The window of a configuration that has no such key, in tokens; null is none.
fn usual_window() -> Option<usize> {
    Some(4096)
}

/// A family of models; all but GPT-2 are Llamas but for what their configuration leaves unsaid.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Llama,
    /// Llama, with a sliding window where the configuration gives one.
    Mistral,
    /// Llama with biases on q, k and v, and a sliding window where the configuration asks for one.
    Qwen2,
    /// GPT-2, with keys of its own.
    Gpt2,
}

/// Class, type and family of what is supported.
const FAMILIES: [(&str, &str, Family); 4] = [
    ("LlamaForCausalLM", "llama", Family::Llama),
    ("MistralForCausalLM", "mistral", Family::Mistral),
    ("Qwen2ForCausalLM", "qwen2", Family::Qwen2),
    ("GPT2LMHeadModel", "gpt2", Family::Gpt2),
];

/// `rope_parameters` and `rope_scaling`.
#[derive(Deserialize, Default)]
struct RopeConfig {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
    #[serde(rename = "type")]
    old_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    partial_rotary_factor: Option<f64>,
}

/// One token id or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Tokens {
    One(u32),
    Several(Vec<u32>),
}

impl Tokens {
    fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Several(ids) => ids,
        }
    }
}

/// More than any decoder has; a larger number is a mistake, and lists of tensors are made from it.
const MAX_LAYERS: usize = 4096;

/// The facts, and the file's content.
pub(super) fn read(path: &Path) -> Result<(ModelFacts, Vec<u8>), FrontendError> {
    let text = std::fs::read(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => FrontendError::NoConfig { path: path.into() },
        _ => FrontendError::Io {
            path: path.into(),
            source,
        },
    })?;
    Ok((parse(path, &text)?, text))
}

/// The facts in the text of a configuration; `path` is for errors.
pub(super) fn parse(path: &Path, text: &[u8]) -> Result<ModelFacts, FrontendError> {
    let json = |source| FrontendError::Json {
        path: path.into(),
        source,
    };
    // The family first: another family's keys may have other types.
    let value: Value = serde_json::from_slice(text).map_err(json)?;
    let file = ConfigFile { path };
    let family = file.family(&value)?;
    // From the text again, so that the error of a wrong type has its line.
    match family {
        Family::Gpt2 => gpt2::facts(&file, serde_json::from_slice(text).map_err(json)?),
        _ => file.facts(family, serde_json::from_slice(text).map_err(json)?),
    }
}

struct ConfigFile<'p> {
    path: &'p Path,
}

impl ConfigFile<'_> {
    fn unsupported(&self, key: &str, found: impl ToString, supported: &str) -> FrontendError {
        FrontendError::Unsupported {
            path: self.path.into(),
            key: key.into(),
            found: found.to_string(),
            supported: supported.into(),
        }
    }

    fn need<T>(&self, key: &str, value: Option<T>) -> Result<T, FrontendError> {
        value.ok_or_else(|| FrontendError::MissingKey {
            path: self.path.into(),
            key: key.into(),
        })
    }

    fn family(&self, config: &Value) -> Result<Family, FrontendError> {
        let class = config["architectures"].get(0).and_then(Value::as_str);
        let (key, found) = match (class, config["model_type"].as_str()) {
            (Some(class), _) => ("architectures", class),
            (None, Some(kind)) => ("model_type", kind),
            (None, None) => return self.need("architectures", None),
        };
        let known = FAMILIES.iter().find(|(class, kind, _)| match key {
            "model_type" => found == *kind,
            _ => found == *class,
        });
        match known {
            Some((_, _, family)) => Ok(*family),
            None => {
                let names = FAMILIES.map(|(class, kind, _)| match key {
                    "model_type" => kind,
                    _ => class,
                });
                Err(self.unsupported(key, found, &names.join(", ")))
            }
        }
    }

    /// Refuses a window that some position would look out of.
    fn window(&self, family: Family, config: &Config, most: usize) -> Result<(), FrontendError> {
        let asked = match family {
            Family::Llama | Family::Gpt2 => false,
            Family::Mistral => true,
            Family::Qwen2 => config.use_sliding_window.unwrap_or(false),
        };
        match config.sliding_window {
            Some(window) if asked && window < most => {
                let remedy = format!(
                    "null, or at least max_position_embeddings = {most}: up to {window} positions the model is the same \
                     without a window, so both can be {window}"
                );
                Err(self.unsupported("sliding_window", window, &remedy))
            }
            _ => Ok(()),
        }
    }

    /// Which projections of attention add biases: the family's default, or as the configuration says.
    fn attention_bias(family: Family, stated: Option<bool>) -> AttentionBias {
        match (family, stated) {
            (Family::Qwen2, _) => AttentionBias::Qkv,
            (Family::Llama, Some(true)) => AttentionBias::All,
            _ => AttentionBias::None,
        }
    }

    fn facts(&self, family: Family, config: Config) -> Result<ModelFacts, FrontendError> {
        let hidden = self.need("hidden_size", config.hidden_size)?;
        let heads = self.need("num_attention_heads", config.num_attention_heads)?;
        let activation = config.hidden_act.as_deref().unwrap_or("silu");
        if !["silu", "swish"].contains(&activation) {
            return Err(self.unsupported("hidden_act", activation, "silu"));
        }
        self.unquantized(config.quantization_config.as_ref())?;
        let max_positions = config.max_position_embeddings.unwrap_or(2048);
        self.window(family, &config, max_positions)?;
        Ok(ModelFacts {
            architecture: Architecture::Llama,
            hidden,
            layers: self.layers("num_hidden_layers", config.num_hidden_layers)?,
            heads,
            kv_heads: config.num_key_value_heads.unwrap_or(heads),
            head_dim: self.head_dim(config.head_dim, hidden, heads)?,
            intermediate: self.need("intermediate_size", config.intermediate_size)?,
            vocab: self.need("vocab_size", config.vocab_size)?,
            norm_eps: config.rms_norm_eps.unwrap_or(1e-6),
            positions: Positions::Rotary(self.rope(
                config.rope_parameters,
                config.rope_theta,
                config.rope_scaling,
            )?),
            activation: Activation::Silu,
            tied: config.tie_word_embeddings.unwrap_or(false),
            attention_bias: Self::attention_bias(family, config.attention_bias),
            mlp_bias: config.mlp_bias.unwrap_or(false),
            bos: self.bos(config.bos_token_id)?,
            eos: config.eos_token_id.map_or_else(Vec::new, Tokens::into_vec),
            max_positions,
        })
    }

    fn unquantized(&self, quantization: Option<&Value>) -> Result<(), FrontendError> {
        let Some(found) = quantization else {
            return Ok(());
        };
        let supported = "none: save the model dequantized";
        Err(self.unsupported("quantization_config", found, supported))
    }

    fn bos(&self, stated: Option<Tokens>) -> Result<Option<u32>, FrontendError> {
        let mut bos = stated.map_or_else(Vec::new, Tokens::into_vec);
        if bos.len() > 1 {
            return Err(self.unsupported("bos_token_id", format!("{bos:?}"), "one token"));
        }
        Ok(bos.pop())
    }

    fn layers(&self, key: &str, stated: Option<usize>) -> Result<usize, FrontendError> {
        let layers = self.need(key, stated)?;
        if layers > MAX_LAYERS {
            return Err(self.unsupported(key, layers, &format!("up to {MAX_LAYERS}")));
        }
        Ok(layers)
    }

    fn head_dim(
        &self,
        stated: Option<usize>,
        hidden: usize,
        heads: usize,
    ) -> Result<usize, FrontendError> {
        match stated {
            Some(head_dim) => Ok(head_dim),
            None if heads > 0 && hidden.is_multiple_of(heads) => Ok(hidden / heads),
            None => Err(self.unsupported(
                "num_attention_heads",
                heads,
                &format!("divisors of hidden_size = {hidden}, or a \"head_dim\""),
            )),
        }
    }

    fn rope(
        &self,
        newer: Option<RopeConfig>,
        theta: Option<f64>,
        older: Option<RopeConfig>,
    ) -> Result<Rope, FrontendError> {
        let (key, config) = match newer {
            Some(config) => ("rope_parameters", config),
            None => ("rope_scaling", older.unwrap_or_default()),
        };
        if let Some(part) = config.partial_rotary_factor.filter(|&part| part != 1.0) {
            return Err(self.unsupported(&format!("{key}.partial_rotary_factor"), part, "1.0"));
        }
        let number = |name: &str, value: Option<f64>| self.need(&format!("{key}.{name}"), value);
        let kind = config
            .rope_type
            .as_deref()
            .or(config.old_type.as_deref())
            .unwrap_or("default");
        let scaling = match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear {
                factor: number("factor", config.factor)?,
            },
            "llama3" => RopeScaling::Llama3 {
                factor: number("factor", config.factor)?,
                low_freq_factor: number("low_freq_factor", config.low_freq_factor)?,
                high_freq_factor: number("high_freq_factor", config.high_freq_factor)?,
                original_max_positions: self.need(
                    &format!("{key}.original_max_position_embeddings"),
                    config.original_max_position_embeddings,
                )?,
            },
            other => {
                return Err(self.unsupported(
                    &format!("{key}.rope_type"),
                    other,
                    "default, linear, llama3",
                ));
            }
        };
        Ok(Rope {
            theta: config.rope_theta.or(theta).unwrap_or(10000.0),
            scaling,
        })
    }
}
