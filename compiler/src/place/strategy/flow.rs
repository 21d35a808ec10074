//! Minimum cuts of small networks, by augmenting along shortest paths (Edmonds and Karp).

use std::collections::VecDeque;

/// Capacity of what must not be cut.
pub const UNCUT: u64 = 1 << 60;

/// A directed network of numbered nodes.
pub struct Network {
    /// Edges with the room left on them; edge i and edge i ^ 1 are each other's reverse.
    edges: Vec<(usize, u64)>,
    from: Vec<Vec<usize>>,
}

/// A minimum cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Sides {
    /// Capacity cut.
    pub cost: u64,
    /// Whether each node is on the source's side: the cut nearest to the sink.
    pub source: Vec<bool>,
}

impl Network {
    /// `nodes` nodes and no edges.
    pub fn new(nodes: usize) -> Self {
        Self {
            edges: Vec::new(),
            from: vec![Vec::new(); nodes],
        }
    }

    /// An edge from `a` to `b` that costs `capacity` to cut.
    pub fn join(&mut self, a: usize, b: usize, capacity: u64) {
        self.from[a].push(self.edges.len());
        self.edges.push((b, capacity));
        self.from[b].push(self.edges.len());
        self.edges.push((a, 0));
    }

    /// The cheapest cut between `source` and `sink`; `None` if each takes an edge that must not be cut.
    pub fn cut(mut self, source: usize, sink: usize) -> Option<Sides> {
        let mut cost = 0;
        while let Some(path) = self.path(source, sink) {
            let room = path.iter().map(|e| self.edges[*e].1).min()?;
            for e in path {
                self.edges[e].1 -= room;
                self.edges[e ^ 1].1 += room;
            }
            cost += room;
            if cost >= UNCUT {
                return None;
            }
        }
        let source = self.reach(sink).into_iter().map(|reaches| !reaches);
        let source = source.collect();
        Some(Sides { cost, source })
    }

    /// Edges of a shortest path with room.
    fn path(&self, source: usize, sink: usize) -> Option<Vec<usize>> {
        let mut by = vec![None; self.from.len()];
        let mut queue = VecDeque::from([source]);
        while let Some(a) = queue.pop_front() {
            for &e in &self.from[a] {
                let (b, room) = self.edges[e];
                if room > 0 && b != source && by[b].is_none() {
                    by[b] = Some(e);
                    queue.push_back(b);
                }
            }
        }
        let mut path = Vec::new();
        let mut at = sink;
        while at != source {
            let e = by[at]?;
            path.push(e);
            at = self.edges[e ^ 1].0;
        }
        Some(path)
    }

    /// Nodes from which there is a path with room to `sink`.
    fn reach(&self, sink: usize) -> Vec<bool> {
        let mut reaches = vec![false; self.from.len()];
        reaches[sink] = true;
        let mut queue = VecDeque::from([sink]);
        while let Some(b) = queue.pop_front() {
            for &e in &self.from[b] {
                let (a, _) = self.edges[e];
                if self.edges[e ^ 1].1 > 0 && !reaches[a] {
                    reaches[a] = true;
                    queue.push_back(a);
                }
            }
        }
        reaches
    }
}
