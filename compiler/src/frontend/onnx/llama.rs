//! Llama's blocks, seen from the logits back to the token ids.
//!
//! | block | is |
//! |---|---|
//! | logits | linear(norm(stream)) |
//! | stream after a layer | middle + down(silu(gate(norm(middle))) · up(norm(middle))) |
//! | middle of a layer | stream + o(attend(rope(q(n)), rope(k(n)), v(n))), n = norm(stream) |
//! | first stream | embedding |

use super::blocks::{ATTENTION, Blocks, Branch, Projection};
use super::error::Step;
use super::value::{Term, TermId, Terms};
use super::weight::Weight;
use sotto_ir::decoder::Activation;

/// A layer's weights.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layer {
    pub(super) attention_norm: Weight,
    pub(super) q: Projection,
    pub(super) k: Projection,
    pub(super) v: Projection,
    pub(super) o: Projection,
    pub(super) mlp_norm: Weight,
    pub(super) gate: Projection,
    pub(super) up: Projection,
    pub(super) down: Projection,
}

/// A Llama's sizes, constants and weights, as the graph has them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Llama {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) eps: f64,
    pub(super) frequencies: Vec<f64>,
    pub(super) embedding: Weight,
    /// In order.
    pub(super) layers: Vec<Layer>,
    pub(super) final_norm: Weight,
    pub(super) head: Weight,
}

/// Recognizes the Llama whose logits are the term `logits`.
pub(super) fn recognize(terms: &Terms, logits: TermId) -> Step<Llama> {
    let mut found = Layers {
        blocks: Blocks::new(terms),
        shape: None,
    };
    let (head, x) = found.blocks.head(logits)?;
    let (final_norm, mut stream) = found.norm(x, "the final RMSNorm")?;
    let mut layers = Vec::new();
    let embedding = loop {
        if let Term::Embed(table) = terms.get(stream) {
            break table.clone();
        }
        let (layer, before) = found.layer(stream)?;
        layers.push(layer);
        stream = before;
    };
    layers.reverse();
    let expected = "at least one decoder layer between the embedding and the head";
    let (Some(shape), Some(eps)) = (found.shape, found.blocks.eps) else {
        return Err(found.blocks.wrong(stream, expected));
    };
    Ok(Llama {
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        head_dim: shape.head_dim,
        eps,
        frequencies: shape.frequencies,
        embedding,
        layers,
        final_norm,
        head,
    })
}

/// What all layers must have alike.
#[derive(Clone, Debug, PartialEq)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    frequencies: Vec<f64>,
    /// Widths of the MLP, and which projections have biases.
    intermediate: usize,
    biases: [bool; 7],
}

/// The MLP's part of a layer.
const MLP: Branch = Branch {
    ends_with: |term| matches!(term, Term::Product(..)),
    expected: "the residual stream plus an MLP: down(silu(gate(x)) · up(x))",
};

struct Layers<'t> {
    blocks: Blocks<'t>,
    shape: Option<Shape>,
}

