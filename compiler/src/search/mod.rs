//! Equality saturation over a template's real choices: which products share a complex matrix, how each matrix-vector product
//! splits into baby and giant steps, tokens per KV group, the form of softmax's exponential, and whether a norm spends a level
//! on an exact window.
//!
//! [`language`] turns a decoder template into a term, [`rules`] says what equals what, [`price`] what it costs by the committed
//! cost table, and [`extract`] finds the cheapest DAG. Budgets are counts, never time: the same input gives the same choices.
//! Levels are priced as a share of a bootstrap of the value's period; placement, which knows the true levels, follows, and what it
//! finds can price the next proposal ([`Space::learn`]).

mod decisions;
mod extract;
mod facts;
mod language;
mod pin;
mod price;
mod rules;
#[cfg(test)]
mod tests;

use crate::cost::Prices;
use crate::lower::{Choices, LowerError, Options, Ranges, groups, typical};
use decisions::Search;
use egg::{EGraph, Id, Runner, SimpleScheduler, StopReason};
use extract::Extracted;
use facts::Facts;
use language::{Kernel, term};
use pin::FORMS;
pub use pin::{Form, Pin, PinError};
pub use price::Levels;
use price::Pricing;
pub use rules::Alternative;
use sotto_ir::decoder::{Decoder, Op, Template};
use sotto_ir::plan::{Decision, Placement, SearchNote};
use std::time::Duration;

/// Most nodes of an e-graph; one layer needs a few hundred.
const NODES: usize = 50_000;
/// Most rounds of rewriting; the longest chain of rules is the baby steps'.
const ROUNDS: usize = 40;

/// Levels above any chain's.
const MOST_LEVELS: u32 = 32;

/// What the caller takes from the search.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guidance {
    /// Decisions made.
    pub pins: Vec<Pin>,
    /// Families of rules not to use.
    pub without: Vec<Alternative>,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The cheapest choices.
    pub choices: Choices,
    /// How far saturation went, all templates together.
    pub note: SearchNote,
    /// Whether extraction weighed every combination.
    pub exact: bool,
    /// Nanoseconds of one layer and of the final template, by the search's prices.
    pub nanos: u64,
    /// Each decision with its closest alternatives, where asked for.
    pub decisions: Vec<Decision>,
    /// Each template's program.
    programs: Vec<Extracted>,
}

/// A search with everything at its defaults: the choices that suit `guidance`, explained.
pub fn choose(
    decoder: &Decoder,
    ranges: &Ranges,
    options: &Options,
    guidance: &Guidance,
    prices: &dyn Prices,
) -> Result<Found, LowerError> {
    let Guidance { pins, without } = guidance;
    let space = Space::new(decoder, ranges, options, without)?;
    let levels = Levels::default();
    Ok(space.explained(&space.choose(pins, levels, prices)?, pins, levels, prices))
}

/// Every program of a model that the rules make, ready to be priced.
pub struct Space {
    /// What is chosen where nothing is.
    plain: Choices,
    parts: Vec<Part>,
    note: SearchNote,
}

/// The programs of one template.
struct Part {
    template: Template,
    facts: Facts,
    /// Times that the template runs for one token.
    count: u64,
    egraph: EGraph<Kernel, ()>,
    root: Id,
}

impl Space {
    /// The programs of the layer template that serves the most layers, and of the final template, by all rules but those of `without`.
    pub fn new(
        decoder: &Decoder,
        ranges: &Ranges,
        options: &Options,
        without: &[Alternative],
    ) -> Result<Space, LowerError> {
        let plain = plainest(decoder, ranges, options)?;
        let model = crate::lower::model(decoder, ranges, options, &plain)?;
        let layers = typical(&groups(&model)?);
        let mut note = SearchNote {
            saturated: true,
            ..SearchNote::default()
        };
        let mut parts = Vec::new();
        let count = decoder.model.layers as u64;
        for (template, layers, count) in [
            (decoder.layer.clone(), layers, count),
            (finale(decoder, options), 0..1, 1),
        ] {
            let facts = Facts::new(&model, &template, layers)?;
            let runner = saturated(&template, &facts, without);
            note.saturated &= matches!(runner.stop_reason, Some(StopReason::Saturated));
            note.iterations += runner.iterations.len() as u32;
            note.nodes += runner.egraph.total_size() as u32;
            parts.push(Part {
                root: runner.roots[0],
                egraph: runner.egraph,
                template,
                facts,
                count,
            });
        }
        Ok(Space { plain, parts, note })
    }

    /// The cheapest choices that have every pin, without what was turned down.
    pub fn choose(
        &self,
        pins: &[Pin],
        levels: Levels,
        prices: &dyn Prices,
    ) -> Result<Found, LowerError> {
        let templates: Vec<&Template> = self.parts.iter().map(|part| &part.template).collect();
        check_pins(&templates, pins)?;
        let mut found = Found {
            choices: self.plain.clone(),
            note: self.note,
            exact: true,
            nanos: 0,
            decisions: Vec::new(),
            programs: Vec::new(),
        };
        for part in &self.parts {
            let search = part.search(pins, levels, prices);
            let Some(best) = search.best(&|_| true) else {
                if pins.iter().any(|pin| has_site(&part.template, &pin.site)) {
                    return Err(unpinnable(pins));
                }
                // nothing to choose: the lowering will say what it misses
                found.exact = false;
                found.programs.push(Extracted::default());
                continue;
            };
            found.exact &= best.exact;
            found.nanos += best.cost;
            search.adopt(&best, &mut found.choices);
            found.programs.push(best);
        }
        Ok(found)
    }

