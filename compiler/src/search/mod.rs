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
use crate::lower::{Choices, LowerError, Model, Options, Ranges, Way, groups};
use egg::{EGraph, Id, Runner, SimpleScheduler, StopReason};
use extract::{Extracted, extract};
use facts::Facts;
use language::{Kernel, term};
use price::{Pricing, leaf, site};
use sotto_ir::decoder::{Decoder, Op, Template};
use sotto_ir::plan::{Decision, Rejected, SearchNote};
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
    /// Each decision with its closest alternatives.
    pub decisions: Vec<Decision>,
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
        attend: attend_site(template),
    };
    let Some(best) = search.best(&|_| true) else {
        return Ok(()); // nothing to choose: the lowering will say what it misses
    };
    found.exact &= best.exact;
    search.adopt(&best, found);
    Ok(())
}

/// Site of a template's attention; empty if it has none.
fn attend_site(template: &Template) -> String {
    let mut insts = template.insts.iter();
    let attend = insts.find(|inst| matches!(inst.op, Op::Attend { .. }));
    attend.map_or(String::new(), |inst| inst.site.clone())
}

struct Search<'a> {
    egraph: &'a EGraph<Kernel, ()>,
    root: Id,
    pricing: Pricing<'a>,
    /// Site of the attention, which its kernel does not name.
    attend: String,
}

