//! Everything decided about one template, and what follows from the only real decisions: which reads take refreshed copies.

use super::region::{Kind, Region, Val};

/// Everything decided about a template.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// Level of each value where it is defined; `None` if nothing reads it.
    pub level: Vec<Option<u32>>,
    /// Values that have a refreshed copy.
    pub refreshed: Vec<bool>,
    /// Level of each node's operands; `None` if the node is dead.
    pub operands_at: Vec<Option<u32>>,
    /// For each node and operand (in [`super::region::RNode::operands`] order) whether it reads the refreshed copy.
    pub reads_copy: Vec<Vec<bool>>,
}

impl Placement {
    /// The placement with results at `result_level` whose live nodes read copies as `copies` says: one bit an operand, asked of
    /// live nodes from the last to the first. Everything runs at the lowest level that its readers leave it.
    pub fn of(
        region: &Region,
        result_level: u32,
        mut copies: impl FnMut(usize) -> u8,
    ) -> Placement {
        let mut placement = Placement {
            level: vec![None; region.values.len()],
            refreshed: vec![false; region.values.len()],
            operands_at: vec![None; region.nodes.len()],
            reads_copy: region
                .nodes
                .iter()
                .map(|n| vec![false; n.operands.len()])
                .collect(),
        };
        for &v in &region.results {
            placement.read(region, v, result_level);
        }
        for n in (0..region.nodes.len()).rev() {
            let Some(defined) = placement.defined(region, n) else {
                continue;
            };
            placement.place(region, n, defined, copies(n));
        }
        placement
    }

    /// Level at which node `n` defines what it makes; `None` if nothing reads that.
    fn defined(&mut self, region: &Region, n: usize) -> Option<u32> {
        let node = &region.nodes[n];
        if let Kind::Append(cell) = node.kind {
            self.read(region, cell, 0);
            return self.level[cell];
        }
        self.level[node.result?]
    }

    fn place(&mut self, region: &Region, n: usize, defined: u32, copies: u8) {
        let node = &region.nodes[n];
        let need = defined + node.depth;
        self.operands_at[n] = Some(need);
        for (k, &v) in node.operands.iter().enumerate() {
            let copy = copies & (1 << k) != 0;
            self.reads_copy[n][k] = copy;
            match region.values[v].refresh {
                Some(refresh) if copy => {
                    self.refreshed[v] = true;
                    self.read(region, v, refresh.input_level);
                }
                _ => self.read(region, v, need),
            }
        }
    }

    fn read(&mut self, region: &Region, v: Val, level: u32) {
        let level = level.max(region.values[v].floor);
        let slot = &mut self.level[v];
        *slot = Some(slot.map_or(level, |l| l.max(level)));
    }

    /// Whether nothing asks for more than there is: parameters at `entry`, operands at `top`, values below their ceilings, a bootstrap
    /// for every copy.
    pub fn fits(&self, region: &Region, entry: u32, top: u32) -> bool {
        let within = |level: &Option<u32>, most: u32| level.is_none_or(|l| l <= most);
        region.params.iter().all(|&p| within(&self.level[p], entry))
            && region
                .values
                .iter()
                .zip(&self.level)
                .all(|(v, level)| within(level, v.ceiling))
            && self.operands_at.iter().all(|l| within(l, top))
            && region
                .values
                .iter()
                .zip(&self.refreshed)
                .all(|(v, refreshed)| !refreshed || v.refresh.is_some())
    }

    /// Nanoseconds of a placement that [fits](Self::fits), drops excluded.
    pub fn cost(&self, region: &Region) -> u64 {
        let nodes = region.nodes.iter().zip(&self.operands_at);
        let work = nodes.filter_map(|(node, at)| Some(node.cost[(*at)? as usize]));
        let values = region.values.iter().zip(&self.refreshed);
        let refreshes = values
            .filter(|(_, refreshed)| **refreshed)
            .filter_map(|(v, _)| Some(v.refresh?.cost));
        work.sum::<u64>() + refreshes.sum::<u64>()
    }
}
