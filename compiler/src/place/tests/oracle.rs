//! The search against an enumeration that asks nobody but the leveled verifier and the price list.
//!
//! The enumeration writes leveled programs down, statement by statement: every operation at every level, every operand as it is or
//! refreshed by any bootstrap on offer, dropped as need be. What is legal the verifier says, of every beginning of a program. All it
//! takes from placement are the conventions of its documentation: a product is rescaled at once, except under a sum of
//! products; drops are free; what nothing reads is left out.

use super::super::{Options, place};
use super::draft::{Draft, Written};
use super::random::{Made, is_legal, looped, specs, straight, target};
use crate::cost::{Prices, Work};
use rayon::prelude::*;
use sotto_ir::params::bootstrap::BootstrapSpec;
use sotto_ir::slot::{At, BootstrapKind, Node, Op, Packed, Program, Template, ValueId};

/// Few levels, so that small programs need bootstraps.
const TOP: u32 = 3;
/// Most statements of a program all of whose placements are tried where the search found none: no price bounds those.
const SHORT: usize = 5;

/// What is enumerated, in execution order.
#[derive(Clone, Copy)]
enum What<'a> {
    /// An operation, and how its result comes out: a product, rescaled right there.
    Op(&'a Node<Packed>, bool, bool),
    /// A loop begins: its arguments are read.
    Enter(&'a Node<Packed>),
    /// A loop ends: its result is read and summed.
    Leave(&'a Node<Packed>, ValueId),
}

struct Statement<'a> {
    /// Template whose values it reads.
    template: usize,
    what: What<'a>,
    /// How often its template runs.
    trips: u64,
}

struct Oracle<'a> {
    packed: &'a Program<Packed>,
    outer: usize,
    statements: Vec<Statement<'a>>,
    /// Least nanoseconds of the statements from each on.
    least: Vec<u64>,
    kinds: Vec<(BootstrapKind, u32)>,
    specs: Vec<BootstrapSpec>,
    /// Least cost of a legal program so far.
    best: u64,
    found: bool,
}

impl<'a> Oracle<'a> {
    /// Enumerates what costs less than `bound`.
    fn new(packed: &'a Program<Packed>, bound: u64) -> Self {
        let target = target(TOP);
        let kinds = target.refreshes.iter().map(|r| (r.kind, r.input_level));
        let mut oracle = Self {
            packed,
            outer: packed.steps[0].template,
            statements: vec![],
            least: vec![],
            kinds: kinds.collect(),
            specs: specs(&target),
            best: bound,
            found: false,
        };
        oracle.list(oracle.outer, 1);
        let least = |s: &Statement<'_>| (0..=TOP).map(|l| oracle.price(s, l)).min().unwrap();
        let least: Vec<u64> = oracle.statements.iter().map(least).collect();
        oracle.least = (0..=least.len()).map(|i| least[i..].iter().sum()).collect();
        oracle
    }

    /// Lists a template's statements, loops in place.
    fn list(&mut self, template: usize, trips: u64) {
        let t = &self.packed.templates[template];
        let live = live(t);
        for node in t.nodes.iter().filter(|n| live(n)) {
            let mut push = |template, trips, what| {
                self.statements.push(Statement {
                    template,
                    what,
                    trips,
                })
            };
            let Op::SumGroups {
                template: inner,
                states,
                ..
            } = &node.op
            else {
                let product = is_product(&node.op, t);
                let rescaled = product && !under_a_sum(node, t);
                push(template, trips, What::Op(node, product, rescaled));
                continue;
            };
            push(template, trips, What::Enter(node));
            let state = &self.packed.states[states[0].0 as usize];
            let tokens = state.ty.layout.tokens().unwrap();
            // groups 1 to all are visited equally often
            let trips = u64::from(self.packed.capacity.div_ceil(tokens)).div_ceil(2);
            self.list(*inner, trips);
            let result = self.packed.templates[*inner].results[0];
            self.statements.push(Statement {
                template: *inner,
                what: What::Leave(node, result),
                trips,
            });
        }
    }

    /// Price of a statement whose operands are at `level`, by the price list.
    fn price(&self, s: &Statement<'_>, level: u32) -> u64 {
        match s.what {
            What::Enter(_) => 0,
            What::Leave(..) => Made.nanos(&Work::Add, level) * (s.trips - 1),
            What::Op(node, _, rescaled) => {
                let work = Work::of(self.packed, &node.op).unwrap();
                let rescale = rescaled.then_some(Work::Rescale);
                let nanos = work.iter().chain(&rescale).map(|w| Made.nanos(w, level));
                nanos.sum::<u64>() * s.trips
            }
        }
    }

