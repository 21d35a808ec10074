//! GPT-2's blocks, seen from the logits back to the token ids.
//!
//! | block | is |
//! |---|---|
//! | logits | linear(norm(stream)) |
//! | stream after a layer | middle + down(gelu(up(norm(middle)))) |
//! | middle of a layer | stream + o(attend(q, k, v)), the thirds of fused(norm(stream)) |
//! | first stream | embedding + positions |

use super::blocks::{ATTENTION, Blocks, Branch, Projection};
use super::error::{Refusal, Step};
use super::value::{Term, TermId, Terms};
use super::weight::Weight;
use sotto_ir::decoder::Activation;

/// A linear map: weight [out, in], bias [out].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Affine {
    pub(super) weight: Weight,
    pub(super) bias: Weight,
}

/// A layer's weights.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layer {
    pub(super) attention_norm: Affine,
    /// Queries, keys and values, one below the other.
    pub(super) fused: Affine,
    pub(super) o: Affine,
    pub(super) mlp_norm: Affine,
    pub(super) up: Affine,
    pub(super) down: Affine,
}

/// A GPT-2's sizes, constants and weights, as the graph has them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gpt2 {
    pub(super) heads: usize,
    pub(super) head_dim: usize,
    pub(super) intermediate: usize,
    pub(super) activation: Activation,
    pub(super) eps: f64,
    pub(super) embedding: Weight,
    /// The table of positions.
    pub(super) positions: Weight,
    /// In order.
    pub(super) layers: Vec<Layer>,
    pub(super) final_norm: Affine,
    pub(super) head: Weight,
}

/// Recognizes the GPT-2 whose logits are the term `logits`.
pub(super) fn recognize(terms: &Terms, logits: TermId) -> Step<Gpt2> {
    let mut found = Layers {
        blocks: Blocks::new(terms),
        shape: None,
    };
    let (head, x) = found.blocks.head(logits)?;
    let (final_norm, mut stream) = found.norm(x, "the final LayerNorm")?;
    let mut layers = Vec::new();
    let (embedding, positions) = loop {
        match terms.get(stream) {
            Term::Positioned { x, table } => break (found.embedding(*x)?, table.clone()),
            Term::Embed(_) => {
                let expected = "Add of the rows of a table of positions to the embedding";
                return Err(found.blocks.wrong(stream, expected));
            }
            _ => {}
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
    Ok(Gpt2 {
        heads: shape.heads,
        head_dim: shape.head_dim,
        intermediate: shape.intermediate,
        activation: shape.activation,
        eps,
        embedding,
        positions,
        layers,
        final_norm,
        head,
    })
}

/// What all layers must have alike.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    heads: usize,
    head_dim: usize,
    intermediate: usize,
    activation: Activation,
}

/// The MLP's part of a layer.
const MLP: Branch = Branch {
    ends_with: |term| matches!(term, Term::Activated(..)),
    expected: "the residual stream plus an MLP: down(gelu(up(x)))",
};

struct Layers<'t> {
    blocks: Blocks<'t>,
    shape: Option<Shape>,
}

