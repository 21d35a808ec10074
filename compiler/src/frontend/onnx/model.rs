//! A recognized model: its facts, and its tensors by the names and in the shapes that checkpoints store them.

use super::super::{gpt2 as gpt2_names, llama as llama_names};
use super::blocks::Projection;
use super::error::{OnnxError, Step};
use super::eval::Evaluation;
use super::gpt2::{self, Affine, Gpt2};
use super::llama::{self, Llama};
use super::value::{TermId, Terms};
use super::weight::Weight;
use super::{Unsaid, frequencies};
use sotto_ir::decoder::{Activation, Architecture, AttentionBias, ModelFacts, Positions};
use std::collections::BTreeMap;
use std::path::Path;

/// Longest sequence of a model that is made for any, unless told otherwise: the transformers library's default for Llama.
const POSITIONS: usize = 2048;

/// A model as the graph has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Model {
    Llama(Llama),
    Gpt2(Gpt2),
}

impl Model {
    /// Recognizes the model whose logits are the term `logits`, of the family that the graph has parts of.
    pub(super) fn recognize(terms: &Terms, logits: TermId) -> Step<Self> {
        match terms.family() {
            Some(Architecture::Gpt2) => gpt2::recognize(terms, logits).map(Self::Gpt2),
            Some(Architecture::Llama) | None => llama::recognize(terms, logits).map(Self::Llama),
        }
    }

    /// Rotary frequencies, if there are any.
    pub(super) fn frequencies(&self) -> Option<&[f64]> {
        match self {
            Self::Llama(llama) => Some(&llama.frequencies),
            Self::Gpt2(_) => None,
        }
    }

    /// What a configuration says, with what the graph leaves open as the caller has it.
    pub(super) fn facts(
        &self,
        path: &Path,
        evaluation: &Evaluation,
        unsaid: &Unsaid,
    ) -> Result<ModelFacts, OnnxError> {
        match self {
            Self::Llama(llama) => llama_facts(path, llama, evaluation, unsaid),
            Self::Gpt2(gpt2) => gpt2_facts(path, gpt2, unsaid),
        }
    }

    /// Every tensor of a checkpoint.
    pub(super) fn tensors(self, facts: &ModelFacts) -> BTreeMap<String, Weight> {
        match self {
            Self::Llama(llama) => llama_tensors(facts, llama),
            Self::Gpt2(gpt2) => gpt2_tensors(facts, gpt2),
        }
    }
}

fn llama_facts(
    path: &Path,
    llama: &Llama,
    evaluation: &Evaluation,
    unsaid: &Unsaid,
) -> Result<ModelFacts, OnnxError> {
    let Some(rope) = frequencies::explain(&llama.frequencies) else {
        return Err(OnnxError::Model {
            path: path.into(),
            found: format!("its rotary frequencies are {:?}", llama.frequencies),
            remedy: "known are powers of one base, all divided by a factor (linear), or scaled as Llama 3's".into(),
        });
    };
    let [vocab, hidden] = extents(&llama.embedding);
    let layer = llama.layers.first();
    let has =
        |of: fn(&llama::Layer) -> &Projection| layer.is_some_and(|layer| of(layer).bias.is_some());
    // A graph of fixed size says how long its sequences are; with a past it says nothing.
    let fixed = evaluation.fixed_tokens.filter(|_| !evaluation.has_past);
    Ok(ModelFacts {
        architecture: Architecture::Llama,
        hidden,
        layers: llama.layers.len(),
        heads: llama.heads,
        kv_heads: llama.kv_heads,
        head_dim: llama.head_dim,
        intermediate: layer.map_or(0, |layer| layer.gate.weight.shape()[0]),
        vocab,
        norm_eps: llama.eps,
        positions: Positions::Rotary(rope),
        activation: Activation::Silu,
        tied: tied(path, &llama.embedding, &llama.head)?,
        attention_bias: match (has(|layer| &layer.q), has(|layer| &layer.o)) {
            (false, _) => AttentionBias::None,
            (true, false) => AttentionBias::Qkv,
            (true, true) => AttentionBias::All,
        },
        mlp_bias: has(|layer| &layer.gate),
        bos: unsaid.bos,
        eos: unsaid.eos.clone(),
        max_positions: unsaid.max_positions.or(fixed).unwrap_or(POSITIONS),
    })
}

