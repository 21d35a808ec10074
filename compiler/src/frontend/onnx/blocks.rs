//! What the blocks of every family are recognized with: projections, residual sums, attention over a cache.

use super::attention::scores_of;
use super::error::{Refusal, Step};
use super::value::{Cached, Term, TermId, Terms};
use super::weight::Weight;

/// A linear map: weight [out, in], bias [out].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Projection {
    pub(super) weight: Weight,
    pub(super) bias: Option<Weight>,
}

/// Terms of a graph, and what has been seen in them so far.
pub(super) struct Blocks<'t> {
    pub(super) terms: &'t Terms,
    /// Of the norms.
    pub(super) eps: Option<f64>,
    /// Inputs of earlier keys and values that a layer has taken.
    pasts: Vec<Option<TermId>>,
}

/// Attention as far as it is the same in every family.
pub(super) struct Attended {
    pub(super) q: TermId,
    pub(super) k: TermId,
    pub(super) v: TermId,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
}

/// What a family adds to the residual stream.
pub(super) struct Branch {
    /// What the branch's last projection is of.
    pub(super) ends_with: fn(&Term) -> bool,
    /// In words.
    pub(super) expected: &'static str,
}

/// Attention's part of a layer.
pub(super) const ATTENTION: Branch = Branch {
    ends_with: |term| matches!(term, Term::Attend { .. }),
    expected: "the residual stream plus attention's output projection",
};

impl<'t> Blocks<'t> {
    pub(super) fn new(terms: &'t Terms) -> Self {
        Self {
            terms,
            eps: None,
            pasts: Vec::new(),
        }
    }

    /// A refusal that names the node a term was made at.
    pub(super) fn wrong(&self, term: TermId, expected: &str) -> Refusal {
        let found = format!("here is {}", self.terms.get(term).describe());
        Refusal::new(found, expected).blaming(self.terms.node(term))
    }

    pub(super) fn linear(&self, id: TermId, expected: &str) -> Step<(Projection, TermId)> {
        match self.terms.get(id) {
            Term::Linear { x, weight, bias } => {
                let (weight, bias) = (weight.clone(), bias.clone());
                Ok((Projection { weight, bias }, *x))
            }
            _ => Err(self.wrong(id, expected)),
        }
    }

    /// The head's weight, and what it is applied to.
    pub(super) fn head(&self, logits: TermId) -> Step<(Weight, TermId)> {
        let expected = "the head: a projection to the vocabulary without bias";
        match self.linear(logits, expected)? {
            (Projection { weight, bias: None }, x) => Ok((weight, x)),
            _ => Err(self.wrong(logits, expected)),
        }
    }

    /// Sees that a norm's eps is that of the others; `kind` is what the family's norms are called.
    pub(super) fn same_eps(&mut self, norm: TermId, eps: f64, kind: &str) -> Step<()> {
        match *self.eps.get_or_insert(eps) == eps {
            true => Ok(()),
            false => Err(self.wrong(norm, &format!("the same eps in every {kind}"))),
        }
    }

    /// A sum's residual stream and branch; `user` is what reads it.
    pub(super) fn residual(
        &self,
        sum: TermId,
        user: TermId,
        branch: &Branch,
    ) -> Step<(TermId, TermId)> {
        let Term::Sum(a, b) = *self.terms.get(sum) else {
            let refusal = self.wrong(sum, branch.expected);
            return Err(match self.terms.get(sum) {
                // The first stream is right where it is: who reads it too early is not.
                Term::Embed(_) | Term::Positioned { .. } => refusal.blaming(self.terms.node(user)),
                _ => refusal,
            });
        };
        let is_branch = |id: TermId| match self.terms.get(id) {
            Term::Linear { x, .. } => (branch.ends_with)(self.terms.get(*x)),
            _ => false,
        };
        match (is_branch(a), is_branch(b)) {
            (false, true) => Ok((a, b)),
            (true, false) => Ok((b, a)),
            _ => Err(self.wrong(sum, branch.expected)),
        }
    }

    /// What attention is over. Its scale is that of the head's width, its earlier keys and values are no other layer's.
    pub(super) fn attended(&mut self, attend: TermId) -> Step<Attended> {
        let expected = "attention: softmax of scaled, masked scores times values";
        let Term::Attend { probabilities, v } = self.terms.get(attend) else {
            return Err(self.wrong(attend, expected));
        };
        let Some((Term::Scores { q, k, heads }, scale)) = scores_of(self.terms, *probabilities)
        else {
            return Err(self.wrong(attend, expected));
        };
        let head_dim = self.terms.width(*q) / heads.max(&1);
        if (scale * (head_dim as f64).sqrt() - 1.0).abs() > 1e-5 {
            let expected = format!("scores scaled by 1/sqrt(head_dim) = 1/sqrt({head_dim})");
            let refusal = Refusal::new(format!("scores are scaled by {scale}"), expected);
            return Err(refusal.blaming(self.terms.node(attend)));
        }
        if k.kv_heads != v.kv_heads {
            return Err(self.wrong(attend, "keys and values in one grouping"));
        }
        self.take(attend, k, v)?;
        Ok(Attended {
            q: *q,
            k: k.now,
            v: v.now,
            heads: *heads,
            kv_heads: k.kv_heads,
            head_dim,
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
}
