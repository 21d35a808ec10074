//! Values that nothing tells apart, placed as one.
//!
//! Attention over keys and values that are stored once per KV head has a branch for each query head that shares one: the same operations
//! at the same prices, on operands that play the same part. The search would weigh every combination of the branches' placements, whose
//! number is a power of one branch's. Here all values with the same history, the same readers and the same prices become one, and so do
//! the nodes that make and read them: the coarsest equitable partition, by refinement of colours. A placement of that smaller region is
//! one of the whole, in which such values are placed alike, at the same price. The best of all placements may be another, so it is for
//! regions that are too large to be searched whole.

use super::placement::Placement;
use super::region::{Kind, RNode, Region, Val, Value};
use std::collections::BTreeMap;

/// A region with one value for all that nothing tells apart.
#[derive(Clone, Debug)]
pub struct Alike {
    /// It, with prices of all that a value or a node stands for.
    pub region: Region,
    /// What stands for each value of the whole.
    values: Vec<Val>,
    /// What stands for each node of the whole.
    nodes: Vec<usize>,
}

impl Alike {
    /// That of a whole region.
    pub fn of(whole: &Region) -> Self {
        let (values, nodes) = classes(whole);
        let made = |classes: &[usize]| {
            let mut members: Vec<Vec<usize>> = Vec::new();
            for (member, &class) in classes.iter().enumerate() {
                members.resize(members.len().max(class + 1), Vec::new());
                members[class].push(member);
            }
            members
        };
        let (of_value, of_node) = (made(&values), made(&nodes));
        let map = |vals: &[Val]| vals.iter().map(|v| values[*v]).collect::<Vec<_>>();
        let region = Region {
            name: whole.name.clone(),
            values: of_value.iter().map(|of| value(whole, of)).collect(),
            nodes: of_node.iter().map(|of| node(whole, of, &values)).collect(),
            params: map(&whole.params),
            results: map(&whole.results),
            cells: whole.cells.iter().map(|(s, c)| (*s, values[*c])).collect(),
            calls: whole.calls.clone(),
            names: Vec::new(),
            sites: of_node
                .iter()
                .map(|of| whole.sites[of[0]].clone())
                .collect(),
        };
        Self {
            region,
            values,
            nodes,
        }
    }

    /// The whole region's placement that has the choices made for this one: which operands of each node read copies.
    pub fn placement(&self, whole: &Region, result_level: u32, choices: &[u8]) -> Placement {
        Placement::of(whole, result_level, |n| {
            let stands = &self.region.nodes[self.nodes[n]].operands;
            let choice = choices[self.nodes[n]];
            let copied = |v: &Val| {
                let place = stands.iter().position(|s| *s == self.values[*v]);
                place.is_some_and(|k| choice & (1 << k) != 0)
            };
            let operands = whole.nodes[n].operands.iter().enumerate();
            operands.fold(0, |bits, (k, v)| bits | (u8::from(copied(v)) << k))
        })
    }

    /// A node of the whole that `node` stands for.
    pub fn member(&self, node: usize) -> usize {
        let found = self.nodes.iter().position(|stands| *stands == node);
        found.unwrap_or(0)
    }
}

/// A value that stands for all of `members`.
fn value(whole: &Region, members: &[Val]) -> Value {
    let mut value = whole.values[members[0]].clone();
    if let Some(refresh) = &mut value.refresh {
        refresh.cost *= members.len() as u64;
    }
    value
}

/// A node that stands for all of `members`.
fn node(whole: &Region, members: &[usize], values: &[Val]) -> RNode {
    let mut node = whole.nodes[members[0]].clone();
    node.cost
        .iter_mut()
        .for_each(|cost| *cost *= members.len() as u64);
    node.operands.iter_mut().for_each(|v| *v = values[*v]);
    node.operands.sort_unstable();
    node.operands.dedup();
    node.result = node.result.map(|v| values[v]);
    if let Kind::Append(cell) = &mut node.kind {
        *cell = values[*cell];
    }
    node
}

/// Classes of values and of nodes, numbered by their first members: so nodes stay in an order of execution.
fn classes(whole: &Region) -> (Vec<usize>, Vec<usize>) {
    let mut values = at_first(whole);
    loop {
        let nodes = numbered(whole.nodes.iter().map(|node| {
            let kind = match node.kind {
                Kind::Op => (0, 0),
                Kind::Bind => (1, 0),
                Kind::Load => (2, 0),
                Kind::Collect => (3, 0),
                Kind::Append(cell) => (4, values[cell]),
            };
            let mut operands: Vec<usize> = node.operands.iter().map(|v| values[*v]).collect();
            operands.sort_unstable();
            let result = node.result.map(|v| values[v]);
            (kind, node.depth, node.rescale, &node.cost, operands, result)
        }));
        let mut makers = vec![None; values.len()];
        let mut readers = vec![Vec::new(); values.len()];
        for (node, &class) in whole.nodes.iter().zip(&nodes) {
            if let Some(v) = node.result {
                makers[v] = Some(class);
            }
            node.operands.iter().for_each(|v| readers[*v].push(class));
        }
        readers.iter_mut().for_each(|of| of.sort_unstable());
        let finer = numbered(values.iter().zip(makers).zip(readers));
        if finer.iter().max() == values.iter().max() {
            return (finer, nodes);
        }
        values = finer;
    }
}

/// Classes of values by what is known of each alone. Parameters, results and cells are none but themselves.
fn at_first(whole: &Region) -> Vec<usize> {
    let own = |v: Val| {
        let named = whole.params.contains(&v) || whole.results.contains(&v);
        (named || whole.cells.values().any(|cell| *cell == v)).then_some(v)
    };
    numbered(whole.values.iter().enumerate().map(|(v, value)| {
        let refresh = value.refresh.map(|r| (r.kind, r.input_level, r.cost));
        (
            refresh,
            value.floor,
            value.ceiling,
            value.unrescaled,
            own(v),
        )
    }))
}

/// A number for each key, the same for equal ones, in the order in which they first come.
fn numbered<K: Ord>(keys: impl Iterator<Item = K>) -> Vec<usize> {
    let mut known = BTreeMap::new();
    keys.map(|key| {
        let next = known.len();
        *known.entry(key).or_insert(next)
    })
    .collect()
}
