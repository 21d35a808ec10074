//! The min-cut placer: the program is divided into regions of one multiplicative depth each, a region is refreshed, if at all, along
//! its cheapest cut, and a shortest path over the regions says which.
//!
//! After ReSBM (Liu et al., "Region-based Scale and Minimal-Level Bootstrapping Management for FHE via Min-Cut", ASPLOS 2025). The
//! depth of a value is the number of levels between the parameters and it. A cut at depth d divides the operations in two sets, one
//! closed under operands; it refreshes every value that passes from one to the other, typed and priced as all bootstraps here, a
//! value inside a loop once a group. What is shallower than d lies before the cut, what is deeper behind it. Where a value crosses
//! that no bootstrap takes, shallower operations are set free, one depth after the other, until there is a cut. Between two cuts each
//! operation runs at the level that its distance to the next cut says, which prices it.
//!
//! Assumption that this graph breaks: all that leaves a region does so at one level. The residual of a decoder layer crosses
//! every cut on the way and is taken to be refreshed with each (what is built refreshes it once, and not at all if its level does).

use super::flow::{Network, Sides, UNCUT};
use super::graph::Graph;
use super::{Comparator, Copies};
use crate::place::region::{Region, Val};

/// The cheapest cut of one region.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// Depth of the region.
    pub depth: u32,
    /// Shallower operations are before the cut.
    pub free: u32,
    /// Nanoseconds of its bootstraps.
    pub cost: u64,
    /// Whether each live node is before it.
    pub before: Vec<bool>,
    /// Least depth at which what is behind the cut reads across it.
    start: u32,
    /// Highest level that its bootstraps take.
    take: u32,
}

/// Operations between two cuts: levels they need above the depth zero, and nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Part {
    height: u32,
    cost: u64,
}

/// The min-cut placer on one template.
pub struct MinCut<'a> {
    graph: Graph<'a>,
    top: u32,
    /// Depth of each value.
    depth: Vec<u32>,
    /// Cuts by depth, where there are any.
    cuts: Vec<Cut>,
    /// The part before each cut from each place to come from: the entry, then each cut.
    parts: Vec<Vec<Option<Part>>>,
}

impl<'a> MinCut<'a> {
    /// For levels up to `top`.
    pub fn new(region: &'a Region, top: u32) -> Self {
        let graph = Graph::new(region);
        let depth = depths(&graph);
        let deepest = depth.iter().copied().max().unwrap_or(0);
        let mut found = Self {
            graph,
            top,
            depth,
            cuts: Vec::new(),
            parts: Vec::new(),
        };
        found.cuts = (0..=deepest).filter_map(|d| found.region_cut(d)).collect();
        let places = || std::iter::once(None).chain(found.cuts.iter().map(Some));
        let before = |to: &Cut| places().map(|from| found.part(from, to)).collect();
        found.parts = found.cuts.iter().map(before).collect();
        found
    }

    /// The cheapest cut at `depth`, with as few operations set free as there must be.
    fn region_cut(&self, depth: u32) -> Option<Cut> {
        (0..=depth).rev().find_map(|free| self.cut(depth, free))
    }

    /// The cheapest cut behind what is shallower than `free` and before what is deeper than `depth`.
    pub fn cut(&self, depth: u32, free: u32) -> Option<Cut> {
        let Sides { cost, source } = self.network(depth, free).cut(SOURCE, SINK)?;
        let live = self.graph.live.len();
        let before: Vec<bool> = (0..live).map(|i| source[node(i)]).collect();
        let (mut start, mut take) = (u32::MAX, 0);
        for (i, &n) in self.graph.live.iter().enumerate() {
            let node = &self.graph.region.nodes[n];
            let across = node.operands.iter().filter(|v| self.before(&before, **v));
            for &v in across.filter(|_| !before[i]) {
                start = start.min(self.read_depth(n));
                let refresh = self.graph.region.values[v].refresh;
                take = take.max(refresh.map_or(0, |r| r.input_level));
            }
        }
        Some(Cut {
            depth,
            free,
            cost,
            before,
            start,
            take,
        })
    }

    /// Operations, values and who reads what, with bootstraps as capacities.
    fn network(&self, depth: u32, free: u32) -> Network {
        let Graph { region, live, .. } = &self.graph;
        let position = self.positions();
        let value = |v: Val| node(live.len()) + v;
        let mut network = Network::new(value(region.values.len()));
        for (i, &n) in live.iter().enumerate() {
            match self.node_depth(n) {
                d if d < free => network.join(SOURCE, node(i), UNCUT),
                d if d > depth => network.join(node(i), SINK, UNCUT),
                _ => {}
            }
        }
        for (v, readers) in self.graph.readers.iter().enumerate() {
            let maker = self.graph.made_by[v].map(|n| node(position[n]));
            let refresh = region.values[v].refresh.map_or(UNCUT, |r| r.cost);
            network.join(maker.unwrap_or(SOURCE), value(v), refresh);
            for &reader in readers {
                let reader = node(position[reader]);
                network.join(value(v), reader, UNCUT);
                if let Some(maker) = maker {
                    network.join(reader, maker, UNCUT);
                }
            }
        }
        for &v in &region.results {
            let maker = self.graph.made_by[v].map(|n| node(position[n]));
            network.join(maker.unwrap_or(SOURCE), SINK, UNCUT);
        }
        network
    }

    /// Place of each live node among the live ones.
    fn positions(&self) -> Vec<usize> {
        let mut position = vec![0; self.graph.region.nodes.len()];
        for (i, &n) in self.graph.live.iter().enumerate() {
            position[n] = i;
        }
        position
    }

