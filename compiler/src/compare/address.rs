//! What an operation is called in any program of the same structure.

use crate::view::SlotView;
use sotto_ir::slot::Op;
use std::collections::{BTreeSet, HashMap};

/// An operation of a layer: whether inside a loop over groups, its site, its name, and how many of that name come before it there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Inside a loop over groups.
    pub looped: bool,
    /// `{i}` for the layer.
    pub site: String,
    /// Name of the operation.
    pub op: &'static str,
    /// How many before it.
    pub nth: u32,
}

impl Address {
    /// Whether placement may add it.
    pub fn placed(&self) -> bool {
        matches!(self.op, "rescale" | "drop" | "bootstrap")
    }
}

/// Addresses of all nodes, by template and node.
pub fn addresses(view: &SlotView) -> Vec<Vec<Address>> {
    let looped = looped(view);
    let templates = view.templates.iter().enumerate();
    templates
        .map(|(t, template)| {
            let mut counted: HashMap<(&str, &str), u32> = HashMap::new();
            let nodes = template.nodes.iter().map(|node| {
                let op = node.op.name();
                let count = counted.entry((&node.site, op)).or_insert(0);
                *count += 1;
                Address {
                    looped: looped.contains(&t),
                    site: node.site.clone(),
                    op,
                    nth: *count - 1,
                }
            });
            nodes.collect()
        })
        .collect()
}

/// Templates that a loop over groups runs.
fn looped(view: &SlotView) -> BTreeSet<usize> {
    let nodes = view.templates.iter().flat_map(|t| &t.nodes);
    let template = |op: &Op<_>| match op {
        Op::SumGroups { template, .. } => Some(*template),
        _ => None,
    };
    nodes.filter_map(|node| template(&node.op)).collect()
}

/// Templates in running order with the layer of each run; a loop's template comes before the loop's result, once.
pub fn runs(view: &SlotView) -> Vec<(usize, u32)> {
    let mut found = Vec::new();
    for step in &view.steps {
        for layer in step.first..step.first.saturating_add(step.count) {
            if let Some(template) = view.templates.get(step.template) {
                found.push((step.template, layer));
                let inner = template.nodes.iter().filter_map(|node| match &node.op {
                    Op::SumGroups { template, .. } => Some(*template),
                    _ => None,
                });
                found.extend(inner.map(|t| (t, layer)));
            }
        }
    }
    found
}

/// Every operation with its layer: where it is, by template and node.
pub fn places(view: &SlotView) -> HashMap<(u32, Address), (usize, usize)> {
    let addresses = addresses(view);
    let mut found = HashMap::new();
    for (template, layer) in runs(view) {
        for (node, address) in addresses.get(template).into_iter().flatten().enumerate() {
            found.insert((layer, address.clone()), (template, node));
        }
    }
    found
}

/// Whether two programs have the same operations in every layer, apart from those that placement adds.
pub fn same_structure(a: &SlotView, b: &SlotView) -> bool {
    operations(a, false) == operations(b, false)
}

/// Whether they have the same operations, those of placement included.
pub fn same_placement(a: &SlotView, b: &SlotView) -> bool {
    operations(a, true) == operations(b, true)
}

fn operations(view: &SlotView, placed: bool) -> BTreeSet<(u32, Address)> {
    let places = places(view).into_keys();
    places.filter(|(_, a)| placed || !a.placed()).collect()
}
