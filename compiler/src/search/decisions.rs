//! From the cheapest program to the lowering's choices, and to the words that `explain` says of them: each decision with its closest
//! alternatives, priced as the best program that has them.

use super::extract::{Extracted, Priced, extract};
use super::language::Kernel;
use super::pin::{Form, Pin};
use super::price::{leaf, site};
use crate::lower::{Choices, Way};
use egg::{EGraph, Id};
use sotto_ir::plan::{Decision, Rejected};

/// One template's saturated e-graph with its prices.
pub struct Search<'a> {
    /// The e-graph.
    pub egraph: &'a EGraph<Kernel, ()>,
    /// The template's result.
    pub root: Id,
    /// Its nodes with their prices.
    pub priced: Priced,
    /// Site of the attention, which its kernel does not name.
    pub attend: String,
    /// Decisions that are not the search's.
    pub pins: &'a [Pin],
}

/// A decision in words.
struct Words {
    site: String,
    chosen: String,
}

/// How the vectors of a product lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    Tiled,
    Spread(u32),
    Gathered(u32),
}

/// A product of any form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Product {
    lie: Lie,
    inputs: bool,
    baby: u32,
    weight: Id,
    /// Keys or values once per KV head.
    once: bool,
}

impl Search<'_> {
    /// The cheapest choice of allowed nodes.
    pub fn best(&self, allowed: &dyn Fn(&Kernel) -> bool) -> Option<Extracted> {
        // a pair of one weight with itself is a waste that rules need not know about
        let sensible = |node: &Kernel| !matches!(node, Kernel::Pair([a, b]) if a == b);
        let allowed = |node: &Kernel| sensible(node) && self.suits_pins(node) && allowed(node);
        extract(self.egraph, self.root, &self.priced, &allowed)
    }

    /// Whether a node takes every decision that is pinned at its sites as pinned.
    fn suits_pins(&self, node: &Kernel) -> bool {
        self.pins.iter().all(|pin| match self.product(node) {
            Some(product) => self.product_suits(product, pin),
            None => self.kernel_suits(node, pin),
        })
    }

    fn product_suits(&self, product: Product, pin: &Pin) -> bool {
        let sites = self.serves(product.weight);
        if !sites.contains(&pin.site) {
            return true;
        }
        match &pin.form {
            Form::Tiled => product.lie == Lie::Tiled,
            Form::Spread(stride) => product.lie == Lie::Spread(*stride),
            Form::Gather(stride) => product.lie == Lie::Gathered(*stride),
            Form::Inputs => product.inputs,
            Form::Real => !product.inputs,
            Form::Baby(baby) => product.baby == *baby,
            Form::Once => product.once,
            Form::Copies => !product.once,
            Form::Alone => sites.len() == 1,
            Form::With(other) => sites.contains(other),
            _ => true,
        }
    }

    fn kernel_suits(&self, node: &Kernel, pin: &Pin) -> bool {
        let number = |id: &Id| self.number(*id);
        match node {
            Kernel::Norm([scaled, norm, _]) if self.name(*norm) == pin.site => match pin.form {
                Form::Exact => number(scaled) == 1,
                Form::Additions => number(scaled) == 0,
                _ => true,
            },
            Kernel::Activate([windowed, _, site, _]) if self.name(*site) == pin.site => {
                match pin.form {
                    Form::Window => number(windowed) == 1,
                    Form::AboutZero => number(windowed) == 0,
                    _ => true,
                }
            }
            Kernel::Attend([inside, tokens, squarings, ..]) if self.attend == pin.site => {
                match pin.form {
                    Form::Inside(n) => number(inside) == n,
                    Form::Outside(n) => (number(inside), number(tokens)) == (0, n),
                    Form::Squarings(n) => number(squarings) == n,
                    Form::Diagonals(_) | Form::StoredOnce => false,
                    _ => true,
                }
            }
            Kernel::Diagonal([parts, inside, _, squarings, ..]) if self.attend == pin.site => {
                match pin.form {
                    Form::StoredOnce => number(parts) > 1,
                    Form::StoredCopies => number(parts) == 1,
                    Form::Diagonals(n) => number(inside) == n,
                    Form::Squarings(n) => number(squarings) == n,
                    Form::Inside(_) | Form::Outside(_) => false,
                    _ => true,
                }
            }
            _ => true,
        }
    }

    /// Adds a program's decisions to the lowering's choices.
    pub fn adopt(&self, best: &Extracted, choices: &mut Choices) {
        for (_, node) in in_order(best) {
            self.record(node, choices);
        }
    }

    /// A program's decisions in words, each with its closest alternatives.
    pub fn decisions(&self, best: &Extracted) -> Vec<Decision> {
        let decision = |(id, node): (Id, &Kernel)| {
            let Words { site, chosen } = self.words(node)?;
            let mut rejected = self.rejected(best, id, node);
            rejected.sort_by(|a, b| (a.extra_nanos, &a.what).cmp(&(b.extra_nanos, &b.what)));
            rejected.dedup_by(|a, b| a.what == b.what);
            Some(Decision {
                site,
                chosen,
                rejected,
            })
        };
        in_order(best).into_iter().filter_map(decision).collect()
    }

    /// The closest alternatives to a node, each with what the best program that has it costs more.
    fn rejected(&self, best: &Extracted, class: Id, node: &Kernel) -> Vec<Rejected> {
        let price = |what: String, other: &Extracted| Rejected {
            what,
            extra_nanos: other.cost.saturating_sub(best.cost),
        };
        if let Kernel::Pair([a, b]) = node {
            let sites = [self.name(*a), self.name(*b)];
            let without = self.best(&|other| !same(node, other));
            let apart = |other: Extracted| price(self.products(&other, &sites), &other);
            return without.map(apart).into_iter().collect();
        }
        let siblings = self.egraph[class].nodes.iter();
        let close = siblings.filter(|other| self.close(node, other));
        let one = |alternative: &Kernel| {
            let allowed = |other: &Kernel| other == alternative || !self.rivals(other, alternative);
            let found = self.best(&allowed)?;
            Some(price(self.words(alternative)?.chosen, &found))
        };
        close.filter_map(one).collect()
    }

    /// The products of a program that serve any of these sites, in words.
    fn products(&self, program: &Extracted, sites: &[String]) -> String {
        let products = program.nodes.values().filter_map(|node| self.product(node));
        let served = products.map(|product| self.serves(product.weight));
        let mut products: Vec<String> = served
            .filter(|served| served.iter().any(|site| sites.contains(site)))
            .map(|served| served.join(" + "))
            .collect();
        products.sort();
        format!("products of {}", products.join(", of "))
    }

    /// Whether a program has either of two different nodes for the same work: products that serve a site in common, or one
    /// decision taken differently.
    fn rivals(&self, a: &Kernel, b: &Kernel) -> bool {
        match (self.product(a), self.product(b)) {
            (Some(a), Some(b)) => {
                let sites = self.serves(b.weight);
                self.serves(a.weight)
                    .iter()
                    .any(|site| sites.contains(site))
            }
            // a template has one attention
            _ => attends(a) && attends(b) || self.alike(a, b),
        }
    }

    /// Whether one decision about a node makes it the other.
    fn close(&self, a: &Kernel, b: &Kernel) -> bool {
        if let (Some(a), Some(b)) = (self.product(a), self.product(b)) {
            if a.once != b.once {
                return a.weight == b.weight && a.inputs == b.inputs && a.baby == b.baby;
            }
            let lies = usize::from(a.lie != b.lie);
            let inputs = usize::from(a.inputs != b.inputs);
            // other forms are shown with the steps that this one has
            return a.weight == b.weight && lies + inputs + steps(a.baby, b.baby) == 1;
        }
        let number = |id: &Id| self.number(*id);
        if let (Kernel::Diagonal([p, i, n, k, ..]), Kernel::Diagonal([o, j, m, l, ..])) = (a, b)
            && p != o
        {
            return (i, n, k) == (j, m, l);
        }
        self.alike(a, b)
            && match (a, b) {
                (Kernel::Attend([_, n, k, ..]), Kernel::Attend([_, m, l, ..]))
                | (Kernel::Diagonal([_, _, n, k, ..]), Kernel::Diagonal([_, _, m, l, ..])) => {
                    steps(number(n), number(m)) + steps(number(k), number(l)) == 1
                }
                // of the other kind, what differs in nothing else
                (Kernel::Attend([i, t, k, ..]), Kernel::Diagonal([_, _, _, l, ..]))
                | (Kernel::Diagonal([_, _, _, l, ..]), Kernel::Attend([i, t, k, ..])) => {
                    i == t && k == l
                }
                _ => a != b,
            }
    }

    /// Whether two nodes are the same kernel on the same operands.
    fn alike(&self, a: &Kernel, b: &Kernel) -> bool {
        match (a, b) {
            (Kernel::Norm([_, s, x]), Kernel::Norm([_, t, y])) => (s, x) == (t, y),
            (Kernel::Activate([_, i, s, x]), Kernel::Activate([_, j, t, y])) => {
                (i, s, x) == (j, t, y)
            }
            (
                Kernel::Attend([i, _, _, q, s]) | Kernel::Diagonal([_, i, _, _, q, s]),
                Kernel::Attend([j, _, _, r, t]) | Kernel::Diagonal([_, j, _, _, r, t]),
            ) => (i, q, s) == (j, r, t),
            _ => false,
        }
    }

    fn product(&self, node: &Kernel) -> Option<Product> {
        let (lie, inputs, baby, weight) = match node {
            Kernel::Linear([inputs, baby, weight, _]) => (Lie::Tiled, inputs, baby, weight),
            Kernel::Spread([stride, _, inputs, baby, weight, _]) => {
                (Lie::Spread(self.number(*stride)), inputs, baby, weight)
            }
            Kernel::Gather([stride, inputs, baby, weight, _]) => {
                (Lie::Gathered(self.number(*stride)), inputs, baby, weight)
            }
            _ => return None,
        };
        let (once, weight) = match leaf(self.egraph, *weight) {
            Kernel::Once([weight]) => (true, *weight),
            _ => (false, *weight),
        };
        Some(Product {
            lie,
            inputs: self.number(*inputs) == 1,
            baby: self.number(*baby),
            weight,
            once,
        })
    }

    fn number(&self, id: Id) -> u32 {
        match leaf(self.egraph, id) {
            Kernel::Num(n) => *n,
            _ => 0,
        }
    }

    fn name(&self, id: Id) -> String {
        site(self.egraph, id).to_string()
    }

    /// The sites that a weight, or a pair of weights, serves.
    fn serves(&self, weight: Id) -> Vec<String> {
        match leaf(self.egraph, weight) {
            Kernel::Pair([a, b]) => vec![self.name(*a), self.name(*b)],
            _ => vec![self.name(weight)],
        }
    }

    /// Records a node's decision.
    pub fn record(&self, node: &Kernel, choices: &mut Choices) {
        if let Some(product) = self.product(node) {
            let stride = match product.lie {
                Lie::Spread(stride) => stride,
                Lie::Tiled | Lie::Gathered(_) => 1,
            };
            let way = Way {
                stride,
                inputs: product.inputs,
                baby: Some(product.baby),
            };
            let sites = self.serves(product.weight);
            if product.once {
                choices.once.extend(sites.iter().cloned());
            }
            choices
                .ways
                .extend(sites.into_iter().map(|site| (site, way)));
        }
        match node {
            Kernel::Pair([a, b]) => choices.pairs.push((self.name(*a), self.name(*b))),
            Kernel::Norm([scaled, norm, _]) if self.number(*scaled) == 1 => {
                choices.scaled_norms.insert(self.name(*norm));
            }
            Kernel::Activate([windowed, _, site, _]) if self.number(*windowed) == 1 => {
                choices.windowed.insert(self.name(*site));
            }
            Kernel::Attend([inside, tokens, squarings, ..]) => {
                choices.inner = self.number(*inside);
                choices.tokens = Some(self.number(*tokens));
                choices.squarings = self.number(*squarings);
            }
            Kernel::Diagonal([parts, inside, baby, squarings, ..]) => {
                choices.shared = self.number(*parts) > 1;
                choices.inner = self.number(*inside);
                choices.diagonals = Some(self.number(*baby));
                choices.squarings = self.number(*squarings);
            }
            _ => {}
        }
    }

    /// A node's decision in words, if it is one.
    fn words(&self, node: &Kernel) -> Option<Words> {
        if let Some(product) = self.product(node) {
            let lie = match product.lie {
                Lie::Tiled => String::new(),
                Lie::Spread(stride) => format!(", features spread {stride} slots apart"),
                Lie::Gathered(stride) => format!(", gathered from {stride} slots apart"),
            };
            let inputs = match product.inputs {
                true => ", two diagonals in one complex one",
                false => "",
            };
            let once = match product.once {
                true => ", once per KV head",
                false => "",
            };
            return Some(Words {
                site: self.serves(product.weight).join(" + "),
                chosen: format!("{} baby steps{lie}{inputs}{once}", product.baby),
            });
        }
        let (site, chosen) = match node {
            Kernel::Pair([a, b]) => {
                let site = format!("{} + {}", self.name(*a), self.name(*b));
                (site, "one complex product".into())
            }
            Kernel::Norm([scaled, norm, _]) => {
                let form = match self.number(*scaled) {
                    1 => "a level for its exact window",
                    _ => "its window by additions",
                };
                (self.name(*norm), form.into())
            }
            Kernel::Activate([windowed, _, site, _]) => {
                let form = match self.number(*windowed) {
                    1 => "a polynomial over its own window",
                    _ => "an even polynomial and half its argument",
                };
                (self.name(*site), form.into())
            }
            Kernel::Attend([inside, tokens, squarings, ..]) => {
                let (tokens, squarings) = (self.number(*tokens), self.number(*squarings));
                let order = match self.number(*inside) {
                    0 => "outside the features".into(),
                    n if n == tokens => "inside the features".into(),
                    n => format!("{n} inside the features"),
                };
                let words = format!(
                    "groups of {tokens} tokens, {order}, exponential by {squarings} squarings"
                );
                (self.attend.clone(), words)
            }
            Kernel::Diagonal([parts, inside, baby, squarings, ..]) => {
                let [parts, inside, baby, squarings] =
                    [parts, inside, baby, squarings].map(|id| self.number(*id));
                let stored = match parts {
                    1 => String::new(),
                    n => format!(", stored once for {n} query heads"),
                };
                let words = format!(
                    "keys and values in diagonals, {inside} tokens inside each head{stored}, {baby} baby steps, exponential by {squarings} squarings"
                );
                (self.attend.clone(), words)
            }
            _ => return None,
        };
        Some(Words { site, chosen })
    }
}

/// A program's nodes by class number, which is the e-graph's order.
fn in_order(program: &Extracted) -> Vec<(Id, &Kernel)> {
    let mut nodes: Vec<_> = program.nodes.iter().map(|(id, node)| (*id, node)).collect();
    nodes.sort_by_key(|(id, _)| *id);
    nodes
}

/// How far apart two numbers are: 0 for the same, 1 for neighbours or doubles, 2 for more.
fn steps(a: u32, b: u32) -> usize {
    match (a.min(b), a.max(b)) {
        (a, b) if a == b => 0,
        (a, b) if b == 2 * a || b == a + 1 => 1,
        _ => 2,
    }
}

/// Whether two nodes are one decision; a pair is the same in either order.
fn same(a: &Kernel, b: &Kernel) -> bool {
    match (a, b) {
        (Kernel::Pair([a, b]), Kernel::Pair([c, d])) => (a, b) == (c, d) || (a, b) == (d, c),
        _ => a == b,
    }
}

/// Whether a node is an attention of any kind.
fn attends(node: &Kernel) -> bool {
    matches!(node, Kernel::Attend(_) | Kernel::Diagonal(_))
}