    /// Tries everything for the statements from `i` on.
    fn visit(&mut self, i: usize, draft: &Draft) {
        if draft.cost + self.least[i] >= self.best || !draft.is_legal(TOP, &self.specs) {
            return;
        }
        let Some(s) = self.statements.get(i) else {
            (self.best, self.found) = (draft.cost, true);

            return;
        };
        let operands: Vec<ValueId> = match s.what {
            What::Op(node, ..) | What::Enter(node) => {
                node.op.operands().into_iter().copied().collect()
            }
            What::Leave(_, result) => vec![result],
        };
        for level in 0..=TOP {
            self.read(i, level, &operands, draft.clone(), vec![]);
        }
    }

    /// Tries every form of the operands that are left, then writes the statement.
    fn read(&mut self, i: usize, at: u32, left: &[ValueId], draft: Draft, read: Vec<ValueId>) {
        let mut draft = draft;
        let Some((v, left)) = left.split_first() else {
            self.write(i, at, &read, &mut draft);
            return self.visit(i + 1, &draft);
        };
        let (t, trips) = (self.statements[i].template, self.statements[i].trips);
        let mut forms = vec![None];
        match draft.copies[t].contains_key(v) {
            true => forms.push(Some(self.kinds[0])),
            false => forms.extend(self.kinds.iter().map(|kind| Some(*kind))),
        }
        for form in forms {
            let mut draft = draft.clone();
            let written = match form {
                None => draft.values[t][v].clone(),
                Some(kind) => refresh(t, *v, kind, trips, &mut draft),
            };
            let id = draft.dropped(t, &written, at);
            self.read(i, at, left, draft, [&read[..], &[id]].concat());
        }
    }

    /// Writes the statement, its operands given at `level`.
    fn write(&self, i: usize, level: u32, operands: &[ValueId], draft: &mut Draft) {
        let s = &self.statements[i];
        draft.cost += self.price(s, level);
        let t = s.template;
        match s.what {
            What::Op(node, product, rescaled) => {
                let mut given = operands.iter();
                let op = node.op.map(|_| *given.next().unwrap());
                self.write_op(t, node, op, level, (product, rescaled), draft);
            }
            What::Enter(node) => {
                let mut given = operands.iter();
                let op = node.op.map(|_| *given.next().unwrap());
                draft.enter(t, op, self.packed, level);
            }
            What::Leave(node, result) => {
                let ty = draft.values[t][&result].2.clone();
                let written = (operands[0], At { level, degree: 1 }, ty);
                draft.leave((self.outer, node.results[0]), t, written);
            }
        }
        if i + 1 == self.statements.len() {
            let result = self.packed.templates[self.outer].results[0];
            draft.program.templates[self.outer].results = vec![draft.values[self.outer][&result].0];
        }
    }

    fn write_op(
        &self,
        t: usize,
        node: &Node<Packed>,
        op: Op<ValueId>,
        level: u32,
        (product, rescaled): (bool, bool),
        draft: &mut Draft,
    ) {
        let at = match &op {
            Op::Append { state, .. } => {
                draft.program.states[state.0 as usize].level = Some(level);
                draft.push(t, op, None);
                return;
            }
            Op::Poly { poly, .. } => {
                let degree = self.packed.polys[poly.0 as usize].degree();
                let depth = (degree + 1).next_power_of_two().trailing_zeros();
                let level = level.saturating_sub(depth);
                At { level, degree: 1 }
            }
            _ => At {
                level,
                degree: 1 + u8::from(product),
            },
        };
        let mut written = draft.push(t, op, Some((at, &node.types[0]))).unwrap();
        if rescaled {
            let level = level.saturating_sub(1);
            let op = Op::Rescale { v: written.0 };
            let at = At { level, degree: 1 };
            written = draft.push(t, op, Some((at, &node.types[0]))).unwrap();
        }
        draft.values[t].insert(node.results[0], written);
    }
}

/// The copy of `v`; made and paid for if there is none.
fn refresh(
    t: usize,
    v: ValueId,
    (kind, level): (BootstrapKind, u32),
    trips: u64,
    draft: &mut Draft,
) -> Written {
    if let Some(copy) = draft.copies[t].get(&v) {
        return copy.clone();
    }
    let written = draft.values[t][&v].clone();
    let input = draft.dropped(t, &written, level);
    let at = At {
        level: TOP,
        degree: 1,
    };
    let op = Op::Bootstrap { v: input, kind };
    let copy = draft.push(t, op, Some((at, &written.2))).unwrap();
    draft.cost += Made.nanos(&Work::Bootstrap(kind), level) * trips;
    draft.copies[t].insert(v, copy.clone());
    copy
}

