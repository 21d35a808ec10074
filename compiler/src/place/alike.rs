//! Values that nothing tells apart, placed as one.
//!
//! Attention over keys and values that are stored once per KV head has a branch for each query head that shares one: the same operations
//! at the same prices. The search would weigh every combination of the branches' placements, whose number is a power of one branch's.
//! Here all values that are made in the same way, from the same values at the same prices, become one, and so do the nodes that make
//! them. A placement of that smaller region is one of the whole, in which such values read copies alike and run at no higher levels, so
//! it costs no more there. The best of all placements may be another: this is for regions that are too large to be searched whole.

use super::placement::Placement;
use super::region::{Kind, RNode, Region, Val, Value};
use std::collections::{BTreeMap, BTreeSet};

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

/// What is known of a node's result, the result's class if it is none but itself.
type Made = (Option<(usize, u32, u64)>, u32, u32, bool, Option<Val>);

/// What is known of a node: nodes of which all is the same are one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Known<'a> {
    kind: (u8, Option<Val>),
    depth: u32,
    rescale: bool,
    cost: &'a [u64],
    operands: Vec<Val>,
    made: Option<Made>,
}

/// Classes of values and of nodes, numbered by their first members: so nodes stay in an order of execution.
fn classes(whole: &Region) -> (Vec<Val>, Vec<usize>) {
    let mut values: Vec<Option<Val>> = vec![None; whole.values.len()];
    let mut count = 0;
    let mut next = || {
        count += 1;
        count - 1
    };
    // what no node makes is none but itself
    let made: BTreeSet<Val> = whole.nodes.iter().filter_map(|node| node.result).collect();
    for (v, class) in values.iter_mut().enumerate() {
        *class = (!made.contains(&v)).then(&mut next);
    }
    let mut known: BTreeMap<Known<'_>, (usize, Option<Val>)> = BTreeMap::new();
    let mut nodes = Vec::new();
    for node in &whole.nodes {
        let number = known.len();
        let entry = known.entry(of_node(whole, node, &values));
        let (class, result) = entry.or_insert_with(|| (number, node.result.map(|_| next())));
        nodes.push(*class);
        if let Some(v) = node.result {
            values[v] = *result;
        }
    }
    (values.into_iter().flatten().collect(), nodes)
}

fn of_node<'a>(whole: &Region, node: &'a RNode, values: &[Option<Val>]) -> Known<'a> {
    let kind = match node.kind {
        Kind::Op => (0, None),
        Kind::Bind => (1, None),
        Kind::Load => (2, None),
        Kind::Collect => (3, None),
        Kind::Append(cell) => (4, values[cell]),
    };
    let mut operands: Vec<Val> = node.operands.iter().filter_map(|v| values[*v]).collect();
    operands.sort_unstable();
    let made = node.result.map(|v| {
        let value = &whole.values[v];
        let refresh = value.refresh.map(|r| (r.kind, r.input_level, r.cost));
        let own = whole.results.contains(&v).then_some(v);
        (refresh, value.floor, value.ceiling, value.unrescaled, own)
    });
    Known {
        kind,
        depth: node.depth,
        rescale: node.rescale,
        cost: &node.cost,
        operands,
        made,
    }
}
