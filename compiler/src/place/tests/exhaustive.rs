//! The search against the enumeration of every placement, on small random graphs.

use super::super::alike::Alike;
use super::super::region::{Kind, Region, flatten};
use super::super::search::search;
use super::super::{Options, RefreshKind, Target};
use super::random::{Made, Random};
use super::synthetic::{Maker, tokens, vector};
use sotto_ir::slot::{BootstrapKind, Op, StateDecl, StateId, ValueId};

const TOP: u32 = 5;

/// Appends `nodes` random operations on the latest of `values`; some results are out of range.
fn grow(m: &mut Maker, random: &mut Random, values: &mut Vec<ValueId>, nodes: u32) {
    for _ in 0..nodes {
        let recent = |r: &mut Random, values: &[ValueId]| {
            let back = r.below(values.len().min(3) as u64) as usize;
            values[values.len() - 1 - back]
        };
        let (a, b) = (recent(random, values), recent(random, values));
        let mut ty = vector();
        ty.range = if random.below(3) == 0 { 2.0 } else { 1.0 };
        let op = match random.below(6) {
            0 | 1 => Op::Mul { a, b },
            2 => Op::Rotate { v: a, by: 1 },
            3 => Op::Poly {
                v: a,
                poly: m.poly("p", 3 + 2 * random.below(2) as usize),
            },
            4 => Op::MulConst { v: a, c: 0.5 },
            _ => Op::Add { a, b },
        };
        let v = m.op(op, &ty, "op");
        values.push(v);
    }
}

/// A template of `nodes` operations over one parameter whose last value is the result.
fn graph(seed: u64, nodes: u32) -> Maker {
    let mut m = Maker::new(1 << 15, 16);
    let mut values = vec![m.param(vector())];
    grow(&mut m, &mut Random(seed), &mut values, nodes);
    let last = values[values.len() - 1];
    m.finish("t", vec![last]);
    m
}

/// A template that appends to a state and loops over its groups, and the group template before it.
fn loop_graph(seed: u64) -> Maker {
    let mut random = Random(seed);
    // One group or five at capacity: one trip or, on average, three.
    let groups = if seed.is_multiple_of(2) { 1 } else { 5 };
    let mut m = Maker::new(1 << 15, groups * 256);
    let grid = tokens(1 << 15);
    m.program.states.push(StateDecl {
        name: "k".into(),
        ty: grid.clone(),
        level: None,
    });
    let mut inner = vec![m.param(vector()), m.param(grid)];
    grow(&mut m, &mut random, &mut inner, 3);
    let last = inner[inner.len() - 1];
    let group = m.finish("group", vec![last]);
    let mut values = vec![m.param(vector())];
    grow(&mut m, &mut random, &mut values, 2);
    let (k, q) = (
        values[random.below(3) as usize],
        values[random.below(3) as usize],
    );
    let append = Op::Append {
        state: StateId(0),
        v: k,
    };
    m.statement(append, vec![], "append");
    let sum = Op::SumGroups {
        template: group,
        states: vec![StateId(0)],
        args: vec![q],
    };
    let results = m.statement(sum, vec![vector()], "loop");
    values.extend(results);
    grow(&mut m, &mut random, &mut values, 1);
    let last = values[values.len() - 1];
    m.finish("t", vec![last]);
    m
}

/// One assignment being enumerated: where each value is defined and whether its copy is paid for.
struct Partial {
    level: Vec<Option<u32>>,
    copied: Vec<bool>,
}

/// The least cost of any placement with parameters at `entry` and results at `exit` or above.
fn enumerate(region: &Region, live: &[bool], entry: u32, exit: u32) -> Option<u64> {
    let mut partial = Partial {
        level: vec![None; region.values.len()],
        copied: vec![false; region.values.len()],
    };
    for &p in &region.params {
        partial.level[p] = Some(entry);
    }
    let mut best = None;
    visit(region, live, exit, 0, 0, &mut partial, &mut best);
    best
}

fn visit(
    region: &Region,
    live: &[bool],
    exit: u32,
    n: usize,
    cost: u64,
    partial: &mut Partial,
    best: &mut Option<u64>,
) {
    if best.is_some_and(|b| b <= cost) {
        return;
    }
    let Some(node) = region.nodes.get(n) else {
        if region
            .results
            .iter()
            .all(|r| partial.level[*r].is_some_and(|l| l >= exit))
        {
            *best = Some(cost);
        }
        return;
    };
    if !live[n] {
        return visit(region, live, exit, n + 1, cost, partial, best);
    }
    let append = match node.kind {
        Kind::Append(cell) => Some(cell),
        _ => None,
    };
    for at in node.depth..=TOP {
        let before = partial.copied.clone();
        let mut price = node.cost[at as usize];
        let legal = node.operands.iter().all(|&v| {
            let Some(level) = partial.level[v] else {
                return false;
            };
            if level >= at {
                return true;
            }
            match region.values[v].refresh {
                Some(r) if level >= r.input_level => {
                    if !partial.copied[v] {
                        price += r.cost;
                        partial.copied[v] = true;
                    }
                    true
                }
                _ => false,
            }
        });
        // Values that stay at degree 2 cannot be dropped: they are read where they are defined.
        let exact = node
            .operands
            .iter()
            .all(|&v| !region.values[v].unrescaled || partial.level[v] == Some(at));
        if legal && exact {
            // An append decides the level at which its state is stored.
            if let Some(v) = node.result.or(append) {
                partial.level[v] = Some(at - node.depth);
            }
            visit(region, live, exit, n + 1, cost + price, partial, best);
        }
        partial.copied = before;
    }
}

