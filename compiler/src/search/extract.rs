//! The cheapest way to compute a class, as a DAG: work is paid once per class, levels along the longest path.
//!
//! Branch and bound over the classes that the root reaches. Nodes that no program can have are dropped beforehand; nodes of a class
//! that differ in leaves only are compared, and kept only if no other is at least as good in work and levels, which leaves few real
//! alternatives. The bound counts the least work of every class that is known to be needed, and the longest path with the fewest levels
//! wherever nothing is chosen yet. The search is exact unless it runs out of [`STEPS`].

use egg::{EGraph, Id, Language};
use std::collections::HashMap;

use super::language::Kernel;
use super::price::{Price, Pricing};

/// Most extensions of a partial choice that are looked at.
const STEPS: u32 = 2_000_000;

/// A choice of one node per class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extracted {
    /// Nanoseconds in all.
    pub cost: u64,
    /// Those of its work, levels aside.
    pub work: u64,
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
    let candidates = candidates(egraph, priced, allowed);
    let mut ids: Vec<Id> = candidates.keys().copied().collect();
    ids.sort_unstable();
    let root = ids.binary_search(&egraph.find(root)).ok()?;
    let mut search = Search::new(root, numbered(egraph, &ids, candidates));
    search.extend(vec![root], 0);
    let exact = search.steps < STEPS;
    let Best { cost, work, choice } = search.best?;
    let nodes = choice.into_iter().map(|(class, candidate)| {
        let node = search.classes[class][candidate].node.clone();
        (ids[class], node)
    });
    Some(Extracted {
        cost,
        work,
        nodes: nodes.collect(),
        exact,
    })
}

/// A node worth considering; `inputs` are the numbers of its operands' classes.
struct Candidate {
    node: Kernel,
    price: Price,
    inputs: Vec<usize>,
}

/// Candidates by the number of their class, which is its place in `ids`.
fn numbered(
    egraph: &EGraph<Kernel, ()>,
    ids: &[Id],
    mut candidates: Candidates,
) -> Vec<Vec<Candidate>> {
    let number = |id: &Id| ids.binary_search(&egraph.find(*id)).ok();
    let candidate = |(node, price): (Kernel, Price)| Candidate {
        inputs: node.children().iter().filter_map(number).collect(),
        node,
        price,
    };
    let mut of = |id| candidates.remove(id).unwrap_or_default();
    ids.iter()
        .map(|id| of(id).into_iter().map(candidate).collect())
        .collect()
}

/// The cheapest choice so far: candidates by class.
struct Best {
    cost: u64,
    work: u64,
    choice: Vec<(usize, usize)>,
}

struct Search {
    root: usize,
    /// Cheapest work first.
    classes: Vec<Vec<Candidate>>,
    /// Price of the fewest levels below a class, whatever is chosen.
    fewest: Vec<u64>,
    chosen: Vec<Option<usize>>,
    /// Classes with a choice, in the order they were chosen.
    order: Vec<usize>,
    /// Paths found in round `round`; None on the way there.
    paths: Vec<(u32, Option<u64>)>,
    round: u32,
    best: Option<Best>,
    steps: u32,
}

impl Search {
    fn new(root: usize, classes: Vec<Vec<Candidate>>) -> Self {
        let count = classes.len();
        Self {
            root,
            fewest: fewest(&classes),
            classes,
            chosen: vec![None; count],
            order: Vec::new(),
            paths: vec![(0, None); count],
            round: 0,
            best: None,
            steps: 0,
        }
    }

    /// Chooses nodes for the classes in `open` and what they need; `work` is that of the classes chosen so far.
    fn extend(&mut self, mut open: Vec<usize>, work: u64) {
        self.steps += 1;
        open.retain(|class| self.chosen[*class].is_none());
        open.sort_unstable();
        open.dedup();
        let least: u64 = open.iter().map(|class| self.least(*class)).sum();
        self.round += 1;
        let root = self.root;
        let Some(levels) = self.path(root) else {
            return; // a cycle is no program
        };
        let bound = work + least + levels;
        let beaten = |best: &Best| bound >= best.cost;
        if self.steps > STEPS || self.best.as_ref().is_some_and(beaten) {
            return;
        }
        // the class with the fewest alternatives decides the least and reveals the most
        let fewest = (0..open.len()).min_by_key(|i| self.classes[open[*i]].len());
        let Some(class) = fewest.map(|i| open.swap_remove(i)) else {
            let choice = |&class: &usize| Some((class, self.chosen[class]?));
            self.best = Some(Best {
                cost: bound,
                work,
                choice: self.order.iter().filter_map(choice).collect(),
            });
            return;
        };
        self.order.push(class);
        for candidate in 0..self.classes[class].len() {
            let Candidate { price, inputs, .. } = &self.classes[class][candidate];
            let open = open.iter().chain(inputs).copied().collect();
            let work = work + price.work;
            self.chosen[class] = Some(candidate);
            self.extend(open, work);
        }
        self.chosen[class] = None;
        self.order.pop();
    }

    /// Work of a class's cheapest node.
    fn least(&self, class: usize) -> u64 {
        self.classes[class].first().map_or(0, |c| c.price.work)
    }

    /// Price of the levels on the longest path below a class, at least; None on a cycle.
    fn path(&mut self, class: usize) -> Option<u64> {
        let (round, path) = self.paths[class];
        if round == self.round {
            return path;
        }
        let Some(candidate) = self.chosen[class] else {
            return Some(self.fewest[class]);
        };
        self.paths[class] = (self.round, None);
        let mut below = 0;
        for i in 0..self.classes[class][candidate].inputs.len() {
            let input = self.classes[class][candidate].inputs[i];
            below = below.max(self.path(input)?);
        }
        let path = Some(below + self.classes[class][candidate].price.levels);
        self.paths[class] = (self.round, path);
        path
    }
}

/// Price of the fewest levels below each class.
fn fewest(classes: &[Vec<Candidate>]) -> Vec<u64> {
    let mut found: Vec<Option<u64>> = vec![None; classes.len()];
    loop {
        let before = found.clone();
        for (class, candidates) in classes.iter().enumerate() {
            let levels = |candidate: &Candidate| {
                let below: Option<Vec<u64>> = candidate.inputs.iter().map(|i| found[*i]).collect();
                Some(below?.into_iter().max().unwrap_or(0) + candidate.price.levels)
            };
            found[class] = candidates.iter().filter_map(levels).min();
        }
        if found == before {
            return found.into_iter().map(Option::unwrap_or_default).collect();
        }
    }
}

type Candidates = HashMap<Id, Vec<(Kernel, Price)>>;

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
