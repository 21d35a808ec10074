//! The cheapest way to compute a class, as a DAG: work is paid once per class, levels along the longest path.
//!
//! Branch and bound over the classes that the root reaches. Nodes that no program can have are dropped beforehand; nodes of a class
//! that differ in leaves only are compared, and kept only if no other is at least as good in work and levels, which leaves few real
//! alternatives. The bound counts the least work of every class that is known to be needed. The search is exact unless it runs out of
//! [`STEPS`].

use egg::{EGraph, Id, Language};
use std::collections::HashMap;

use super::language::Kernel;
use super::price::{Price, Pricing};

/// Most extensions of a partial choice that are looked at.
const STEPS: u32 = 2_000_000;

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

/// Every node that has a price, by class.
pub type Priced = Vec<(Id, Vec<(Kernel, Price)>)>;

/// Prices all nodes of an e-graph, once for many extractions.
pub fn priced(egraph: &EGraph<Kernel, ()>, pricing: &Pricing<'_>) -> Priced {
    let price = |node: &Kernel| Some((node.clone(), pricing.of(egraph, node)?));
    let classes = egraph.classes();
    classes
        .map(|class| (class.id, class.nodes.iter().filter_map(price).collect()))
        .collect()
}

/// The cheapest choice for `root`; `allowed` can forbid nodes.
pub fn extract(
    egraph: &EGraph<Kernel, ()>,
    root: Id,
    priced: &Priced,
    allowed: &dyn Fn(&Kernel) -> bool,
) -> Option<Extracted> {
    let mut search = Search {
        egraph,
        candidates: candidates(egraph, priced, allowed),
        chosen: HashMap::new(),
        best: None,
        steps: 0,
    };
    let root = egraph.find(root);
    if !search.candidates.contains_key(&root) {
        return None;
    }
    search.extend(vec![root], 0);
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
        open.retain(|class| !self.chosen.contains_key(class));
        open.sort_unstable();
        open.dedup();
        let least: u64 = open.iter().map(|class| self.least(*class)).sum();
        let beaten = |(cost, _): &(u64, _)| work + least >= *cost;
        if self.steps > STEPS || self.best.as_ref().is_some_and(beaten) {
            return;
        }
        // the class with the fewest alternatives decides the least and reveals the most
        let fewest = (0..open.len()).min_by_key(|i| self.candidates[&open[*i]].len());
        let Some(class) = fewest.map(|i| open.swap_remove(i)) else {
            return self.complete(work);
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

    /// Work of a class's cheapest node.
    fn least(&self, class: Id) -> u64 {
        let nodes = self.candidates.get(&class);
        // cheapest first
        nodes
            .and_then(|nodes| nodes.first())
            .map_or(0, |(_, price)| price.work)
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
    priced: &Priced,
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
    for (id, mut priced) in feasible(egraph, priced, allowed) {
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
        all.insert(id, kept);
    }
    all
}

/// Per class the allowed nodes whose operands, all the way down, have nodes that do. A class without any is left out.
fn feasible(
    egraph: &EGraph<Kernel, ()>,
    priced: &Priced,
    allowed: &dyn Fn(&Kernel) -> bool,
) -> Candidates {
    let mut waiting: Vec<(Id, Vec<(Kernel, Price)>)> = priced
        .iter()
        .map(|(id, nodes)| {
            let nodes = nodes.iter().filter(|(node, _)| allowed(node));
            (*id, nodes.cloned().collect())
        })
        .collect();
    let mut found = Candidates::new();
    loop {
        let mut grown = false;
        for (id, nodes) in &mut waiting {
            let ready = |(node, _): &(Kernel, Price)| {
                let mut children = node.children().iter();
                children.all(|child| found.contains_key(&egraph.find(*child)))
            };
            let (now, later): (Vec<_>, Vec<_>) = nodes.drain(..).partition(ready);
            *nodes = later;
            if !now.is_empty() {
                grown = true;
                found.entry(*id).or_default().extend(now);
            }
        }
        if !grown {
            return found;
        }
    }
}
