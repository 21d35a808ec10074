//! Llama's blocks, seen from the logits back to the token ids.
//!
//! | block | is |
//! |---|---|
//! | logits | linear(norm(stream)) |
//! | stream after a layer | middle + down(silu(gate(norm(middle))) · up(norm(middle))) |
//! | middle of a layer | stream + o(attend(rope(q(n)), rope(k(n)), v(n))), n = norm(stream) |
//! | first stream | embedding |

use super::attention::scores_of;
use super::error::{Refusal, Step};
use super::value::{Cached, Term, TermId, Terms, Weight};

/// A linear map: weight [out, in], bias [out].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Projection {
    pub(super) weight: Weight,
    pub(super) bias: Option<Weight>,
}

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
    let mut blocks = Blocks {
        terms,
        shape: None,
        eps: None,
        pasts: Vec::new(),
    };
    let (head, x) = blocks.linear(
        logits,
        "the head: a projection to the vocabulary without bias",
    )?;
    if head.bias.is_some() {
        return Err(blocks.wrong(logits, "the head: a projection without bias"));
    }
    let (final_norm, mut stream) = blocks.norm(x, "the final RMSNorm")?;
    let mut layers = Vec::new();
    let embedding = loop {
        if let Term::Embed(table) = terms.get(stream) {
            break table.clone();
        }
        let (layer, before) = blocks.layer(stream)?;
        layers.push(layer);
        stream = before;
    };
    layers.reverse();
    let expected = "at least one decoder layer between the embedding and the head";
    let (Some(shape), Some(eps)) = (blocks.shape.take(), blocks.eps) else {
        return Err(blocks.wrong(stream, expected));
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
        head: head.weight,
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

struct Blocks<'t> {
    terms: &'t Terms,
    shape: Option<Shape>,
    eps: Option<f64>,
    /// Inputs of earlier keys and values that a layer has taken.
    pasts: Vec<Option<TermId>>,
}

