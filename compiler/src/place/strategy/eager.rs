//! The eager placer: a value is refreshed where it is made, as soon as it is down to the lowest level that a bootstrap takes, or
//! too low for the next operation that reads it; from then on there is only the refreshed value.
//!
//! It is the baseline of most papers on placement, and what programs do that call `bootstrap` when a level counter says so. To
//! its benefit nothing is refreshed that has the levels for all that follows it.
//!
//! Assumption that this graph breaks: a value at the bottom is as good a place as any later one. Sums, rotations and folds spend no
//! level, so several values at the bottom often end in one, of a shorter period.

use super::graph::Graph;
use super::waterline::Waterline;
use super::{Comparator, Copies};
use crate::place::region::{Region, Val};

/// The eager placer on one template.
pub struct Eager<'a> {
    graph: Graph<'a>,
    top: u32,
}

impl<'a> Eager<'a> {
    /// For levels up to `top`.
    pub fn new(region: &'a Region, top: u32) -> Self {
        let graph = Graph::new(region);
        Self { graph, top }
    }

    /// Whether `v`, made at `level`, is refreshed at once.
    fn refreshes(&self, line: &Waterline, v: Val, level: u32) -> bool {
        let Some(refresh) = self.graph.region.values[v].refresh else {
            return false;
        };
        let low = level <= refresh.input_level || level < line.next[v];
        low && level >= refresh.input_level && level < line.rest[v]
    }
}

impl Comparator for Eager<'_> {
    fn copies(&self, entry: u32, exit: u32) -> Option<Copies> {
        let line = Waterline::new(&self.graph, exit);
        let region = self.graph.region;
        let mut level = vec![0; region.values.len()];
        let mut copied = vec![false; region.values.len()];
        let mut copies = vec![0; region.nodes.len()];
        let reach = |v: Val, at: u32| match self.refreshes(&line, v, at) {
            true => (self.top, true),
            false => (at, false),
        };
        for &v in &region.params {
            (level[v], copied[v]) = reach(v, entry);
        }
        for &n in &self.graph.live {
            let node = &region.nodes[n];
            for (k, &v) in node.operands.iter().enumerate() {
                copies[n] |= u8::from(copied[v]) << k;
            }
            let reached = node.operands.iter().map(|v| level[*v]).min()?;
            if let Some(v) = self.graph.made(n) {
                (level[v], copied[v]) = reach(v, reached.checked_sub(node.depth)?);
            }
        }
        Some(copies)
    }
}