    /// Whether `v` is made before the cut, as parameters are.
    fn before(&self, before: &[bool], v: Val) -> bool {
        let maker = self.graph.made_by[v];
        let place = maker.and_then(|n| self.graph.live.binary_search(&n).ok());
        place.is_none_or(|i| before[i])
    }

    /// Depth of what node `n` makes.
    fn node_depth(&self, n: usize) -> u32 {
        self.graph.made(n).map_or(0, |v| self.depth[v])
    }

    /// Depth at which node `n` reads.
    fn read_depth(&self, n: usize) -> u32 {
        self.node_depth(n) - self.graph.region.nodes[n].depth
    }

    /// The part between two cuts, or from the entry to the first.
    fn part(&self, from: Option<&Cut>, to: &Cut) -> Option<Part> {
        if from.is_some_and(|from| from.depth >= to.free) {
            return None;
        }
        self.between(from, Some(to), to.take + to.depth)
    }

    /// The part behind the last cut, to results at `exit`.
    fn last(&self, from: Option<&Cut>, exit: u32) -> Option<Part> {
        let results = self.graph.region.results.iter();
        let deepest = results.map(|v| self.depth[*v]).max().unwrap_or(0);
        self.between(from, None, exit + deepest)
    }

    /// What lies between two cuts if its last operations end `height` levels above depth zero; a value that needs more raises all.
    fn between(&self, from: Option<&Cut>, to: Option<&Cut>, height: u32) -> Option<Part> {
        let inside = |i: &usize| {
            from.is_none_or(|from| !from.before[*i]) && to.is_none_or(|to| to.before[*i])
        };
        let positions = (0..self.graph.live.len()).filter(inside);
        let nodes: Vec<usize> = positions.map(|i| self.graph.live[i]).collect();
        let floor = |n: &usize| {
            let made = self.graph.made(*n)?;
            Some(self.graph.region.values[made].floor + self.depth[made])
        };
        let floor = nodes.iter().filter_map(floor).max().unwrap_or(0);
        let height = height.max(floor);
        let start = from.map_or(0, |from| from.start);
        if height.saturating_sub(start) > self.top {
            return None;
        }
        let price = |n: &usize| {
            let level = height - self.read_depth(*n);
            self.graph.region.nodes[*n].cost[level as usize]
        };
        let cost = nodes.iter().map(price).sum();
        Some(Part { height, cost })
    }

    /// The cuts there are.
    #[cfg(test)]
    pub fn cuts(&self) -> impl Iterator<Item = &Cut> {
        self.cuts.iter()
    }

    /// Nanoseconds of the way through `cuts`, if it can be gone.
    #[cfg(test)]
    pub fn price(&self, cuts: &[&Cut], entry: u32, exit: u32) -> Option<u64> {
        let mut spent = 0;
        for (i, cut) in cuts.iter().enumerate() {
            let part = self.part(i.checked_sub(1).map(|i| cuts[i]), cut)?;
            if i == 0 && part.height > entry {
                return None;
            }
            spent += part.cost + cut.cost;
        }
        let last = self.last(cuts.last().copied(), exit)?;
        let enters = !cuts.is_empty() || last.height <= entry;
        enters.then_some(spent + last.cost)
    }

    /// The cheapest way through the cuts, with its nanoseconds.
    pub fn best(&self, entry: u32, exit: u32) -> Option<(u64, Vec<&Cut>)> {
        // by place to be: the entry, then each cut
        let mut best: Vec<Option<(u64, Option<usize>)>> = vec![Some((0, None))];
        for (cut, parts) in self.cuts.iter().zip(&self.parts) {
            let ways = parts.iter().enumerate().filter_map(|(from, part)| {
                let part = part.filter(|p| from > 0 || p.height <= entry)?;
                let (spent, _) = (*best.get(from)?)?;
                Some((spent + part.cost + cut.cost, Some(from)))
            });
            let way = ways.min();
            best.push(way);
        }
        let ends = (0..best.len()).filter_map(|from| {
            let cut = from.checked_sub(1).map(|i| &self.cuts[i]);
            let part = self.last(cut, exit)?;
            let (spent, _) = best[from].filter(|_| from > 0 || part.height <= entry)?;
            Some((spent + part.cost, from))
        });
        let (cost, mut at) = ends.min()?;
        let mut cuts = Vec::new();
        while let Some((_, Some(from))) = best[at] {
            cuts.push(&self.cuts[at - 1]);
            at = from;
        }
        cuts.reverse();
        Some((cost, cuts))
    }
}

impl Comparator for MinCut<'_> {
    fn copies(&self, entry: u32, exit: u32) -> Option<Copies> {
        let (_, cuts) = self.best(entry, exit)?;
        let mut copies = vec![0; self.graph.region.nodes.len()];
        for (i, &n) in self.graph.live.iter().enumerate() {
            let node = &self.graph.region.nodes[n];
            for (k, &v) in node.operands.iter().enumerate() {
                let across = |cut: &&Cut| self.before(&cut.before, v) && !cut.before[i];
                copies[n] |= u8::from(cuts.iter().any(across)) << k;
            }
        }
        Some(copies)
    }
}

const SOURCE: usize = 0;
const SINK: usize = 1;

/// A live node's number in the network.
fn node(i: usize) -> usize {
    i + 2
}

/// Levels between the parameters and each value.
fn depths(graph: &Graph<'_>) -> Vec<u32> {
    let mut depth = vec![0; graph.region.values.len()];
    for &n in &graph.live {
        let node = &graph.region.nodes[n];
        let read = node.operands.iter().map(|v| depth[*v]).max();
        if let Some(v) = graph.made(n) {
            depth[v] = read.unwrap_or(0) + node.depth;
        }
    }
    depth
}