impl Layers<'_> {
    /// The norm's weight and what it norms.
    fn norm(&mut self, id: TermId, expected: &str) -> Step<(Weight, TermId)> {
        let Term::Norm { x, eps, weight } = self.blocks.terms.get(id) else {
            return Err(self.blocks.wrong(id, expected));
        };
        self.blocks.same_eps(id, *eps, "RMSNorm")?;
        Ok((weight.clone(), *x))
    }

    /// A layer by its result; also the stream before it.
    fn layer(&mut self, out: TermId) -> Step<(Layer, TermId)> {
        let (middle, down) = self.blocks.residual(out, out, &MLP)?;
        let (stream, o) = self.blocks.residual(middle, out, &ATTENTION)?;
        let (down, product) = self.blocks.linear(down, "the MLP's down projection")?;
        let (gate, up) = self.gated(product)?;
        let (gate, gate_x) = self.blocks.linear(gate, "the MLP's gate projection")?;
        let (up, up_x) = self.blocks.linear(up, "the MLP's up projection")?;
        if gate_x != up_x {
            return Err(self
                .blocks
                .wrong(product, "gate and up projections of one norm"));
        }
        let (mlp_norm, normed) = self.norm(gate_x, "the RMSNorm before the MLP")?;
        if normed != middle {
            return Err(self
                .blocks
                .wrong(gate_x, "the RMSNorm of the stream that the MLP is added to"));
        }
        let (o, attend) = self.blocks.linear(o, "attention's output projection")?;
        let attention = self.attention(attend)?;
        let (attention_norm, normed) = self.norm(attention.x, "the RMSNorm before attention")?;
        if normed != stream {
            return Err(self.blocks.wrong(
                attention.x,
                "the RMSNorm of the stream that attention is added to",
            ));
        }
        let [q, k, v] = attention.projections;
        let layer = Layer {
            attention_norm,
            q,
            k,
            v,
            o,
            mlp_norm,
            gate,
            up,
            down,
        };
        self.alike(out, attention.shape, &layer)?;
        Ok((layer, stream))
    }

    /// Sees that the layer is shaped as the others are.
    fn alike(&mut self, out: TermId, shape: Shape, layer: &Layer) -> Step<()> {
        let all = [
            &layer.q,
            &layer.k,
            &layer.v,
            &layer.o,
            &layer.gate,
            &layer.up,
            &layer.down,
        ];
        let shape = Shape {
            intermediate: layer.gate.weight.shape()[0],
            biases: all.map(|projection| projection.bias.is_some()),
            ..shape
        };
        let [q, k, v, o, mlp @ ..] = shape.biases;
        if (q, q) != (k, v) || (o && !q) || mlp != [mlp[0]; 3] {
            return Err(self.blocks.wrong(
                out,
                "biases on q, k and v or none, on o with them or not, on the MLP's projections all or none",
            ));
        }
        if *self.shape.get_or_insert_with(|| shape.clone()) != shape {
            return Err(self.blocks.wrong(
                out,
                "layers alike: heads, widths, rotary frequencies, which biases there are",
            ));
        }
        Ok(())
    }

    /// The operands of SiLU(gate) · up.
    fn gated(&self, product: TermId) -> Step<(TermId, TermId)> {
        let expected = "SiLU of the gate projection times the up projection";
        let Term::Product(a, b) = *self.blocks.terms.get(product) else {
            return Err(self.blocks.wrong(product, expected));
        };
        match (self.blocks.terms.get(a), self.blocks.terms.get(b)) {
            (Term::Activated(gate, Activation::Silu), _) => Ok((*gate, b)),
            (_, Term::Activated(gate, Activation::Silu)) => Ok((*gate, a)),
            _ => Err(self.blocks.wrong(product, expected)),
        }
    }

    fn attention(&mut self, attend: TermId) -> Step<Attention> {
        let attended = self.blocks.attended(attend)?;
        let (rotated_q, q_frequencies) = self.rotated(attended.q)?;
        let (rotated_k, k_frequencies) = self.rotated(attended.k)?;
        let blocks = &self.blocks;
        if q_frequencies != k_frequencies {
            let expected = "queries and keys rotated by the same frequencies";
            return Err(blocks.wrong(attended.k, expected));
        }
        if 2 * q_frequencies.len() != attended.head_dim {
            return Err(blocks.wrong(attended.q, "rotary embedding of whole heads"));
        }
        let (q, q_x) = blocks.linear(rotated_q, "the query projection")?;
        let (k, k_x) = blocks.linear(rotated_k, "the key projection")?;
        let (v, v_x) = blocks.linear(attended.v, "the value projection")?;
        if q_x != k_x || q_x != v_x {
            return Err(blocks.wrong(attend, "queries, keys and values of one norm"));
        }
        Ok(Attention {
            x: q_x,
            projections: [q, k, v],
            shape: Shape {
                heads: attended.heads,
                kv_heads: attended.kv_heads,
                head_dim: attended.head_dim,
                frequencies: q_frequencies,
                intermediate: 0,
                biases: [false; 7],
            },
        })
    }

    fn rotated(&self, id: TermId) -> Step<(TermId, Vec<f64>)> {
        match self.blocks.terms.get(id) {
            Term::Rope { x, frequencies } => Ok((*x, frequencies.clone())),
            _ => Err(self.blocks.wrong(id, "rotary embedding of a projection")),
        }
    }
}

struct Attention {
    /// What is projected.
    x: TermId,
    /// Queries, keys, values.
    projections: [Projection; 3],
    shape: Shape,
}
