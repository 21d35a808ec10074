//! Equality saturation over a template's real choices: which products share a complex matrix, how each matrix-vector product
//! splits into baby and giant steps, tokens per KV group, the form of softmax's exponential, and whether a norm spends a level
//! on an exact window.
//!
//! [`language`] turns a decoder template into a term, [`rules`] says what equals what, [`price`] what it costs by the committed
//! cost table, and [`extract`] finds the cheapest DAG. Budgets are counts, never time: the same input gives the same choices.
//! Levels are priced as their share of a bootstrap of the value's period; placement, which knows the true levels, follows.

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
use crate::lower::{Choices, LowerError, Model, Options, Ranges, groups};
use decisions::Search;
use egg::{Runner, SimpleScheduler, StopReason};
use facts::Facts;
use language::term;
pub use pin::{Form, Pin, PinError};
use price::Pricing;
pub use rules::Alternative;
use sotto_ir::decoder::{Decoder, Op, Template};
use sotto_ir::plan::{Decision, Placement, SearchNote};
use std::ops::Range;
use std::time::Duration;

/// Most nodes of an e-graph; one layer needs a few hundred.
const NODES: usize = 50_000;
/// Most rounds of rewriting; the longest chain of rules is the baby steps'.
const ROUNDS: usize = 40;

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
    /// Each decision with its closest alternatives.
    pub decisions: Vec<Decision>,
}

/// Chooses for the layer template that serves the most layers, and for the final template.
pub fn choose(
    decoder: &Decoder,
    ranges: &Ranges,
    options: &Options,
    guidance: &Guidance,
    prices: &dyn Prices,
) -> Result<Found, LowerError> {
    let last = finale(decoder, options);
    check_pins(&[&decoder.layer, &last], &guidance.pins)?;
    let plain = plainest(decoder, ranges, options)?;
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
        nanos: 0,
        decisions: Vec::new(),
    };
    for (template, layers) in [(&decoder.layer, layers), (&last, 0..1)] {
        one(&model, template, layers, guidance, prices, &mut found)?;
    }
    Ok(found)
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

/// Searches one template and adds what it finds.
fn one(
    model: &Model<'_>,
    template: &Template,
    layers: Range<u32>,
    guidance: &Guidance,
    prices: &dyn Prices,
    found: &mut Found,
) -> Result<(), LowerError> {
    let facts = Facts::new(model, template, layers)?;
    let Guidance { pins, without } = guidance;
    let runner = Runner::default()
        .with_expr(&term(template, &facts))
        .with_scheduler(SimpleScheduler)
        .with_node_limit(NODES)
        .with_iter_limit(ROUNDS)
        .with_time_limit(Duration::MAX)
        .run(&rules::rules(facts.extent(), without));
    let note = &mut found.note;
    note.saturated &= matches!(runner.stop_reason, Some(StopReason::Saturated));
    note.iterations += runner.iterations.len() as u32;
    note.nodes += runner.egraph.total_size() as u32;
    let search = Search {
        root: runner.roots[0],
        egraph: &runner.egraph,
        priced: extract::priced(
            &runner.egraph,
            &Pricing {
                facts: &facts,
                prices,
            },
        ),
        attend: attend_site(template),
        pins,
    };
    let Some(best) = search.best(&|_| true) else {
        let pinned = pins.iter().any(|pin| has_site(template, &pin.site));
        return match pinned {
            true => Err(LowerError::Pinned),
            // nothing to choose: the lowering will say what it misses
            false => {
                found.exact = false;
                Ok(())
            }
        };
    };
    found.exact &= best.exact;
    found.nanos += best.cost;
    search.adopt(&best, found);
    Ok(())
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
            return Err(LowerError::NoSite { site });
        }
        if !here.any(|inst| pin.form.suits(&inst.op)) {
            return Err(LowerError::NoForm { site });
        }
    }
    Ok(())
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
