//! The def-use graph of a flattened template, dead nodes left out.

use crate::place::region::{Kind, Region, Val};

/// Who makes and who reads each value.
pub struct Graph<'a> {
    /// The template.
    pub region: &'a Region,
    /// Nodes whose work reaches a result or a state, in execution order.
    pub live: Vec<usize>,
    /// The node that makes each value (appends, of a state's cell); `None` for parameters and dead values.
    pub made_by: Vec<Option<usize>>,
    /// Live nodes that read each value.
    pub readers: Vec<Vec<usize>>,
}

impl<'a> Graph<'a> {
    /// The graph of `region`.
    pub fn new(region: &'a Region) -> Self {
        let live = live(region);
        let mut made_by = vec![None; region.values.len()];
        let mut readers = vec![Vec::new(); region.values.len()];
        for &n in &live {
            let node = &region.nodes[n];
            node.operands.iter().for_each(|v| readers[*v].push(n));
            if let Some(v) = made(region, n) {
                made_by[v] = Some(n);
            }
        }
        Self {
            region,
            live,
            made_by,
            readers,
        }
    }

    /// What node `n` makes: its result, or the cell it appends to.
    pub fn made(&self, n: usize) -> Option<Val> {
        made(self.region, n)
    }

    /// Cells that are appended to and that nothing in the template reads.
    pub fn stored(&self) -> impl Iterator<Item = Val> + '_ {
        let cells = self.region.cells.values().copied();
        cells.filter(|c| self.made_by[*c].is_some() && self.readers[*c].is_empty())
    }
}

fn made(region: &Region, n: usize) -> Option<Val> {
    match region.nodes[n].kind {
        Kind::Append(cell) => Some(cell),
        _ => region.nodes[n].result,
    }
}

fn live(region: &Region) -> Vec<usize> {
    let mut wanted = vec![false; region.values.len()];
    region.results.iter().for_each(|v| wanted[*v] = true);
    let mut live = Vec::new();
    for (n, node) in region.nodes.iter().enumerate().rev() {
        if node.result.is_none_or(|v| wanted[v]) {
            live.push(n);
            node.operands.iter().for_each(|v| wanted[*v] = true);
        }
    }
    live.reverse();
    live
}