fn gpt2_facts(path: &Path, gpt2: &Gpt2, unsaid: &Unsaid) -> Result<ModelFacts, OnnxError> {
    let [vocab, hidden] = extents(&gpt2.embedding);
    let [positions, _] = extents(&gpt2.positions);
    if let Some(asked) = unsaid.max_positions.filter(|&asked| asked != positions) {
        return Err(OnnxError::Model {
            path: path.into(),
            found: format!(
                "its table of positions `{}` has {positions} rows, which is the longest sequence, and {asked} is asked for",
                gpt2.positions.name()
            ),
            remedy: format!("leave --max-positions out, or say {positions}"),
        });
    }
    Ok(ModelFacts {
        architecture: Architecture::Gpt2,
        hidden,
        layers: gpt2.layers.len(),
        heads: gpt2.heads,
        kv_heads: gpt2.heads,
        head_dim: gpt2.head_dim,
        intermediate: gpt2.intermediate,
        vocab,
        norm_eps: gpt2.eps,
        positions: Positions::Learned,
        activation: gpt2.activation,
        tied: tied(path, &gpt2.embedding, &gpt2.head)?,
        attention_bias: AttentionBias::All,
        mlp_bias: true,
        bos: unsaid.bos,
        eos: unsaid.eos.clone(),
        max_positions: positions,
    })
}

/// Rows and columns of a matrix; what is none is refused where the stage's shapes are checked.
fn extents(table: &Weight) -> [usize; 2] {
    match table.shape()[..] {
        [rows, columns] => [rows, columns],
        _ => [0, 0],
    }
}

/// Whether head and embedding are one table: exporters store it twice, once transposed.
fn tied(path: &Path, table: &Weight, head: &Weight) -> Result<bool, OnnxError> {
    if table.shape() != head.shape() {
        return Ok(false);
    }
    table.same(head, path)
}

fn llama_tensors(facts: &ModelFacts, llama: Llama) -> BTreeMap<String, Weight> {
    let mut tensors = BTreeMap::from([
        (llama_names::EMBEDDING.into(), llama.embedding),
        ("model.norm.weight".into(), llama.final_norm),
    ]);
    if !facts.tied {
        tensors.insert(llama_names::HEAD.into(), llama.head);
    }
    for (i, layer) in llama.layers.into_iter().enumerate() {
        let projections = [
            ("self_attn.q_proj", layer.q),
            ("self_attn.k_proj", layer.k),
            ("self_attn.v_proj", layer.v),
            ("self_attn.o_proj", layer.o),
            ("mlp.gate_proj", layer.gate),
            ("mlp.up_proj", layer.up),
            ("mlp.down_proj", layer.down),
        ];
        let norms = [
            ("input_layernorm", layer.attention_norm),
            ("post_attention_layernorm", layer.mlp_norm),
        ];
        for (module, Projection { weight, bias }) in projections {
            tensors.insert(format!("model.layers.{i}.{module}.weight"), weight);
            tensors.extend(bias.map(|bias| (format!("model.layers.{i}.{module}.bias"), bias)));
        }
        for (module, weight) in norms {
            tensors.insert(format!("model.layers.{i}.{module}.weight"), weight);
        }
    }
    tensors
}

/// Linear maps are stored [in, out].
fn gpt2_tensors(facts: &ModelFacts, gpt2: Gpt2) -> BTreeMap<String, Weight> {
    let mut tensors = BTreeMap::from([
        (gpt2_names::EMBEDDING.into(), gpt2.embedding),
        (gpt2_names::POSITIONS.into(), gpt2.positions),
    ]);
    if !facts.tied {
        tensors.insert(gpt2_names::HEAD.into(), gpt2.head);
    }
    let mut insert = |module: String, weight: Weight, bias: Weight| {
        tensors.insert(format!("{module}.weight"), weight);
        tensors.insert(format!("{module}.bias"), bias);
    };
    let Affine { weight, bias } = gpt2.final_norm;
    insert("transformer.ln_f".into(), weight, bias);
    for (i, layer) in gpt2.layers.into_iter().enumerate() {
        let maps = [
            ("attn.c_attn", layer.fused),
            ("attn.c_proj", layer.o),
            ("mlp.c_fc", layer.up),
            ("mlp.c_proj", layer.down),
        ];
        let norms = [("ln_1", layer.attention_norm), ("ln_2", layer.mlp_norm)];
        for (module, Affine { weight, bias }) in maps {
            insert(
                format!("transformer.h.{i}.{module}"),
                weight.transpose(),
                bias,
            );
        }
        for (module, Affine { weight, bias }) in norms {
            insert(format!("transformer.h.{i}.{module}"), weight, bias);
        }
    }
    tensors
}
