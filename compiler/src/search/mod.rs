//! Equality saturation over a template's real choices: which products share a complex matrix, how each matrix-vector product
//! splits into baby and giant steps, tokens per KV group, the form of softmax's exponential, and whether a norm spends a level
//! on an exact window.
//!
//! [`language`] turns a decoder template into a term, [`rules`] says what equals what, [`price`] what it costs by the committed
//! cost table, and [`extract`] finds the cheapest DAG. Budgets are counts, never time: the same input gives the same choices.
//! Levels are priced as their share of a bootstrap of the value's period; placement, which knows the true levels, follows.

mod extract;
mod facts;
mod language;
mod price;
mod rules;
#[cfg(test)]
mod tests;

use crate::cost::Prices;
use crate::lower::{Choices, LowerError, Model, Options, Ranges, groups};
use egg::{EGraph, Id, Runner, SimpleScheduler, StopReason};
use extract::{Extracted, extract};
use facts::Facts;
use language::{Kernel, term};
use price::{Pricing, leaf, site};
use sotto_ir::decoder::{Decoder, Template};
use sotto_ir::plan::SearchNote;
use std::ops::Range;
use std::time::Duration;

/// Most nodes of an e-graph; one layer needs a few hundred.
const NODES: usize = 50_000;
/// Most rounds of rewriting; the longest chain of rules is the baby steps'.
const ROUNDS: usize = 40;

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The cheapest choices.
    pub choices: Choices,
    /// How far saturation went, all templates together.
    pub note: SearchNote,
    /// Whether extraction weighed every combination.
    pub exact: bool,
    /// Each decision, and what the best program without it would cost more.
    pub decisions: Vec<Decision>,
}

/// A decision taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What was chosen, in words.
    pub chosen: String,
    /// Nanoseconds that the best alternative costs more per layer; None if there is no alternative.
    pub saves: Option<u64>,
}

/// Chooses for the layer template that serves the most layers, and for the final template.
pub fn choose(
    decoder: &Decoder,
    ranges: &Ranges,
    options: &Options,
    prices: &dyn Prices,
) -> Result<Found, LowerError> {
    let plain = Choices::default();
    let model = crate::lower::model(decoder, ranges, options, &plain)?;
    let groups = groups(&model)?;
    let largest = groups.iter().rev().max_by_key(|layers| layers.len());
    let layers = largest.cloned().unwrap_or(0..1);
    let mut found = Found {
        choices: plain.clone(),
        note: SearchNote {
            saturated: true,
            ..SearchNote::default()
        },
        exact: true,
        decisions: Vec::new(),
    };
    for (template, layers) in [(&decoder.layer, layers), (&decoder.final_, 0..1)] {
        one(&model, template, layers, prices, &mut found)?;
    }
    Ok(found)
}

/// Searches one template and adds what it finds.
fn one(
    model: &Model<'_>,
    template: &Template,
    layers: Range<u32>,
    prices: &dyn Prices,
    found: &mut Found,
) -> Result<(), LowerError> {
    let facts = Facts::new(model, template, layers)?;
    let runner = Runner::default()
        .with_expr(&term(template, &facts))
        .with_scheduler(SimpleScheduler)
        .with_node_limit(NODES)
        .with_iter_limit(ROUNDS)
        .with_time_limit(Duration::MAX)
        .run(&rules::rules(facts.tokens));
    let note = &mut found.note;
    note.saturated &= matches!(runner.stop_reason, Some(StopReason::Saturated));
    note.iterations += runner.iterations.len() as u32;
    note.nodes += runner.egraph.total_size() as u32;
    let search = Search {
        root: runner.roots[0],
        egraph: &runner.egraph,
        pricing: Pricing {
            facts: &facts,
            prices,
        },
    };
    let Some(best) = search.best(&|_| true) else {
        return Ok(()); // nothing to choose: the lowering will say what it misses
    };
    found.exact &= best.exact;
    search.adopt(&best, found);
    Ok(())
}

struct Search<'a> {
    egraph: &'a EGraph<Kernel, ()>,
    root: Id,
    pricing: Pricing<'a>,
}

impl Search<'_> {
    /// The cheapest choice of allowed nodes.
    fn best(&self, allowed: &dyn Fn(&Kernel) -> bool) -> Option<Extracted> {
        // a pair of one weight with itself is a waste that rules need not know about
        let sensible = |node: &Kernel| !matches!(node, Kernel::Pair([a, b]) if a == b);
        let allowed = |node: &Kernel| sensible(node) && allowed(node);
        extract(self.egraph, self.root, &self.pricing, &allowed)
    }

    fn adopt(&self, best: &Extracted, found: &mut Found) {
        // by class number, so that the order is the e-graph's
        let mut nodes: Vec<_> = best.nodes.iter().collect();
        nodes.sort_by_key(|(id, _)| **id);
        for (_, node) in nodes {
            let Some(chosen) = self.decide(best, node, &mut found.choices) else {
                continue;
            };
            let without = self.best(&|other| !same(node, other));
            found.decisions.push(Decision {
                chosen,
                saves: without.map(|other| other.cost - best.cost),
            });
        }
    }

    /// Records a node's decision; gives it in words where an alternative is worth naming.
    fn decide(&self, best: &Extracted, node: &Kernel, choices: &mut Choices) -> Option<String> {
        let name = |id: Id| site(self.egraph, id).to_string();
        let number = |id: Id| match leaf(self.egraph, id) {
            Kernel::Num(n) => *n,
            _ => 0,
        };
        match node {
            Kernel::Linear([baby, weight, _]) => {
                let sites = match best.nodes.get(&self.egraph.find(*weight)) {
                    Some(Kernel::Pair([a, b])) => vec![name(*a), name(*b)],
                    _ => vec![name(*weight)],
                };
                let baby = number(*baby);
                choices
                    .baby
                    .extend(sites.into_iter().map(|site| (site, baby)));
                None
            }
            Kernel::Pair([a, b]) => {
                choices.pairs.push((name(*a), name(*b)));
                Some(format!(
                    "{} and {} in one complex product",
                    name(*a),
                    name(*b)
                ))
            }
            Kernel::Norm([scaled, norm, _]) => {
                let scaled = number(*scaled) == 1;
                if scaled {
                    choices.scaled_norms.insert(name(*norm));
                }
                let form = if scaled {
                    "a level for its exact window"
                } else {
                    "its window by additions"
                };
                Some(format!("{}: {form}", name(*norm)))
            }
            Kernel::Attend([tokens, squarings, ..]) => {
                choices.tokens = Some(number(*tokens));
                choices.squarings = number(*squarings);
                let (tokens, squarings) = (number(*tokens), number(*squarings));
                Some(format!(
                    "{tokens} tokens a group, exponential by {squarings} squarings"
                ))
            }
            _ => None,
        }
    }
}

/// Whether two nodes are one decision; a pair is the same in either order.
fn same(a: &Kernel, b: &Kernel) -> bool {
    match (a, b) {
        (Kernel::Pair([a, b]), Kernel::Pair([c, d])) => (a, b) == (c, d) || (a, b) == (d, c),
        _ => a == b,
    }
}
