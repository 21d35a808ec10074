//! Llama's templates, with the tensor names of the transformers library.

use super::template::{Builder, KV, state};
use sotto_ir::Digest;
use sotto_ir::decoder::{Decoder, ModelFacts, Op, Template, Type, Value};

/// The head of an untied model.
pub(super) const HEAD: &str = "lm_head.weight";
/// The embedding table.
pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";

/// The stage of a Llama with these facts.
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

fn embed(facts: &ModelFacts) -> Template {
    let mut b = Builder::new(Type::Token);
    let row = b.vector(
        "embed",
        facts.hidden,
        Op::Embed {
            token: Value(0),
            weight: EMBEDDING.into(),
        },
    );
    b.returning(row)
}

fn layer(facts: &ModelFacts) -> Template {
    let mut b = Builder::new(Type::Vector(facts.hidden));
    let attention = attention(&mut b, facts, Value(0));
    let middle = b.vector(
        "layers.{i}.attention_residual",
        facts.hidden,
        Op::Add {
            a: Value(0),
            b: attention,
        },
    );
    let mlp = mlp(&mut b, facts, middle);
    let out = b.vector(
        "layers.{i}.mlp_residual",
        facts.hidden,
        Op::Add { a: middle, b: mlp },
    );
    b.returning(out)
}

fn attention(b: &mut Builder, facts: &ModelFacts, x: Value) -> Value {
    let (queries, kv) = (facts.query_width(), facts.kv_width());
    let bias = facts.attention_bias.on_inputs();
    let x = norm(
        b,
        "layers.{i}.attention_norm",
        facts,
        x,
        "model.layers.{i}.input_layernorm.weight",
    );
    let q = b.linear(
        "layers.{i}.attention.q_proj",
        x,
        queries,
        "model.layers.{i}.self_attn.q_proj",
        bias,
    );
    let q = b.vector(
        "layers.{i}.attention.q_rope",
        queries,
        Op::Rope {
            x: q,
            head_dim: facts.head_dim,
        },
    );
    let k = b.linear(
        "layers.{i}.attention.k_proj",
        x,
        kv,
        "model.layers.{i}.self_attn.k_proj",
        bias,
    );
    let k = b.vector(
        "layers.{i}.attention.k_rope",
        kv,
        Op::Rope {
            x: k,
            head_dim: facts.head_dim,
        },
    );
    let v = b.linear(
        "layers.{i}.attention.v_proj",
        x,
        kv,
        "model.layers.{i}.self_attn.v_proj",
        bias,
    );
    b.effect(
        "layers.{i}.attention.kv_append",
        Op::KvAppend {
            state: KV.into(),
            k,
            v,
        },
    );
    let scale = 1.0 / (facts.head_dim as f64).sqrt();
    let attend = Op::Attend {
        q,
        state: KV.into(),
        heads: facts.heads,
        scale,
    };
    let mixed = b.vector("layers.{i}.attention.attend", queries, attend);
    b.linear(
        "layers.{i}.attention.o_proj",
        mixed,
        facts.hidden,
        "model.layers.{i}.self_attn.o_proj",
        facts.attention_bias.on_output(),
    )
}

fn mlp(b: &mut Builder, facts: &ModelFacts, x: Value) -> Value {
    let (inner, bias) = (facts.intermediate, facts.mlp_bias);
    let x = norm(
        b,
        "layers.{i}.mlp_norm",
        facts,
        x,
        "model.layers.{i}.post_attention_layernorm.weight",
    );
    let gate = b.linear(
        "layers.{i}.mlp.gate_proj",
        x,
        inner,
        "model.layers.{i}.mlp.gate_proj",
        bias,
    );
    let gate = b.vector(
        "layers.{i}.mlp.silu",
        inner,
        Op::Activate {
            x: gate,
            function: facts.activation,
        },
    );
    let up = b.linear(
        "layers.{i}.mlp.up_proj",
        x,
        inner,
        "model.layers.{i}.mlp.up_proj",
        bias,
    );
    let product = b.vector("layers.{i}.mlp.product", inner, Op::Mul { a: gate, b: up });
    b.linear(
        "layers.{i}.mlp.down_proj",
        product,
        facts.hidden,
        "model.layers.{i}.mlp.down_proj",
        bias,
    )
}

fn final_(facts: &ModelFacts) -> Template {
    let mut b = Builder::new(Type::Vector(facts.hidden));
    let x = norm(&mut b, "final_norm", facts, Value(0), "model.norm.weight");
    let weight = if facts.tied { EMBEDDING } else { HEAD };
    let head = Op::Linear {
        x,
        weight: weight.into(),
        bias: None,
    };
    let logits = b.vector("lm_head", facts.vocab, head);
    b.returning(logits)
}

fn norm(b: &mut Builder, site: &str, facts: &ModelFacts, x: Value, weight: &str) -> Value {
    let op = Op::RmsNorm {
        x,
        weight: weight.into(),
        eps: facts.norm_eps,
    };
    b.vector(site, facts.hidden, op)
}
