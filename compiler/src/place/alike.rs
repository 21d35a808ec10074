//! Values that are made alike, placed as one.
//!
//! Attention over keys and values that are stored once per KV head has a branch for each query head that shares one: the same operations
//! at the same prices. The search would weigh every combination of the branches' placements, whose number is a power of one branch's.
//! Here all values on the branches that are made in the same way, from the same values at the same prices, become one, and so do the nodes
//! that make them. A placement of that smaller region is one of the whole, in which such values read copies alike and nothing runs at a
//! higher level. The best of all placements may be another: the search says that it did not weigh them all.

use super::placement::Placement;
use super::region::{Kind, RNode, Region, Val, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A region with one value for all that are made alike.
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
    /// That of a whole region, if it has branches that compute the same.
    pub fn of(whole: &Region) -> Option<Self> {
        let alike = Self::by(whole, &on_branches(whole, &whole.branching()));
        let collected = |region: &Region| {
            let collects = |node: &&RNode| node.kind == Kind::Collect;
            region.nodes.iter().filter(collects).count()
        };
        (collected(&alike.region) < collected(whole)).then_some(alike)
    }

    /// That of a whole region of which these nodes may be one with others.
    pub fn by(whole: &Region, mergeable: &[bool]) -> Self {
        let (values, nodes) = classes(whole, mergeable);
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

    /// The whole region's placement in which operands read copies as they do in this one's.
    pub fn placement(&self, whole: &Region, result_level: u32, small: &Placement) -> Placement {
        Placement::of(whole, result_level, |n| {
            let stands = self.nodes[n];
            let operands = &self.region.nodes[stands].operands;
            let copied = |v: &Val| {
                let place = operands.iter().position(|s| *s == self.values[*v]);
                place.is_some_and(|k| small.reads_copy[stands][k])
            };
            let operands = whole.nodes[n].operands.iter().enumerate();
            operands.fold(0, |bits, (k, v)| bits | (u8::from(copied(v)) << k))
        })
    }

    /// A node of the whole that `node` stands for.
    pub fn member(&self, node: usize) -> Option<usize> {
        self.nodes.iter().position(|stands| *stands == node)
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

/// The nodes on the branches of loops: those inside, those that only they read, and those that read them.
fn on_branches(whole: &Region, branching: &BTreeSet<usize>) -> Vec<bool> {
    let inside = |node: &RNode| branching.contains(&node.scope);
    let mut on: Vec<bool> = whole.nodes.iter().map(inside).collect();
    // what only branches read, from the last node to the first
    let mut elsewhere: BTreeSet<Val> = whole.results.iter().copied().collect();
    for (n, node) in whole.nodes.iter().enumerate().rev() {
        on[n] |= node.result.is_some_and(|v| !elsewhere.contains(&v));
        if !on[n] {
            elsewhere.extend(&node.operands);
        }
    }
    let mut after = BTreeSet::new();
    for (n, node) in whole.nodes.iter().enumerate() {
        let reads = node.operands.iter().any(|v| after.contains(v));
        on[n] |= reads;
        if reads || node.kind == Kind::Collect && inside(node) {
            after.extend(node.result);
        }
    }
    on
}

/// What is known of a node's result, the result's class if it is none but itself.
type Made = (Option<(usize, u32, u64)>, u32, u32, bool, Option<Val>);

/// What is known of a node: nodes of which all is the same are one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Known<'a> {
    /// The node, if it is one with none.
    own: Option<usize>,
    kind: (u8, Option<Val>),
    depth: u32,
    rescale: bool,
    cost: &'a [u64],
    operands: Vec<Val>,
    made: Option<Made>,
}

/// Classes of values and of nodes, numbered by their first members: so nodes stay in an order of execution.
fn classes(whole: &Region, mergeable: &[bool]) -> (Vec<Val>, Vec<usize>) {
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
    for (n, node) in whole.nodes.iter().enumerate() {
        let number = known.len();
        let own = (!mergeable[n]).then_some(n);
        let entry = known.entry(of_node(whole, node, &values, own));
        let (class, result) = entry.or_insert_with(|| (number, node.result.map(|_| next())));
        nodes.push(*class);
        if let Some(v) = node.result {
            values[v] = *result;
        }
    }
    (values.into_iter().flatten().collect(), nodes)
}

fn of_node<'a>(
    whole: &Region,
    node: &'a RNode,
    values: &[Option<Val>],
    own: Option<usize>,
) -> Known<'a> {
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
        own,
        kind,
        depth: node.depth,
        rescale: node.rescale,
        cost: &node.cost,
        operands,
        made,
    }
}
