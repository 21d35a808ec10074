//! Orion's placer: a vertex for every operation and level, residual regions solved first, innermost ones before those around them,
//! each to a table of costs by level at its fork and level at its join, then one shortest path.
//!
//! After Orion (Ebel, Garimella, Reagen, ASPLOS 2025, arXiv 2311.03470, section 5.2); Cachemir (arXiv 2602.11470) prices the edges
//! of its chain the same way: an operation at its level, and a bootstrap where the next one reads higher than it ends. The
//! fork of a value is its immediate dominator, the last value that everything it is computed from passed through; the
//! branches between the two are solved apart and their costs added. That is Orion's decomposition wherever it has one (regions with one fork
//! and one join) and goes on where decoders leave it: at values that two joins share. To its
//! benefit a bootstrap may be followed by a drop, which Orion's vertices do not allow (Cachemir's do).
//!
//! Assumption that this graph breaks: one value is in flight. The branches of a region know only the levels at its ends and their
//! lengths are added, so what two of them share counts twice: a bootstrap of the fork, which queries, keys and values would all read,
//! and a value between fork and join. Where two branches do refresh the same value, what is built does so once. K and V
//! are branches like others, which end with this token, though every later token reads them.

use super::graph::Graph;
use super::{Comparator, Copies};
use crate::place::region::{Region, Val};
use std::collections::BTreeSet;

/// Nanoseconds of what cannot be; sums of a few of them do not overflow.
const NEVER: u64 = 1 << 60;

/// Nanoseconds by level at a fork (rows) and level of a value computed from it.
#[derive(Clone)]
struct Costs {
    levels: usize,
    nanos: Vec<u64>,
}

impl Costs {
    fn new(levels: usize, nanos: impl Fn(usize, usize) -> u64) -> Self {
        let cell = |i: usize| nanos(i / levels, i % levels).min(NEVER);
        let nanos = (0..levels * levels).map(cell).collect();
        Self { levels, nanos }
    }

    fn at(&self, from: usize, to: usize) -> u64 {
        self.nanos[from * self.levels + to]
    }
}

/// Orion's placer on one template.
pub struct Orion<'a> {
    graph: Graph<'a>,
    levels: usize,
    /// Immediate dominator of each value; the entry counts as a value, behind all others.
    fork: Vec<Val>,
    /// Costs from its fork's level to a value's as it is made.
    made: Vec<Costs>,
}

impl<'a> Orion<'a> {
    /// For levels up to `top`.
    pub fn new(region: &'a Region, top: u32) -> Self {
        let graph = Graph::new(region);
        let levels = top as usize + 1;
        let never = Costs::new(levels, |_, _| NEVER);
        let values = region.values.len();
        let mut orion = Self {
            graph,
            levels,
            fork: vec![values; values + 1],
            made: vec![never; values],
        };
        for &v in &region.params {
            let floor = region.values[v].floor as usize;
            let stands = |from, to| from == to && to >= floor;
            orion.made[v] = Costs::new(levels, |from, to| if stands(from, to) { 0 } else { NEVER });
        }
        for i in 0..orion.graph.live.len() {
            let n = orion.graph.live[i];
            if let Some(v) = orion.graph.made(n) {
                orion.fork[v] = orion.common(&region.nodes[n].operands);
                orion.made[v] = orion.operation(n, v);
            }
        }
        orion
    }

    fn entry(&self) -> Val {
        self.graph.region.values.len()
    }

    /// The entry, and each fork on the way to `v`, and `v`.
    fn way(&self, mut v: Val) -> Vec<Val> {
        let mut way = vec![v];
        while v != self.entry() {
            v = self.fork[v];
            way.push(v);
        }
        way.reverse();
        way
    }

    /// The last value that all of `values` come from.
    fn common(&self, values: &[Val]) -> Val {
        let mut ways = values.iter().map(|v| self.way(*v));
        let first = ways.next().unwrap_or_default();
        let shared = ways.fold(first.len(), |shared, way| {
            let same = first.iter().zip(&way).take_while(|(a, b)| a == b);
            shared.min(same.count())
        });
        shared
            .checked_sub(1)
            .map_or_else(|| self.entry(), |i| first[i])
    }

