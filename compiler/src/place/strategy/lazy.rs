//! The lazy placer: values are refreshed only when a level has run out, and then only those that are too low.
//!
//! This is waterline scale management (EVA: Dathathri et al., PLDI 2020) with the bootstraps that compilers add to it (Fhelipe:
//! Krastev et al., PLDI 2024, takes the program in execution order and refreshes what is live and too low for what comes next).
//! Going forward, an operation runs at the level its operands have reached. Where that leaves its result below the waterline, the
//! operands that are too low are refreshed, and what comes later reads the copies. A value that lives on and is too low for a later
//! reader only is refreshed there: that is the same bootstrap.
//!
//! Assumption that this graph breaks: levels are worth the same everywhere, so that later is better. A level runs out wherever it
//! happens to, inside the loop over cached tokens as well, where each group pays for the bootstrap.

use super::graph::Graph;
use super::waterline::Waterline;
use super::{Comparator, Copies};
use crate::place::region::Region;

/// The lazy placer on one template.
pub struct Lazy<'a> {
    graph: Graph<'a>,
    top: u32,
}

impl<'a> Lazy<'a> {
    /// For levels up to `top`.
    pub fn new(region: &'a Region, top: u32) -> Self {
        let graph = Graph::new(region);
        Self { graph, top }
    }
}

impl Comparator for Lazy<'_> {
    fn copies(&self, entry: u32, exit: u32) -> Option<Copies> {
        let line = Waterline::new(&self.graph, exit);
        let values = &self.graph.region.values;
        // level that each value has reached, its copy's once it is refreshed
        let mut level = vec![entry; values.len()];
        let mut copied = vec![false; values.len()];
        let mut copies = vec![0; self.graph.region.nodes.len()];
        for &n in &self.graph.live {
            let node = &self.graph.region.nodes[n];
            let need = line.need(&self.graph, n);
            for (k, &v) in node.operands.iter().enumerate() {
                if level[v] < need {
                    values[v].refresh.filter(|r| level[v] >= r.input_level)?;
                    (level[v], copied[v]) = (self.top, true);
                }
                copies[n] |= u8::from(copied[v]) << k;
            }
            let reached = node.operands.iter().map(|v| level[*v]).min()?;
            if let Some(v) = self.graph.made(n) {
                level[v] = reached.checked_sub(node.depth)?;
            }
        }
        Some(copies)
    }
}
