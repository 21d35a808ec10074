//! GPT-2's keys.
//!
//! | key | default |
//! |---|---|
//! | `n_inner` | null: 4 · `n_embd` |
//! | `activation_function` | `gelu_new`; `gelu` and `gelu_pytorch_tanh` (which is `gelu_new`) are known too |
//! | `tie_word_embeddings` | true |
//! | `scale_attn_weights`, `scale_attn_by_inverse_layer_idx` | true, false; refused otherwise: the layers of a stage share one scale |
//!
//! `reorder_and_upcast_attn` changes the order of computation, not the model, and is not read; nor are dropouts and what belongs to other
//! heads (`summary_…`).

use super::{ConfigFile, FrontendError, Tokens};
use serde::Deserialize;
use serde_json::Value;
use sotto_ir::decoder::{Activation, Architecture, AttentionBias, ModelFacts, Positions};

#[derive(Deserialize)]
pub(super) struct Config {
    n_embd: Option<usize>,
    n_layer: Option<usize>,
    n_head: Option<usize>,
    n_inner: Option<usize>,
    n_positions: Option<usize>,
    vocab_size: Option<usize>,
    layer_norm_epsilon: Option<f64>,
    activation_function: Option<String>,
    tie_word_embeddings: Option<bool>,
    scale_attn_weights: Option<bool>,
    scale_attn_by_inverse_layer_idx: Option<bool>,
    add_cross_attention: Option<bool>,
    bos_token_id: Option<Tokens>,
    eos_token_id: Option<Tokens>,
    quantization_config: Option<Value>,
}

/// Names of the activation in configurations.
const ACTIVATIONS: [(&str, Activation); 3] = [
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu", Activation::Gelu),
];

/// The facts that a configuration states.
pub(super) fn facts(file: &ConfigFile<'_>, config: Config) -> Result<ModelFacts, FrontendError> {
    plain(file, &config)?;
    let hidden = file.need("n_embd", config.n_embd)?;
    let heads = file.need("n_head", config.n_head)?;
    if heads == 0 || !hidden.is_multiple_of(heads) {
        let divisors = format!("divisors of n_embd = {hidden}");
        return Err(file.unsupported("n_head", heads, &divisors));
    }
    Ok(ModelFacts {
        architecture: Architecture::Gpt2,
        hidden,
        layers: file.layers("n_layer", config.n_layer)?,
        heads,
        kv_heads: heads,
        head_dim: hidden / heads,
        intermediate: config.n_inner.unwrap_or(hidden.saturating_mul(4)),
        vocab: file.need("vocab_size", config.vocab_size)?,
        norm_eps: config.layer_norm_epsilon.unwrap_or(1e-5),
        positions: Positions::Learned,
        activation: activation(file, config.activation_function.as_deref())?,
        tied: config.tie_word_embeddings.unwrap_or(true),
        attention_bias: AttentionBias::All,
        mlp_bias: true,
        bos: file.bos(config.bos_token_id)?,
        eos: config.eos_token_id.map_or_else(Vec::new, Tokens::into_vec),
        max_positions: file.need("n_positions", config.n_positions)?,
    })
}

/// Refuses what changes the model in a way that the stage does not say.
fn plain(file: &ConfigFile<'_>, config: &Config) -> Result<(), FrontendError> {
    file.unquantized(config.quantization_config.as_ref())?;
    let switches = [
        ("scale_attn_weights", config.scale_attn_weights, true),
        (
            "scale_attn_by_inverse_layer_idx",
            config.scale_attn_by_inverse_layer_idx,
            false,
        ),
        ("add_cross_attention", config.add_cross_attention, false),
    ];
    for (key, stated, supported) in switches {
        if let Some(found) = stated.filter(|&found| found != supported) {
            return Err(file.unsupported(key, found, &supported.to_string()));
        }
    }
    Ok(())
}

fn activation(file: &ConfigFile<'_>, stated: Option<&str>) -> Result<Activation, FrontendError> {
    let stated = stated.unwrap_or("gelu_new");
    let known = ACTIVATIONS.iter().find(|(name, _)| *name == stated);
    known.map(|(_, function)| *function).ok_or_else(|| {
        let names = ACTIVATIONS.map(|(name, _)| name).join(", ");
        file.unsupported("activation_function", stated, &names)
    })
}
