//! Programs of the same structure, value by value.

use super::address::{Address, addresses, same_placement};
use super::declared::differences;
use super::run::{Ranges, Runner, Sight, start};
use super::{Alignment, CompareError, Divergence, Options, Side, Verdict, at_layer};
use crate::view::{Given, SlotView, ValueView};
use num_complex::Complex64;
use sotto_ir::slot::Slots;
use std::collections::HashMap;

/// Largest error between programs that compute alike, in float64.
pub(super) const EXACT: f64 = 1e-9;
/// Largest error between a plan and what it was made from, or between plans that refresh elsewhere: weights are 16-bit integers, and a
/// bootstrap bends its slots as EvalMod's sine does.
const PLANNED: f64 = 5e-3;

/// A value, whatever the program: layer, group, address and result.
type Key = (u32, Option<u32>, u32, usize);

/// Numbers for addresses, equal in both programs.
#[derive(Default)]
struct Names(HashMap<Address, u32>);

impl Names {
    fn of(&mut self, view: &SlotView) -> Vec<Vec<u32>> {
        let mut number = |address: Address| {
            let next = self.0.len() as u32;
            *self.0.entry(address).or_insert(next)
        };
        let all = addresses(view).into_iter();
        all.map(|template| template.into_iter().map(&mut number).collect())
            .collect()
    }
}

fn key(names: &[Vec<u32>], sight: &Sight<'_>) -> Key {
    let (t, n, r) = sight.place;
    (sight.layer, sight.group, names[t][n], r)
}

/// A value of the first program, kept until the second has computed its own.
struct Kept {
    order: usize,
    place: (usize, usize, usize),
    slots: Slots,
}

struct Sides<'v> {
    views: (&'v SlotView, &'v SlotView),
    names: (Vec<Vec<u32>>, Vec<Vec<u32>>),
    tolerance: f64,
}

/// Runs both and compares every value that both have.
pub(super) fn compare(
    (a, va): (&Given, &SlotView),
    (b, vb): (&Given, &SlotView),
    options: &Options<'_>,
) -> Result<Verdict, CompareError> {
    let mut runners = (
        start(a, va, options.checkpoint)?,
        start(b, vb, options.checkpoint)?,
    );
    let alike = (va.stage == "plan") == (vb.stage == "plan") && same_placement(va, vb);
    let interpreted = va.stage != "plan" && vb.stage != "plan";
    let by_kind = if alike || interpreted { EXACT } else { PLANNED };
    let mut names = Names::default();
    let sides = Sides {
        views: (va, vb),
        names: (names.of(va), names.of(vb)),
        tolerance: options.tolerance.unwrap_or(by_kind),
    };
    let mut verdict = Verdict {
        alignment: Alignment::Operations,
        tolerance: sides.tolerance,
        steps: 0,
        values: 0,
        largest: 0.0,
        divergence: None,
        failure: None,
        differences: differences(va, vb),
        escapes: Default::default(),
    };
    let mut ranges = (Ranges::default(), Ranges::default());
    for (position, &token) in options.tokens.iter().enumerate() {
        let at = (position, token);
        step(&sides, &mut runners, at, &mut ranges, &mut verdict);
        if verdict.divergence.is_some() || verdict.failure.is_some() {
            break;
        }
        verdict.steps += 1;
    }
    verdict.escapes = (ranges.0.escapes(), ranges.1.escapes());
    Ok(verdict)
}

/// One token on both sides.
fn step(
    sides: &Sides<'_>,
    runners: &mut (Box<dyn Runner + '_>, Box<dyn Runner + '_>),
    (position, token): (usize, u32),
    ranges: &mut (Ranges, Ranges),
    verdict: &mut Verdict,
) {
    let mut kept: HashMap<Key, Kept> = HashMap::new();
    let first = runners.0.step(token, &mut |sight| {
        ranges.0.see(sides.views.0, sight);
        let one = Kept {
            order: kept.len(),
            place: sight.place,
            slots: sight.slots.clone(),
        };
        kept.insert(key(&sides.names.0, sight), one);
    });
    let mut worst: Option<(usize, Divergence)> = None;
    let second = runners.1.step(token, &mut |sight| {
        ranges.1.see(sides.views.1, sight);
        let Some(ours) = kept.get(&key(&sides.names.1, sight)) else {
            return;
        };
        verdict.values += 1;
        let found = hold(sides, ours, sight, position);
        if found.error <= sides.tolerance {
            verdict.largest = verdict.largest.max(found.error);
        } else if worst.as_ref().is_none_or(|(order, _)| ours.order < *order) {
            worst = Some((ours.order, found));
        }
    });
    verdict.divergence = worst.map(|(_, found)| found);
    if verdict.divergence.is_none() {
        let failure = [(Side::A, first), (Side::B, second)];
        verdict.failure = failure
            .into_iter()
            .find_map(|(side, run)| Some((side, run.err()?)));
    }
}

/// One value against its counterpart.
fn hold(sides: &Sides<'_>, ours: &Kept, sight: &Sight<'_>, position: usize) -> Divergence {
    let (a, b) = (
        value(sides.views.0, ours.place),
        value(sides.views.1, sight.place),
    );
    let (unit_a, unit_b) = (a.ty.unit, b.ty.unit);
    let (index, difference) = furthest(&ours.slots, unit_a, sight.slots, unit_b);
    let reached = (
        ours.slots.max_part() * unit_a,
        sight.slots.max_part() * unit_b,
    );
    let bounds = (a.ty.range * unit_a, b.ty.range * unit_b);
    // a value that is zero is measured by what it may be
    let scale = if reached.0 > 0.0 { reached.0 } else { bounds.0 };
    let node = &sides.views.0.templates[ours.place.0].nodes[ours.place.1];
    Divergence {
        position,
        site: at_layer(&node.site, sight.layer),
        layer: Some(sight.layer),
        group: sight.group,
        op: node.op.name().into(),
        error: if difference == 0.0 {
            0.0
        } else {
            difference / scale
        },
        difference,
        index,
        reached,
        declared: (Some(bounds.0), Some(bounds.1)),
    }
}

fn value(view: &SlotView, (t, n, r): (usize, usize, usize)) -> &ValueView {
    &view.templates[t].nodes[n].results[r]
}

/// The slot where two vectors differ most in real-world units, and by how much; infinitely where only one is a number.
fn furthest(a: &Slots, unit_a: f64, b: &Slots, unit_b: f64) -> (usize, f64) {
    let part = |x: f64, y: f64| match (x * unit_a - y * unit_b).abs() {
        d if d.is_nan() && x.to_bits() == y.to_bits() => 0.0,
        d if d.is_nan() => f64::INFINITY,
        d => d,
    };
    let distance = |x: Complex64, y: Complex64| part(x.re, y.re).max(part(x.im, y.im));
    let slots = 0..a.period().max(b.period());
    let mut worst = (0, 0.0);
    for p in slots {
        let d = distance(a.at(p), b.at(p));
        if d > worst.1 {
            worst = (p, d);
        }
    }
    worst
}