    /// What was found, with each decision's closest alternatives.
    pub fn explained(
        &self,
        found: &Found,
        pins: &[Pin],
        levels: Levels,
        prices: &dyn Prices,
    ) -> Found {
        let each = self.parts.iter().zip(&found.programs);
        let decisions = each.flat_map(|(part, program)| {
            let search = part.search(pins, levels, prices);
            search.decisions(program)
        });
        Found {
            decisions: decisions.collect(),
            ..found.clone()
        }
    }

    /// The levels by which the search would have priced a program, which it proposed under `levels`, as placement did: nanoseconds of
    /// a token's work, and of its bootstraps.
    pub fn learn(
        &self,
        found: &Found,
        levels: Levels,
        prices: &dyn Prices,
        [work, refreshes]: [u64; 2],
    ) -> Levels {
        let sum = |of: &dyn Fn(&Part, &Extracted) -> u64| -> u64 {
            let each = self.parts.iter().zip(&found.programs);
            each.map(|(part, program)| part.count * of(part, program))
                .sum()
        };
        let priced = sum(&|_, program| program.cost - program.work);
        let price = levels.price * refreshes as f64 / priced.max(1) as f64;
        let work_at = |at: u32| {
            let levels = Levels { work: at, ..levels };
            sum(&|part, program| part.work(program, levels, prices))
        };
        let nearest = (0..=MOST_LEVELS).min_by_key(|&at| work_at(at).abs_diff(work));
        Levels {
            work: nearest.unwrap_or(levels.work),
            price,
        }
    }
}

impl Part {
    fn pricing<'a>(&'a self, levels: Levels, prices: &'a dyn Prices) -> Pricing<'a> {
        Pricing {
            facts: &self.facts,
            prices,
            levels,
        }
    }

    fn search<'a>(&'a self, pins: &'a [Pin], levels: Levels, prices: &dyn Prices) -> Search<'a> {
        Search {
            root: self.root,
            egraph: &self.egraph,
            priced: extract::priced(&self.egraph, &self.pricing(levels, prices)),
            attend: attend_site(&self.template),
            pins,
        }
    }

    /// Nanoseconds of a program's work.
    fn work(&self, program: &Extracted, levels: Levels, prices: &dyn Prices) -> u64 {
        let pricing = self.pricing(levels, prices);
        let nodes = program.nodes.values();
        nodes
            .filter_map(|node| pricing.of(&self.egraph, node))
            .map(|price| price.work)
            .sum()
    }
}

/// All programs of a template.
fn saturated(template: &Template, facts: &Facts, without: &[Alternative]) -> Runner<Kernel, ()> {
    Runner::default()
        .with_expr(&term(template, facts))
        .with_scheduler(SimpleScheduler)
        .with_node_limit(NODES)
        .with_iter_limit(ROUNDS)
        .with_time_limit(Duration::MAX)
        .run(&rules::rules(facts.extent(), without))
}

/// The fewest decisions with which every layer can be lowered: squarings where an exponential's window is too wide for one polynomial.
fn plainest(decoder: &Decoder, ranges: &Ranges, options: &Options) -> Result<Choices, LowerError> {
    let mut plain = Choices::default();
    loop {
        let model = crate::lower::model(decoder, ranges, options, &plain)?;
        match groups(&model) {
            Err(LowerError::Fit { .. }) if plain.squarings < rules::MAX_SQUARINGS => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(plain),
        }
        plain.squarings += 1;
    }
}

/// What the server computes after the last layer: the final template, without the head where the client computes it.
fn finale(decoder: &Decoder, options: &Options) -> Template {
    let mut last = decoder.final_.clone();
    if options.head == Placement::Client {
        let result = last.result;
        let head = last.definition(result).cloned();
        if let Some(x) = head.and_then(|head| head.op.operands().first().copied()) {
            last.insts
                .retain(|inst| inst.result.is_none_or(|(value, _)| value != result));
            last.result = x;
        }
    }
    last
}

/// Refuses pins at sites that the server does not compute, or of a form that their operation does not have.
fn check_pins(templates: &[&Template], pins: &[Pin]) -> Result<(), LowerError> {
    for pin in pins {
        let insts = templates.iter().flat_map(|template| &template.insts);
        let site = pin.site.clone();
        let mut here = insts.filter(|inst| inst.site == pin.site).peekable();
        if here.peek().is_none() {
            let sites = pinnable(templates);
            return Err(LowerError::NoSite { site, sites });
        }
        if !here.any(|inst| pin.form.suits(&inst.op)) {
            return Err(LowerError::NoForm { site });
        }
    }
    Ok(())
}

/// The refusal of pins that no program has.
pub fn unpinnable(pins: &[Pin]) -> LowerError {
    LowerError::Pinned {
        pins: pins.iter().map(Pin::to_string).collect(),
    }
}

/// Sites at which there is something to pin.
fn pinnable(templates: &[&Template]) -> Vec<String> {
    let insts = templates.iter().flat_map(|template| &template.insts);
    let open = insts.filter(|inst| FORMS.iter().any(|form| form.suits(&inst.op)));
    open.map(|inst| inst.site.clone()).collect()
}

fn has_site(template: &Template, site: &str) -> bool {
    template.insts.iter().any(|inst| inst.site == site)
}

/// Site of a template's attention; empty if it has none.
pub fn attend_site(template: &Template) -> String {
    let mut insts = template.insts.iter();
    let attend = insts.find(|inst| matches!(inst.op, Op::Attend { .. }));
    attend.map_or(String::new(), |inst| inst.site.clone())
}