impl Blocks<'_> {
    /// A refusal that names the node a term was made at.
    fn wrong(&self, term: TermId, expected: &str) -> Refusal {
        let found = format!("here is {}", self.terms.get(term).describe());
        Refusal::new(found, expected).blaming(self.terms.node(term))
    }

    fn linear(&self, id: TermId, expected: &str) -> Step<(Projection, TermId)> {
        match self.terms.get(id) {
            Term::Linear { x, weight, bias } => {
                let (weight, bias) = (weight.clone(), bias.clone());
                Ok((Projection { weight, bias }, *x))
            }
            _ => Err(self.wrong(id, expected)),
        }
    }

    /// The norm's weight and what it norms.
    fn norm(&mut self, id: TermId, expected: &str) -> Step<(Weight, TermId)> {
        let Term::Norm { x, eps, weight } = self.terms.get(id) else {
            return Err(self.wrong(id, expected));
        };
        if *self.eps.get_or_insert(*eps) != *eps {
            return Err(self.wrong(id, "the same eps in every RMSNorm"));
        }
        Ok((weight.clone(), *x))
    }

    /// A layer by its result; also the stream before it.
    fn layer(&mut self, out: TermId) -> Step<(Layer, TermId)> {
        let (middle, down) = self.residual(out, out, Branch::Mlp)?;
        let (stream, o) = self.residual(middle, out, Branch::Attention)?;
        let (down, product) = self.linear(down, "the MLP's down projection")?;
        let (gate, up) = self.gated(product)?;
        let (gate, gate_x) = self.linear(gate, "the MLP's gate projection")?;
        let (up, up_x) = self.linear(up, "the MLP's up projection")?;
        if gate_x != up_x {
            return Err(self.wrong(product, "gate and up projections of one norm"));
        }
        let (mlp_norm, normed) = self.norm(gate_x, "the RMSNorm before the MLP")?;
        if normed != middle {
            return Err(self.wrong(gate_x, "the RMSNorm of the stream that the MLP is added to"));
        }
        let (o, attend) = self.linear(o, "attention's output projection")?;
        let attention = self.attention(attend)?;
        let (attention_norm, normed) = self.norm(attention.x, "the RMSNorm before attention")?;
        if normed != stream {
            return Err(self.wrong(
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
            return Err(self.wrong(
                out,
                "biases on q, k and v or none, on o with them or not, on the MLP's projections all or none",
            ));
        }
        if *self.shape.get_or_insert_with(|| shape.clone()) != shape {
            return Err(self.wrong(
                out,
                "layers alike: heads, widths, rotary frequencies, which biases there are",
            ));
        }
        Ok(())
    }

    /// A sum's residual stream and branch; `user` is what reads it.
    fn residual(&self, sum: TermId, user: TermId, branch: Branch) -> Step<(TermId, TermId)> {
        let Term::Sum(a, b) = *self.terms.get(sum) else {
            let refusal = self.wrong(sum, branch.expected());
            return Err(match self.terms.get(sum) {
                // The embedding is right where it is: who reads it too early is not.
                Term::Embed(_) => refusal.blaming(self.terms.node(user)),
                _ => refusal,
            });
        };
        let is_branch = |id: TermId| match self.terms.get(id) {
            Term::Linear { x, .. } => branch.ends_with(self.terms.get(*x)),
            _ => false,
        };
        match (is_branch(a), is_branch(b)) {
            (false, true) => Ok((a, b)),
            (true, false) => Ok((b, a)),
            _ => Err(self.wrong(sum, branch.expected())),
        }
    }

    /// The operands of SiLU(gate) · up.
    fn gated(&self, product: TermId) -> Step<(TermId, TermId)> {
        let expected = "SiLU of the gate projection times the up projection";
        let Term::Product(a, b) = *self.terms.get(product) else {
            return Err(self.wrong(product, expected));
        };
        match (self.terms.get(a), self.terms.get(b)) {
            (Term::Silu(gate), _) => Ok((*gate, b)),
            (_, Term::Silu(gate)) => Ok((*gate, a)),
            _ => Err(self.wrong(product, expected)),
        }
    }

    fn attention(&mut self, attend: TermId) -> Step<Attention> {
        let expected = "attention: softmax of scaled, masked scores times values";
        let Term::Attend { probabilities, v } = self.terms.get(attend) else {
            return Err(self.wrong(attend, expected));
        };
        let Some((Term::Scores { q, k, heads }, scale)) = scores_of(self.terms, *probabilities)
        else {
            return Err(self.wrong(attend, expected));
        };
        let (rotated_q, q_frequencies) = self.rotated(*q)?;
        let (rotated_k, k_frequencies) = self.rotated(k.now)?;
        if q_frequencies != k_frequencies {
            return Err(self.wrong(k.now, "queries and keys rotated by the same frequencies"));
        }
        let head_dim = self.terms.width(*q) / heads.max(&1);
        if 2 * q_frequencies.len() != head_dim {
            return Err(self.wrong(*q, "rotary embedding of whole heads"));
        }
        if (scale * (head_dim as f64).sqrt() - 1.0).abs() > 1e-5 {
            let expected = format!("scores scaled by 1/sqrt(head_dim) = 1/sqrt({head_dim})");
            let refusal = Refusal::new(format!("scores are scaled by {scale}"), expected);
            return Err(refusal.blaming(self.terms.node(attend)));
        }
        let (q, q_x) = self.linear(rotated_q, "the query projection")?;
        let (k_projection, k_x) = self.linear(rotated_k, "the key projection")?;
        let (v_projection, v_x) = self.linear(v.now, "the value projection")?;
        if q_x != k_x || q_x != v_x || k.kv_heads != v.kv_heads {
            return Err(self.wrong(
                attend,
                "queries, keys and values of one norm, in one grouping",
            ));
        }
        self.take(attend, k, v)?;
        Ok(Attention {
            x: q_x,
            projections: [q, k_projection, v_projection],
            shape: Shape {
                heads: *heads,
                kv_heads: k.kv_heads,
                head_dim,
                frequencies: q_frequencies,
                intermediate: 0,
                biases: [false; 7],
            },
        })
    }

    /// Sees that a layer's earlier keys and values are its own.
    fn take(&mut self, attend: TermId, k: &Cached, v: &Cached) -> Step<()> {
        for past in [k.past, v.past] {
            if past.is_some() && self.pasts.contains(&past) {
                return Err(self.wrong(
                    attend,
                    "earlier keys and values of each layer in inputs of their own",
                ));
            }
            self.pasts.push(past);
        }
        Ok(())
    }

    fn rotated(&self, id: TermId) -> Step<(TermId, Vec<f64>)> {
        match self.terms.get(id) {
            Term::Rope { x, frequencies } => Ok((*x, frequencies.clone())),
            _ => Err(self.wrong(id, "rotary embedding of a projection")),
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

#[derive(Clone, Copy)]
enum Branch {
    Mlp,
    Attention,
}

impl Branch {
    fn ends_with(self, term: &Term) -> bool {
        match self {
            Self::Mlp => matches!(term, Term::Product(..)),
            Self::Attention => matches!(term, Term::Attend { .. }),
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Mlp => "the residual stream plus an MLP: down(silu(gate(x)) · up(x))",
            Self::Attention => "the residual stream plus attention's output projection",
        }
    }
}