/// Which nodes the results or states of a template depend on.
fn live(t: &Template<Packed>) -> impl Fn(&Node<Packed>) -> bool + use<> {
    let mut wanted = t.results.clone();
    for node in t.nodes.iter().rev() {
        if node.results.is_empty() || node.results.iter().any(|v| wanted.contains(v)) {
            wanted.extend(node.op.operands());
        }
    }
    move |node| node.results.is_empty() || node.results.iter().any(|v| wanted.contains(v))
}

/// Whether the result has degree 2: a product, or a sum of products that have no other use.
fn is_product(op: &Op<ValueId>, t: &Template<Packed>) -> bool {
    let uses = |v: &ValueId| {
        let reads = t.nodes.iter().flat_map(|n| n.op.operands());
        reads.chain(&t.results).filter(|o| *o == v).count()
    };
    let product = |v: &ValueId| {
        let maker = t.nodes.iter().find(|n| n.results.contains(v));
        maker.is_some_and(|n| is_product(&n.op, t))
    };
    match op {
        Op::Mul { .. } | Op::MulConst { .. } => true,
        Op::Add { a, b } => [a, b].iter().all(|v| uses(v) == 1 && product(v)),
        _ => false,
    }
}

/// Whether the only use of what `node` makes is a sum of products.
fn under_a_sum(node: &Node<Packed>, t: &Template<Packed>) -> bool {
    let Some(v) = node.results.first() else {
        return false;
    };
    let sum = |n: &&Node<Packed>| matches!(n.op, Op::Add { .. }) && is_product(&n.op, t);
    let mut sums = t.nodes.iter().filter(sum);
    sums.any(|n| n.op.operands().contains(&v))
}

/// What the compared programs contained.
#[derive(Debug, Default)]
struct Seen {
    programs: usize,
    legal: usize,
    refreshed: usize,
    looped: usize,
}

/// Holds the search on `packed` to the enumeration: nothing legal is cheaper, and what it found is legal at the price it says.
fn compare(packed: &Program<Packed>, name: &str) -> (bool, usize, usize) {
    let placed = place(packed, &target(TOP), &Made, &Options::default());
    let Ok((leveled, report)) = placed else {
        let oracle = Oracle::new(packed, u64::MAX);
        if oracle.statements.len() <= SHORT {
            assert_eq!(oracle.run(), None, "{name}: the search found nothing");
        }
        return (false, 0, 0);
    };
    assert!(is_legal(&leveled, TOP, &specs(&target(TOP))), "{name}");
    let least = Oracle::new(packed, report.nanos + 1).run();
    assert_eq!(least, Some(report.nanos), "{name}");
    let outer = leveled.steps[0].template;
    let bootstraps = |t: &Template<_>| {
        let nodes = t.nodes.iter();
        nodes
            .filter(|n: &&Node<sotto_ir::slot::Leveled>| matches!(n.op, Op::Bootstrap { .. }))
            .count()
    };
    let all: usize = leveled.templates.iter().map(bootstraps).sum();
    let inside = all - bootstraps(&leveled.templates[outer]);
    (true, all, inside)
}

impl Oracle<'_> {
    fn run(mut self) -> Option<u64> {
        self.visit(0, &Draft::new(self.packed, TOP));
        self.found.then_some(self.best)
    }
}

#[test]
fn no_legal_program_is_cheaper() {
    let cases: Vec<(String, Program<Packed>)> = (0..160)
        .map(|seed| (format!("straight {seed}"), straight(seed, 7)))
        .chain((0..120).map(|seed| (format!("looped {seed}"), looped(seed, 1, 1))))
        .collect();
    let found: Vec<_> = cases
        .par_iter()
        .map(|(name, program)| compare(program, name))
        .collect();
    let mut seen = Seen::default();
    for (legal, all, inside) in found {
        seen.programs += 1;
        seen.legal += usize::from(legal);
        seen.refreshed += usize::from(all > 0);
        seen.looped += usize::from(inside > 0);
    }
    assert!(
        seen.legal >= 200 && seen.refreshed > 40 && seen.looped > 5,
        "{seen:?}"
    );
}
