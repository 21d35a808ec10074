//! The search against the enumeration of every placement, on small random graphs.

use super::super::region::{Region, flatten};
use super::super::search::search;
use super::super::{Options, RefreshKind, Target};
use super::synthetic::{Maker, vector};
use crate::cost::{Prices, Work};
use sotto_ir::slot::{BootstrapKind, Op, ValueId};

const TOP: u32 = 5;

/// Prices that rise with the level; a bootstrap costs as much as a few products.
struct Made;

impl Prices for Made {
    fn nanos(&self, work: &Work, level: u32) -> u64 {
        let level = u64::from(level);
        match work {
            Work::Bootstrap(_) => 60,
            Work::Mul => 5 + 3 * level,
            Work::Poly(plan) => (plan.degree as u64) * (3 + 2 * level),
            Work::Rotate => 3 + 2 * level,
            Work::Rescale => 1,
            _ => 1 + level / 2,
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

/// A template of `nodes` operations over one parameter whose last value is the result; some values are out of range.
fn graph(seed: u64, nodes: u32) -> Maker {
    let mut random = Random(seed);
    let mut m = Maker::new(1 << 15, 16);
    let mut values = vec![m.param(vector())];
    for _ in 0..nodes {
        let recent = |r: &mut Random, values: &[ValueId]| {
            let back = r.below(values.len().min(3) as u64) as usize;
            values[values.len() - 1 - back]
        };
        let (a, b) = (recent(&mut random, &values), recent(&mut random, &values));
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
    let last = *values.last().unwrap();
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
            if let Some(v) = node.result {
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
        live[n] = node.result.is_some_and(|v| wanted.contains(&v));
        if live[n] {
            wanted.extend(&node.operands);
        }
    }
    live
}

#[test]
fn no_placement_is_cheaper() {
    let target = Target {
        top: TOP,
        refreshes: vec![RefreshKind {
            kind: BootstrapKind {
                slots: 128,
                complex: false,
            },
            input_level: 1,
        }],
    };
    let (mut feasible, mut refreshed, mut apart) = (0, 0, 0);
    for seed in 0..300 {
        let m = graph(seed, 6);
        let region = flatten(&m.program, 0, &target, &Made, &Options::default()).unwrap();
        let live = live_nodes(&region);
        for exit in [0, 2, 4] {
            let found = search(&region, TOP, exit, 4096);
            for entry in [0, 3, 5] {
                let outcome = found.as_ref().ok().and_then(|f| {
                    f.outcomes
                        .iter()
                        .filter(|o| o.needs[0] <= entry)
                        .min_by_key(|o| o.cost)
                });
                let best = enumerate(&region, &live, entry, exit);
                assert_eq!(
                    outcome.map(|o| o.cost),
                    best,
                    "seed {seed}, {entry} to {exit}"
                );
                let Some(outcome) = outcome else { continue };
                feasible += 1;
                let placement = found.as_ref().unwrap().placement(&region, outcome);
                refreshed += usize::from(placement.refreshed.iter().any(|r| *r));
                apart += usize::from(region.nodes.iter().zip(&placement.reads_copy).any(
                    |(n, c)| {
                        n.operands
                            .iter()
                            .zip(c)
                            .any(|(v, copy)| placement.refreshed[*v] && !copy)
                    },
                ));
            }
        }
    }
    // The test means something only if bootstraps happen, also of values whose original is read elsewhere.
    assert!(
        feasible > 500 && refreshed > 100 && apart > 20,
        "{feasible} {refreshed} {apart}"
    );
}
