//! How far a value may sink, for the placers that go forward.
//!
//! Published placers may refresh every value. Here a value outside [-1, 1], a term of a sum of products and a value that entered
//! a loop from outside may not be, so a level can run out where nothing can be refreshed any more. The waterline of a value is the
//! lowest level from which the rest can still be computed: the level its bootstrap takes if it has one, what its readers need if
//! that is less, and the most that a reader needs if it has none.

use super::graph::Graph;

/// Lowest level of each value, by value.
pub struct Waterline {
    /// With a refresh at the first chance wherever there is one.
    pub lowest: Vec<u32>,
    /// Most that a reader needs of the value, its own refreshes included.
    pub next: Vec<u32>,
    /// What all that follows needs if nothing is refreshed.
    pub rest: Vec<u32>,
}

impl Waterline {
    /// The waterline of values that end in results at `exit`.
    pub fn new(graph: &Graph<'_>, exit: u32) -> Self {
        let values = &graph.region.values;
        let floors: Vec<u32> = values.iter().map(|v| v.floor).collect();
        let mut line = Self {
            lowest: floors.clone(),
            next: vec![0; values.len()],
            rest: floors,
        };
        for &v in &graph.region.results {
            line.lowest[v] = line.lowest[v].max(exit);
            line.rest[v] = line.rest[v].max(exit);
        }
        for &n in graph.live.iter().rev() {
            line.pass(graph, n);
        }
        line
    }

    /// Takes node `n`'s needs to its operands. What it makes has met all its readers: they come later.
    fn pass(&mut self, graph: &Graph<'_>, n: usize) {
        let Some(made) = graph.made(n) else { return };
        let node = &graph.region.nodes[n];
        let need = self.need(graph, n);
        let rest = self.rest[made] + node.depth;
        for &v in &node.operands {
            let take = graph.region.values[v].refresh.map(|r| r.input_level);
            self.next[v] = self.next[v].max(need);
            self.rest[v] = self.rest[v].max(rest);
            self.lowest[v] = self.lowest[v].max(take.map_or(need, |take| need.min(take)));
        }
    }

    /// Level that node `n` needs of its operands.
    pub fn need(&self, graph: &Graph<'_>, n: usize) -> u32 {
        let made = graph.made(n);
        made.map_or(0, |v| self.lowest[v]) + graph.region.nodes[n].depth
    }
}