impl Layers<'_> {
    fn embedding(&self, id: TermId) -> Step<Weight> {
        match self.blocks.terms.get(id) {
            Term::Embed(table) => Ok(table.clone()),
            _ => Err(self.blocks.wrong(id, "the token ids' embedding")),
        }
    }

    /// The norm's weights and what it norms.
    fn norm(&mut self, id: TermId, expected: &str) -> Step<(Affine, TermId)> {
        let Term::LayerNorm {
            x,
            eps,
            weight,
            bias,
        } = self.blocks.terms.get(id)
        else {
            return Err(self.blocks.wrong(id, expected));
        };
        self.blocks.same_eps(id, *eps, "LayerNorm")?;
        let (weight, bias) = (weight.clone(), bias.clone());
        Ok((Affine { weight, bias }, *x))
    }

    /// A projection with its bias, zeros if it has none, and what it is of.
    fn affine(&self, id: TermId, expected: &str) -> Step<(Affine, TermId)> {
        let (Projection { weight, bias }, x) = self.blocks.linear(id, expected)?;
        let bias = bias.unwrap_or_else(|| Weight::zeros(self.blocks.terms.width(id)));
        Ok((Affine { weight, bias }, x))
    }

    /// A layer by its result; also the stream before it.
    fn layer(&mut self, out: TermId) -> Step<(Layer, TermId)> {
        let (middle, down) = self.blocks.residual(out, out, &MLP)?;
        let (stream, o) = self.blocks.residual(middle, out, &ATTENTION)?;
        let (down, activated) = self.affine(down, "the MLP's down projection")?;
        let (activation, up) = self.gelu(activated)?;
        let (up, up_x) = self.affine(up, "the MLP's up projection")?;
        let (mlp_norm, normed) = self.norm(up_x, "the LayerNorm before the MLP")?;
        if normed != middle {
            let expected = "the LayerNorm of the stream that the MLP is added to";
            return Err(self.blocks.wrong(up_x, expected));
        }
        let (o, attend) = self.affine(o, "attention's output projection")?;
        let attention = self.attention(attend)?;
        let (attention_norm, normed) = self.norm(attention.x, "the LayerNorm before attention")?;
        if normed != stream {
            let expected = "the LayerNorm of the stream that attention is added to";
            return Err(self.blocks.wrong(attention.x, expected));
        }
        let shape = Shape {
            heads: attention.heads,
            head_dim: attention.head_dim,
            intermediate: self.blocks.terms.width(activated),
            activation,
        };
        if *self.shape.get_or_insert(shape) != shape {
            let expected = "layers alike: heads, widths, which GELU";
            return Err(self.blocks.wrong(out, expected));
        }
        let fused = attention.fused;
        let layer = Layer {
            attention_norm,
            fused,
            o,
            mlp_norm,
            up,
            down,
        };
        Ok((layer, stream))
    }

    fn gelu(&self, id: TermId) -> Step<(Activation, TermId)> {
        match *self.blocks.terms.get(id) {
            Term::Activated(up, activation @ (Activation::Gelu | Activation::GeluTanh)) => {
                Ok((activation, up))
            }
            _ => Err(self.blocks.wrong(id, "a GELU of the up projection")),
        }
    }

    fn attention(&mut self, attend: TermId) -> Step<Attention> {
        let attended = self.blocks.attended(attend)?;
        if attended.kv_heads != attended.heads {
            let expected = "as many key and value heads as query heads";
            return Err(self.blocks.wrong(attend, expected));
        }
        let width = attended.heads * attended.head_dim;
        let thirds = [attended.q, attended.k, attended.v];
        let wrong = |i: usize| self.not_third(attend, thirds[i], PARTS[i]);
        let x = self.third(thirds[0], 0, width).ok_or_else(|| wrong(0))?;
        for (i, &id) in thirds.iter().enumerate() {
            if self.third(id, i, width) != Some(x) {
                return Err(wrong(i));
            }
        }
        let (fused, x) = self.affine(x, "the projection to queries, keys and values")?;
        Ok(Attention {
            x,
            fused,
            heads: attended.heads,
            head_dim: attended.head_dim,
        })
    }

    /// What the queries, keys or values are third `i` of.
    fn third(&self, id: TermId, i: usize, width: usize) -> Option<TermId> {
        let terms = self.blocks.terms;
        match *terms.get(id) {
            Term::Part { x, first } => {
                let found = (first, terms.width(x));
                (found == (i * width, PARTS.len() * width)).then_some(x)
            }
            _ => None,
        }
    }

    /// A refusal of what attention takes for queries, keys or values.
    fn not_third(&self, attend: TermId, id: TermId, expected: &str) -> Refusal {
        let terms = self.blocks.terms;
        let found = match *terms.get(id) {
            Term::Part { x, first } => format!(
                "it takes features {first} to {} of the projection of {} at node {} of the graph",
                first + terms.width(id) - 1,
                terms.width(x),
                terms.node(x) + 1
            ),
            ref other => format!("it takes {}", other.describe()),
        };
        Refusal::new(found, expected).blaming(terms.node(attend))
    }
}

/// What stands in which third of the fused projection.
const PARTS: [&str; 3] = [
    "queries: the first third of one projection to queries, keys and values",
    "keys: the second third of the projection that the queries are of",
    "values: the last third of the projection that the queries are of",
];

struct Attention {
    /// What is projected.
    x: TermId,
    /// The projection to queries, keys and values.
    fused: Affine,
    heads: usize,
    head_dim: usize,
}