    /// Costs of the value `v` that node `n` makes, from its fork: the operation, and each operand's branch to its level.
    fn operation(&self, n: usize, v: Val) -> Costs {
        let node = &self.graph.region.nodes[n];
        let value = &self.graph.region.values[v];
        let made_at = value.floor as usize..=value.ceiling as usize;
        let branch = |a: &Val| self.branch(self.fork[v], *a, &|at, read| self.read(*a, at, read));
        let branches: Vec<Costs> = node.operands.iter().map(branch).collect();
        Costs::new(self.levels, |from, to| {
            let read = to + node.depth as usize;
            if !made_at.contains(&to) || read >= self.levels {
                return NEVER;
            }
            let operands: u64 = branches.iter().map(|b| b.at(from, read)).sum();
            node.cost[read] + operands
        })
    }

    /// Nanoseconds of reading `v`, which stands at level `at`, at level `read`.
    fn read(&self, v: Val, at: usize, read: usize) -> u64 {
        let value = &self.graph.region.values[v];
        match value.refresh {
            _ if read == at || (read < at && !value.unrescaled) => 0,
            Some(refresh) if read > at && at >= refresh.input_level as usize => refresh.cost,
            _ => NEVER,
        }
    }

    /// Costs from a fork's level to the level at which `v`, computed from it, is read.
    fn branch(&self, fork: Val, v: Val, read: &dyn Fn(usize, usize) -> u64) -> Costs {
        let rows: Vec<Vec<u64>> = (0..self.levels)
            .map(|from| self.along(fork, from, v).pop().unwrap_or_default())
            .collect();
        Costs::new(self.levels, |from, to| {
            let ways = rows[from].iter().enumerate();
            ways.map(|(at, nanos)| nanos + read(at, to))
                .min()
                .unwrap_or(NEVER)
        })
    }

    /// Forks on the way from `fork` to `v`, that first, and `v`.
    fn steps(&self, fork: Val, v: Val) -> Vec<Val> {
        let way = self.way(v);
        let start = way.iter().position(|f| *f == fork).unwrap_or(0);
        way[start..].to_vec()
    }

    /// Least nanoseconds by level at each value on the way from `fork`, which stands at `from`, to `v`.
    fn along(&self, fork: Val, from: usize, v: Val) -> Vec<Vec<u64>> {
        let start = (0..self.levels).map(|at| if at == from { 0 } else { NEVER });
        let mut rows: Vec<Vec<u64>> = vec![start.collect()];
        for next in &self.steps(fork, v)[1..] {
            let last = &rows[rows.len() - 1];
            let reach = |to| {
                let ways = last.iter().enumerate();
                ways.map(|(at, nanos)| nanos + self.made[*next].at(at, to))
                    .min()
                    .map_or(NEVER, |nanos| nanos.min(NEVER))
            };
            let row = (0..self.levels).map(reach).collect();
            rows.push(row);
        }
        rows
    }

