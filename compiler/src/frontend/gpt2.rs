//! GPT-2's templates, and how its checkpoints store what they name.
//!
//! Weights are named as the transformers library names them. It stores the linear maps of a layer as `Conv1D`, [in, out], and q, k and v
//! side by side in one: the stage speaks of maps [out, in], one for each of q, k and v, and [`views`] says where the checkpoint has them.
//! `…c_attn.weight[q]` is the view of the first third. Checkpoints of the model without its head lack the prefix `transformer.`; buffers of
//! older versions (`attn.bias`, `attn.masked_bias`: the causal mask) are not read.

use super::store::View;
use super::template::{Builder, KV, state};
use sotto_ir::Digest;
use sotto_ir::decoder::{Decoder, ModelFacts, Op, Template, Type, Value, instantiate};

/// The head of an untied model.
pub(super) const HEAD: &str = "lm_head.weight";
/// The embedding table.
pub(super) const EMBEDDING: &str = "transformer.wte.weight";
/// The table of positions.
pub(super) const POSITIONS: &str = "transformer.wpe.weight";
/// What names of the model without its head begin without.
pub(super) const PREFIX: &str = "transformer.";
/// A layer's fused projection.
const FUSED: &str = "transformer.h.{i}.attn.c_attn";
/// The parts of the fused projection, in order.
const PARTS: [&str; 3] = ["q", "k", "v"];
/// A layer's other linear maps.
const MAPS: [&str; 3] = ["attn.c_proj", "mlp.c_fc", "mlp.c_proj"];

/// The stage of a GPT-2 with these facts.
pub(super) fn decoder(facts: &ModelFacts, checkpoint: Digest) -> Decoder {
    Decoder {
        checkpoint,
        model: facts.clone(),
        states: vec![state(facts)],
        embed: embed(facts),
        layer: layer(facts),
        final_: final_(facts),
    }
}

/// What of the stage's tensors a checkpoint stores otherwise: their names, and where they are.
pub(super) fn views(facts: &ModelFacts) -> Vec<(String, View)> {
    let mut views = Vec::new();
    for layer in 0..facts.layers {
        let name = |module: &str| instantiate(&format!("transformer.h.{{i}}.{module}"), layer);
        for map in MAPS {
            let weight = name(&format!("{map}.weight"));
            let view = View {
                tensor: weight.clone(),
                transposed: true,
                part: None,
            };
            views.push((weight, view));
        }
        for (kind, transposed) in [("weight", true), ("bias", false)] {
            let tensor = format!("{}.{kind}", instantiate(FUSED, layer));
            for (index, part) in PARTS.iter().enumerate() {
                let view = View {
                    tensor: tensor.clone(),
                    transposed,
                    part: Some((index, PARTS.len())),
                };
                views.push((format!("{tensor}[{part}]"), view));
            }
        }
    }
    views
}

fn embed(facts: &ModelFacts) -> Template {
    let mut b = Builder::new(Type::Token);
    let token = Value(0);
    let row = Op::Embed {
        token,
        weight: EMBEDDING.into(),
    };
    let row = b.vector("embed", facts.hidden, row);
    let place = Op::Position {
        token,
        weight: POSITIONS.into(),
    };
    let place = b.vector("embed.position", facts.hidden, place);
    let sum = b.vector("embed.sum", facts.hidden, Op::Add { a: row, b: place });
    b.returning(sum)
}

fn layer(facts: &ModelFacts) -> Template {
    let mut b = Builder::new(Type::Vector(facts.hidden));
    let attention = attention(&mut b, facts, Value(0));
    let sum = Op::Add {
        a: Value(0),
        b: attention,
    };
    let middle = b.vector("layers.{i}.attention_residual", facts.hidden, sum);
    let mlp = mlp(&mut b, facts, middle);
    let sum = Op::Add { a: middle, b: mlp };
    let out = b.vector("layers.{i}.mlp_residual", facts.hidden, sum);
    b.returning(out)
}

fn attention(b: &mut Builder, facts: &ModelFacts, x: Value) -> Value {
    let width = facts.query_width();
    let norm = "transformer.h.{i}.ln_1";
    let x = layer_norm(b, "layers.{i}.attention_norm", facts, x, norm);
    let [q, k, v] = PARTS.map(|part| {
        let op = Op::Linear {
            x,
            weight: format!("{FUSED}.weight[{part}]"),
            bias: Some(format!("{FUSED}.bias[{part}]")),
        };
        b.vector(&format!("layers.{{i}}.attention.{part}_proj"), width, op)
    });
    let state = KV.to_string();
    b.effect(
        "layers.{i}.attention.kv_append",
        Op::KvAppend {
            state: state.clone(),
            k,
            v,
        },
    );
    let attend = Op::Attend {
        q,
        state,
        heads: facts.heads,
        scale: 1.0 / (facts.head_dim as f64).sqrt(),
    };
    let mixed = b.vector("layers.{i}.attention.attend", width, attend);
    let (site, module) = (
        "layers.{i}.attention.o_proj",
        "transformer.h.{i}.attn.c_proj",
    );
    b.linear(site, mixed, facts.hidden, module, true)
}

fn mlp(b: &mut Builder, facts: &ModelFacts, x: Value) -> Value {
    let norm = "transformer.h.{i}.ln_2";
    let x = layer_norm(b, "layers.{i}.mlp_norm", facts, x, norm);
    let (site, module) = ("layers.{i}.mlp.up_proj", "transformer.h.{i}.mlp.c_fc");
    let up = b.linear(site, x, facts.intermediate, module, true);
    let activate = Op::Activate {
        x: up,
        function: facts.activation,
    };
    let inner = b.vector("layers.{i}.mlp.gelu", facts.intermediate, activate);
    let (site, module) = ("layers.{i}.mlp.down_proj", "transformer.h.{i}.mlp.c_proj");
    b.linear(site, inner, facts.hidden, module, true)
}

fn final_(facts: &ModelFacts) -> Template {
    let mut b = Builder::new(Type::Vector(facts.hidden));
    let x = layer_norm(&mut b, "final_norm", facts, Value(0), "transformer.ln_f");
    let head = Op::Linear {
        x,
        weight: if facts.tied { EMBEDDING } else { HEAD }.into(),
        bias: None,
    };
    let logits = b.vector("lm_head", facts.vocab, head);
    b.returning(logits)
}

/// `module` is the tensors' common prefix.
fn layer_norm(b: &mut Builder, site: &str, facts: &ModelFacts, x: Value, module: &str) -> Value {
    let op = Op::LayerNorm {
        x,
        weight: format!("{module}.weight"),
        bias: format!("{module}.bias"),
        eps: facts.norm_eps,
    };
    b.vector(site, facts.hidden, op)
}