/// A node's decision in words.
struct Words {
    site: String,
    chosen: String,
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
        for (id, node) in nodes {
            self.record(node, &mut found.choices);
            let Some(Words { site, chosen }) = self.words(node) else {
                continue;
            };
            let mut rejected = self.rejected(best, *id, node);
            rejected.sort_by(|a, b| (a.extra_nanos, &a.what).cmp(&(b.extra_nanos, &b.what)));
            found.decisions.push(Decision {
                site,
                chosen,
                rejected,
            });
        }
    }

    /// The closest alternatives to a node, each with what the best program that has it costs more.
    fn rejected(&self, best: &Extracted, class: Id, node: &Kernel) -> Vec<Rejected> {
        if let Kernel::Pair([a, b]) = node {
            let sites = [self.name(*a), self.name(*b)];
            let apart = |other: Extracted| Rejected {
                what: self.products(&other, &sites),
                extra_nanos: other.cost.saturating_sub(best.cost),
            };
            let without = self.best(&|other| !same(node, other));
            return without.map(apart).into_iter().collect();
        }
        let siblings: Vec<&Kernel> = self.egraph[class]
            .nodes
            .iter()
            .filter(|other| self.differs(node, other).is_some())
            .collect();
        let close = |other: &&&Kernel| self.differs(node, other) == Some(1);
        let one = |alternative: &Kernel| {
            let allowed = |other: &Kernel| other == alternative || !self.rivals(other, alternative);
            let found = self.best(&allowed)?;
            Some(Rejected {
                what: self.words(alternative)?.chosen,
                extra_nanos: found.cost.saturating_sub(best.cost),
            })
        };
        let alternatives = siblings.iter().filter(close);
        alternatives.filter_map(|other| one(other)).collect()
    }

    /// The products of a program that serve any of these sites, in words.
    fn products(&self, program: &Extracted, sites: &[String]) -> String {
        let served = program.nodes.values().filter_map(|node| match node {
            Kernel::Linear([_, weight, _]) => Some(self.serves(*weight)),
            _ => None,
        });
        let mut products: Vec<String> = served
            .filter(|served| served.iter().any(|site| sites.contains(site)))
            .map(|served| served.join(" + "))
            .collect();
        products.sort();
        format!("products of {}", products.join(", of "))
    }

    /// Whether a program has either of two different nodes for the same work: products that serve a site in common, or one
    /// decision taken differently.
    fn rivals(&self, a: &Kernel, b: &Kernel) -> bool {
        match (a, b) {
            (Kernel::Linear([_, w, _]), Kernel::Linear([_, v, _])) => {
                let sites = self.serves(*v);
                self.serves(*w).iter().any(|site| sites.contains(site))
            }
            _ => self.differs(a, b).is_some(),
        }
    }

    /// In how many steps one node's decisions become another's of the same kernel on the same operands; None if they are not alternatives.
    fn differs(&self, a: &Kernel, b: &Kernel) -> Option<u32> {
        let steps = |a: &Id, b: &Id| {
            let (a, b) = (self.number(*a), self.number(*b));
            (a != b).then_some(if a.max(b) == 2 * a.min(b) || a.abs_diff(b) == 1 {
                1
            } else {
                2
            })
        };
        let total = |pairs: &[(&Id, &Id)]| {
            let steps: Vec<u32> = pairs.iter().filter_map(|(a, b)| steps(a, b)).collect();
            (!steps.is_empty()).then(|| steps.iter().sum())
        };
        match (a, b) {
            (Kernel::Linear([n, w, x]), Kernel::Linear([m, v, y])) if (w, x) == (v, y) => {
                total(&[(n, m)])
            }
            (Kernel::Norm([n, s, x]), Kernel::Norm([m, t, y])) if (s, x) == (t, y) => {
                total(&[(n, m)])
            }
            (Kernel::Attend([n, k, q, s]), Kernel::Attend([m, l, r, t])) if (q, s) == (r, t) => {
                total(&[(n, m), (k, l)])
            }
            _ => None,
        }
    }

    fn number(&self, id: Id) -> u32 {
        match leaf(self.egraph, id) {
            Kernel::Num(n) => *n,
            _ => 0,
        }
    }

    fn name(&self, id: Id) -> String {
        site(self.egraph, id).to_string()
    }

    /// The sites that a weight, or a pair of weights, serves.
    fn serves(&self, weight: Id) -> Vec<String> {
        match leaf(self.egraph, weight) {
            Kernel::Pair([a, b]) => vec![self.name(*a), self.name(*b)],
            _ => vec![self.name(weight)],
        }
    }

    /// Records a node's decision.
    fn record(&self, node: &Kernel, choices: &mut Choices) {
        match node {
            Kernel::Linear([baby, weight, _]) => {
                let way = Way {
                    baby: Some(self.number(*baby)),
                    ..Way::default()
                };
                let sites = self.serves(*weight).into_iter();
                choices.ways.extend(sites.map(|site| (site, way)));
            }
            Kernel::Pair([a, b]) => choices.pairs.push((self.name(*a), self.name(*b))),
            Kernel::Norm([scaled, norm, _]) if self.number(*scaled) == 1 => {
                choices.scaled_norms.insert(self.name(*norm));
            }
            Kernel::Attend([tokens, squarings, ..]) => {
                choices.tokens = Some(self.number(*tokens));
                choices.squarings = self.number(*squarings);
            }
            _ => {}
        }
    }

    /// A node's decision in words, if it is one.
    fn words(&self, node: &Kernel) -> Option<Words> {
        let (site, chosen) = match node {
            Kernel::Linear([baby, weight, _]) => {
                let site = self.serves(*weight).join(" + ");
                (site, format!("{} baby steps", self.number(*baby)))
            }
            Kernel::Pair([a, b]) => {
                let site = format!("{} + {}", self.name(*a), self.name(*b));
                (site, "one complex product".into())
            }
            Kernel::Norm([scaled, norm, _]) => {
                let form = match self.number(*scaled) {
                    1 => "a level for its exact window",
                    _ => "its window by additions",
                };
                (self.name(*norm), form.into())
            }
            Kernel::Attend([tokens, squarings, ..]) => {
                let (tokens, squarings) = (self.number(*tokens), self.number(*squarings));
                let words =
                    format!("{tokens} tokens a group, exponential by {squarings} squarings");
                (self.attend.clone(), words)
            }
            _ => return None,
        };
        Some(Words { site, chosen })
    }
}

/// Whether two nodes are one decision; a pair is the same in either order.
fn same(a: &Kernel, b: &Kernel) -> bool {
    match (a, b) {
        (Kernel::Pair([a, b]), Kernel::Pair([c, d])) => (a, b) == (c, d) || (a, b) == (d, c),
        _ => a == b,
    }
}