/// Nodes that the results depend on.
fn live_nodes(region: &Region) -> Vec<bool> {
    let mut wanted = region.results.clone();
    let mut live = vec![false; region.nodes.len()];
    for (n, node) in region.nodes.iter().enumerate().rev() {
        live[n] = node.result.is_none_or(|v| wanted.contains(&v));
        if live[n] {
            wanted.extend(&node.operands);
        }
    }
    live
}

/// What the compared cases contained.
#[derive(Debug, Default)]
struct Seen {
    feasible: usize,
    /// A value is refreshed.
    refreshed: usize,
    /// A value's original and its copy are both read.
    apart: usize,
    /// A value is refreshed inside a loop.
    looped: usize,
    /// Values are made alike, and one is refreshed.
    alike: usize,
}

fn compare(m: &Maker, template: usize, cases: &[(u32, u32)], name: &str, seen: &mut Seen) {
    let target = Target {
        top: TOP,
        refreshes: vec![RefreshKind {
            kind: BootstrapKind {
                slots: 1 << 15,
                complex: false,
            },
            input_level: 1,
        }],
    };
    let region = flatten(&m.program, template, &target, &Made, &Options::default()).unwrap();
    let live = live_nodes(&region);
    for &(entry, exit) in cases {
        let found = search(&region, TOP, exit, 4096);
        let best = enumerate(&region, &live, entry, exit);
        let outcome = found.as_ref().ok().and_then(|f| {
            f.outcomes
                .iter()
                .filter(|o| o.needs[0] <= entry)
                .min_by_key(|o| o.cost)
        });
        assert_eq!(outcome.map(|o| o.cost), best, "{name}, {entry} to {exit}");
        let Some(outcome) = outcome else { continue };
        seen.alike += usize::from(placed_alike(&region, entry, exit, outcome.cost));
        let placement = found.as_ref().unwrap().placement(&region, outcome);
        let copied = |v: &usize| placement.refreshed[*v];
        let reads = region.nodes.iter().zip(&placement.reads_copy).zip(&live);
        seen.feasible += 1;
        seen.refreshed += usize::from((0..region.values.len()).any(|v| copied(&v)));
        seen.apart += usize::from(
            reads
                .filter(|(_, live)| **live)
                .any(|((n, c), _)| n.operands.iter().zip(c).any(|(v, copy)| copied(v) && !copy)),
        );
        seen.looped += usize::from(region.names.iter().skip(1).any(|n| n.values().any(copied)));
    }
}

/// Holds the placement with alike values placed alike, if there is one, against the best one; whether there are such values.
fn placed_alike(region: &Region, entry: u32, exit: u32, best: u64) -> bool {
    let alike = Alike::by(region, &vec![true; region.nodes.len()]);
    // copies for all where one needs its own are no better, but legal
    let found = search(&alike.region, TOP, exit, 4096).unwrap();
    let outcomes = found.outcomes.iter().filter(|o| o.needs[0] <= entry);
    let outcome = outcomes.min_by_key(|o| o.cost).unwrap();
    let small = found.placement(&alike.region, outcome);
    let placement = alike.placement(region, exit, &small);
    assert!(placement.fits(region, entry, TOP));
    let cost = placement.cost(region);
    assert!((best..=outcome.cost).contains(&cost));
    alike.region.nodes.len() < region.nodes.len() && placement.refreshed.contains(&true)
}

#[test]
fn no_placement_is_cheaper() {
    let mut seen = Seen::default();
    let cases = [(0, 0), (3, 0), (5, 0), (3, 2), (5, 2), (0, 4), (5, 4)];
    for seed in 0..300 {
        compare(
            &graph(seed, 6),
            0,
            &cases,
            &format!("seed {seed}"),
            &mut seen,
        );
    }
    // The test means something only if bootstraps happen, also of values whose original is read elsewhere.
    assert!(
        seen.feasible > 500 && seen.refreshed > 100 && seen.apart > 10 && seen.alike > 10,
        "{seen:?}"
    );
}

#[test]
fn no_placement_of_a_loop_is_cheaper() {
    let mut seen = Seen::default();
    for seed in 0..160 {
        let cases = [(2, 0), (5, 1), (5, 4)];
        compare(
            &loop_graph(seed),
            1,
            &cases,
            &format!("loop {seed}"),
            &mut seen,
        );
    }
    assert!(
        seen.feasible > 100 && seen.refreshed > 40 && seen.looped > 5,
        "{seen:?}"
    );
}