    /// What has to be there in the end: results at `exit`, and stored states at any level.
    fn ends(&self, exit: u32) -> Vec<(Val, usize)> {
        let results = &self.graph.region.results;
        let mut ends: Vec<_> = results.iter().map(|v| (*v, exit as usize)).collect();
        ends.extend(self.graph.stored().map(|v| (v, 0)));
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    /// Least nanoseconds of the model, by level at the last fork, to all ends; results are read as they are made.
    fn end_costs(&self, fork: Val, ends: &[(Val, usize)]) -> Vec<u64> {
        let branch = |(v, level): &(Val, usize)| {
            let free = |at: usize, read: usize| if at >= read { 0 } else { NEVER };
            let costs = self.branch(fork, *v, &free);
            let column = (0..self.levels).map(move |from| costs.at(from, *level));
            column.collect::<Vec<u64>>()
        };
        let branches: Vec<_> = ends.iter().map(branch).collect();
        let sum = |from: usize| branches.iter().map(|b| b[from]).sum::<u64>().min(NEVER);
        (0..self.levels).map(sum).collect()
    }

    /// The level of the last fork on the shortest path, and the path's nanoseconds.
    fn shortest(&self, entry: u32, exit: u32) -> Option<(u64, Val, usize)> {
        let ends = self.ends(exit);
        let values: Vec<Val> = ends.iter().map(|(v, _)| *v).collect();
        let fork = self.common(&values);
        let behind = self.end_costs(fork, &ends);
        let before = self.along(self.entry(), entry as usize, fork).pop()?;
        let whole: Vec<u64> = before.iter().zip(&behind).map(|(a, b)| a + b).collect();
        cheapest(&whole).map(|(nanos, level)| (nanos, fork, level))
    }

    /// Whether no value lies on two branches, as in regions with one fork and one join each.
    #[cfg(test)]
    pub fn shares_nothing(&self) -> bool {
        let mut on = vec![0; self.entry() + 1];
        let mut pass = |fork, v| self.steps(fork, v)[1..].iter().for_each(|v| on[*v] += 1);
        for &n in &self.graph.live {
            let fork = self.graph.made(n).map_or(self.entry(), |v| self.fork[v]);
            let operands = &self.graph.region.nodes[n].operands;
            operands.iter().for_each(|v| pass(fork, *v));
        }
        let ends: Vec<Val> = self.ends(0).into_iter().map(|(v, _)| v).collect();
        let fork = self.common(&ends);
        pass(self.entry(), fork);
        ends.iter().for_each(|v| pass(fork, *v));
        on.iter().all(|branches| *branches <= 1)
    }

    /// Nanoseconds of the shortest path.
    #[cfg(test)]
    pub fn cost(&self, entry: u32, exit: u32) -> Option<u64> {
        self.shortest(entry, exit).map(|(nanos, ..)| nanos)
    }
}

/// The least of `nanos` that can be, with the lowest index.
fn cheapest(nanos: &[u64]) -> Option<(u64, usize)> {
    let known = nanos.iter().enumerate().filter(|(_, n)| **n < NEVER);
    known.map(|(i, n)| (*n, i)).min()
}

/// The path being written down.
struct Trace<'a, 'b> {
    orion: &'b Orion<'a>,
    /// Level of each value on the branch at hand.
    level: Vec<usize>,
    copies: Copies,
    /// Values written down, with their levels and their forks': branches may share them.
    done: BTreeSet<(Val, usize, usize)>,
}

impl Trace<'_, '_> {
    /// Writes down the way from `fork`, at its level, to `v`, whose cost of being read by level is `read`.
    fn way(&mut self, fork: Val, v: Val, read: &dyn Fn(usize) -> u64) -> Option<()> {
        let orion = self.orion;
        let steps = orion.steps(fork, v);
        let rows = orion.along(fork, self.level[fork], v);
        let last: Vec<u64> = rows[rows.len() - 1]
            .iter()
            .enumerate()
            .map(|(at, nanos)| nanos + read(at))
            .collect();
        let (_, mut level) = cheapest(&last)?;
        let mut levels = vec![level];
        for (row, next) in rows.iter().zip(&steps[1..]).rev() {
            let ways = row.iter().enumerate();
            let ways: Vec<u64> = ways
                .map(|(at, nanos)| nanos + orion.made[*next].at(at, level))
                .collect();
            (_, level) = cheapest(&ways)?;
            levels.push(level);
        }
        for (v, level) in steps.iter().zip(levels.into_iter().rev()) {
            self.level[*v] = level;
        }
        steps[1..].iter().try_for_each(|v| self.value(*v))
    }

    /// Writes down how `v` is made, at its level and its fork's.
    fn value(&mut self, v: Val) -> Option<()> {
        let orion = self.orion;
        let fork = orion.fork[v];
        let Some(n) = orion.graph.made_by[v] else {
            return Some(());
        };
        if !self.done.insert((v, self.level[v], self.level[fork])) {
            return Some(());
        }
        let node = &orion.graph.region.nodes[n];
        let read = self.level[v] + node.depth as usize;
        for (k, &a) in node.operands.iter().enumerate() {
            self.way(fork, a, &|at| orion.read(a, at, read))?;
            self.copies[n] |= u8::from(self.level[a] < read) << k;
        }
        Some(())
    }
}

impl Comparator for Orion<'_> {
    fn copies(&self, entry: u32, exit: u32) -> Option<Copies> {
        let (_, fork, level) = self.shortest(entry, exit)?;
        let mut trace = Trace {
            orion: self,
            level: vec![0; self.entry() + 1],
            copies: vec![0; self.graph.region.nodes.len()],
            done: BTreeSet::new(),
        };
        trace.level[self.entry()] = entry as usize;
        let only = |wanted: usize| move |at: usize| if at == wanted { 0 } else { NEVER };
        trace.way(self.entry(), fork, &only(level))?;
        for (v, wanted) in self.ends(exit) {
            let enough = move |at: usize| if at >= wanted { 0 } else { NEVER };
            trace.way(fork, v, &enough)?;
        }
        Some(trace.copies)
    }
}
