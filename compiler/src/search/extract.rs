//! The cheapest way to compute a class, as a DAG: work is paid once per class, levels along the longest path.
//!
//! Branch and bound over the classes that the root reaches. Nodes of a class that differ in leaves only are compared beforehand
//! and kept only if no other is at least as good in work and levels, which leaves few real alternatives; the search is exact
//! unless it runs out of [`STEPS`].

use egg::{EGraph, Id, Language};
use std::collections::HashMap;

use super::language::Kernel;
use super::price::{Price, Pricing};

/// Most extensions of a partial choice that are looked at.
const STEPS: u32 = 400_000;

/// A choice of one node per class.
#[derive(Clone, Debug)]
pub struct Extracted {
    /// Nanoseconds in all.
    pub cost: u64,
    /// The node of each class that the root needs.
    pub nodes: HashMap<Id, Kernel>,
    /// Whether every choice was weighed.
    pub exact: bool,
}

/// The cheapest choice for `root`; `allowed` can forbid nodes.
pub fn extract(
    egraph: &EGraph<Kernel, ()>,
    root: Id,
    pricing: &Pricing<'_>,
    allowed: &dyn Fn(&Kernel) -> bool,
) -> Option<Extracted> {
    let mut search = Search {
        egraph,
        candidates: candidates(egraph, pricing, allowed),
        chosen: HashMap::new(),
        best: None,
        steps: 0,
    };
    search.extend(vec![egraph.find(root)], 0);
    let exact = search.steps < STEPS;
    search
        .best
        .map(|(cost, nodes)| Extracted { cost, nodes, exact })
}

type Candidates = HashMap<Id, Vec<(Kernel, Price)>>;

struct Search<'a> {
    egraph: &'a EGraph<Kernel, ()>,
    candidates: Candidates,
    chosen: HashMap<Id, (Kernel, Price)>,
    best: Option<(u64, HashMap<Id, Kernel>)>,
    steps: u32,
}

impl Search<'_> {
    /// Chooses nodes for the classes in `open` and what they need; `work` is that of the classes chosen so far.
    fn extend(&mut self, mut open: Vec<Id>, work: u64) {
        self.steps += 1;
        if self.steps > STEPS || self.best.as_ref().is_some_and(|(cost, _)| work >= *cost) {
            return;
        }
        let class = loop {
            match open.pop() {
                None => return self.complete(work),
                Some(class) if self.chosen.contains_key(&class) => {}
                Some(class) => break class,
            }
        };
        let candidates = self.candidates.get(&class).cloned().unwrap_or_default();
        for (node, price) in candidates {
            let mut open = open.clone();
            open.extend(node.children().iter().map(|child| self.egraph.find(*child)));
            self.chosen.insert(class, (node, price));
            self.extend(open, work + price.work);
            self.chosen.remove(&class);
        }
    }

    fn complete(&mut self, work: u64) {
        let mut paths = HashMap::new();
        let mut levels = 0;
        for class in self.chosen.keys() {
            match self.path(*class, &mut paths) {
                Some(path) => levels = levels.max(path),
                None => return, // a cycle is no program
            }
        }
        let cost = work + levels;
        if self.best.as_ref().is_none_or(|(best, _)| cost < *best) {
            let nodes = self
                .chosen
                .iter()
                .map(|(id, (node, _))| (*id, node.clone()));
            self.best = Some((cost, nodes.collect()));
        }
    }

    /// Price of the levels on the longest path below a class; None on a cycle.
    fn path(&self, class: Id, known: &mut HashMap<Id, Option<u64>>) -> Option<u64> {
        if let Some(path) = known.get(&class) {
            return *path;
        }
        known.insert(class, None);
        let (node, price) = self.chosen.get(&class)?;
        let mut below = 0;
        for child in node.children() {
            below = below.max(self.path(self.egraph.find(*child), known)?);
        }
        let path = Some(below + price.levels);
        known.insert(class, path);
        path
    }
}

/// Per class its nodes worth considering, cheapest work first.
fn candidates(
    egraph: &EGraph<Kernel, ()>,
    pricing: &Pricing<'_>,
    allowed: &dyn Fn(&Kernel) -> bool,
) -> Candidates {
    let leafy = |id: &Id| {
        let class = &egraph[*id];
        class
            .nodes
            .iter()
            .all(|node| matches!(node, Kernel::Num(_)))
    };
    let inputs = |node: &Kernel| -> Vec<Id> {
        let children = node.children().iter().filter(|id| !leafy(id));
        children.map(|id| egraph.find(*id)).collect()
    };
    let mut all = Candidates::new();
    for class in egraph.classes() {
        let mut priced: Vec<(Kernel, Price)> = class
            .nodes
            .iter()
            .filter(|node| allowed(node))
            .filter_map(|node| Some((node.clone(), pricing.of(egraph, node)?)))
            .collect();
        priced.sort_by(|(a, p), (b, q)| (p.work, p.levels, a).cmp(&(q.work, q.levels, b)));
        let mut kept: Vec<(Kernel, Price)> = Vec::new();
        for (node, price) in priced {
            let beaten = kept.iter().any(|(other, known)| {
                inputs(other) == inputs(&node) && known.levels <= price.levels
            });
            if !beaten {
                kept.push((node, price));
            }
        }
        all.insert(class.id, kept);
    }
    all
}
