//! What a kernel costs: the work that the lowering emits for it, and the levels it consumes.

use crate::cost::{Prices, Work};
use egg::{EGraph, Id, Symbol};
use sotto_ir::params::poly::PolyPlan;
use sotto_ir::slot::{BootstrapKind, Form, Side, TokenMatrix};

use super::facts::{Facts, LinearFact, NormFact};
use super::language::Kernel;

/// What the search takes placement to do with the programs it proposes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels {
    /// Level that work is priced at.
    pub work: u32,
    /// What a level costs, as part of a bootstrap of the value's period.
    pub price: f64,
}

impl Default for Levels {
    /// Before anything is placed: the middle of the chain, and as many levels from a bootstrap as it gives.
    fn default() -> Self {
        Self {
            work: 8,
            price: 1.0 / 13.0,
        }
    }
}

/// Nanoseconds of a kernel: of its own work, and of the refreshes that its levels will cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Of its operations; adds up over all kernels.
    pub work: u64,
    /// Of its levels; adds up along a path.
    pub levels: u64,
}

/// Prices kernels of one template.
pub struct Pricing<'a> {
    /// Sizes and degrees.
    pub facts: &'a Facts,
    /// Price list.
    pub prices: &'a dyn Prices,
    /// Where work runs, and what levels cost.
    pub levels: Levels,
}

/// Softmax's division: denominators and numerators split, and 1/x.
fn division(inverse: &PolyPlan) -> [Work; 6] {
    [
        Work::Conjugate,
        Work::Add,
        Work::AddPlain,
        Work::Poly(inverse.clone()),
        Work::Mul,
        Work::Rescale,
    ]
}

/// The content of a leaf class.
pub fn leaf(egraph: &EGraph<Kernel, ()>, id: Id) -> &Kernel {
    &egraph[id].nodes[0]
}

fn number(egraph: &EGraph<Kernel, ()>, id: Id) -> u32 {
    match leaf(egraph, id) {
        Kernel::Num(n) => *n,
        _ => 0,
    }
}

/// The site that a leaf, a weight or the first weight of a pair names.
pub fn site(egraph: &EGraph<Kernel, ()>, id: Id) -> Symbol {
    match leaf(egraph, id) {
        Kernel::Site(site) => *site,
        Kernel::Weight([_, name]) => site(egraph, *name),
        Kernel::Pair([a, _]) => site(egraph, *a),
        Kernel::Once([weight]) => site(egraph, *weight),
        _ => Symbol::from(""),
    }
}

impl Pricing<'_> {
    /// The price of a node, or None where it cannot be lowered.
    pub fn of(&self, egraph: &EGraph<Kernel, ()>, node: &Kernel) -> Option<Price> {
        let num = |id: &Id| number(egraph, *id);
        let inner = self.facts.inner;
        Some(match node {
            Kernel::Num(_)
            | Kernel::Site(_)
            | Kernel::Weight(_)
            | Kernel::Pair(_)
            | Kernel::Once(_) => self.price(&[], 0, 1),
            Kernel::Strided(_) | Kernel::First(_) | Kernel::Landed(_) | Kernel::Own(_) => {
                return None;
            }
            Kernel::Linear([inputs, baby, weight, _]) => {
                let fact = self.facts.linear(site(egraph, *weight));
                let form = match fact.to < fact.from {
                    true => Form::Gather { stride: 1 },
                    false => Form::Spread { stride: 1 },
                };
                self.product(fact, form, num(inputs) == 1, num(baby))?
            }
            Kernel::Spread([stride, current, inputs, baby, weight, _]) => {
                let mut fact = self.facts.linear(site(egraph, *weight));
                let form = Form::Spread {
                    stride: num(stride),
                };
                let mut copies = 0;
                if let Kernel::Once([weight]) = leaf(egraph, *weight) {
                    fact.to /= self.facts.shared;
                    let pair = matches!(leaf(egraph, *weight), Kernel::Pair(_));
                    copies = match num(current) {
                        2 => 0,
                        _ => 1 + u64::from(pair),
                    };
                }
                let mut price = self.product(fact, form, num(inputs) == 1, num(baby))?;
                price.work += copies * self.copies().work;
                price
            }
            Kernel::Gather([stride, inputs, baby, weight, _]) => {
                let fact = self.facts.linear(site(egraph, *weight));
                let form = Form::Gather {
                    stride: num(stride),
                };
                self.product(fact, form, num(inputs) == 1, num(baby))?
            }
            Kernel::Clean([stride, _]) => {
                let rotations = num(stride).ilog2();
                let work = [Work::MulPlain, Work::Rescale, Work::Fold { rotations }];
                self.price(&work, 1, inner * num(stride))
            }
            Kernel::Conjugate(_) => self.price(&[Work::Conjugate], 0, 1),
            Kernel::Real(_) | Kernel::Imaginary(_) | Kernel::Add(_) => {
                self.price(&[Work::Add], 0, 1)
            }
            Kernel::Mul([stride, ..]) => {
                self.price(&[Work::Mul, Work::Rescale], 1, inner * num(stride))
            }
            Kernel::Rope(_) => {
                let turn = [Work::Encode, Work::MulPlain, Work::Encode, Work::MulPlain];
                let rest = [Work::Rotate, Work::Add, Work::Rescale];
                self.price(&[&turn[..], &rest].concat(), 1, self.facts.heads_width)
            }
            Kernel::Append(_) => {
                let work = [
                    Work::Encode,
                    Work::MulPlain,
                    Work::Rescale,
                    Work::Add,
                    Work::Add,
                ];
                self.price(&work, 1, self.facts.heads_width)
            }
            Kernel::Norm([scaled, name, _]) => {
                let forms = self.facts.norms.get(&site(egraph, *name))?;
                self.norm(forms[num(scaled) as usize].as_ref()?, num(scaled) == 1)
            }
            Kernel::Activate([windowed, stride, name, _]) => {
                let forms = self.facts.activations.get(&site(egraph, *name))?;
                let plan = forms[num(windowed) as usize].as_ref()?;
                let period = inner * num(stride);
                self.price(&[Work::Poly(plan.clone())], plan.depth, period)
            }
            Kernel::Attend([inner, tokens, squarings, ..]) => {
                self.attend(num(inner).max(1), num(tokens), num(squarings))?
            }
            Kernel::Diagonal([parts, inner, baby, squarings, ..]) => {
                self.diagonal(num(parts), num(inner), num(baby), num(squarings))?
            }
        })
    }

    /// A product with its fold, or None where it cannot be.
    fn product(&self, fact: LinearFact, form: Form, inputs: bool, baby: u32) -> Option<Price> {
        let matrix = fact.matrix(form, inputs, baby);
        let stride = form.stride();
        // what the verifier lets through: the strided side fits the slots and is no shorter than the other
        let gathers = matches!(form, Form::Gather { .. });
        let (strided, other) = match gathers {
            false => (fact.to, fact.from),
            true => (fact.from, fact.to),
        };
        let period = strided * stride;
        let fits = (other..=self.facts.slots).contains(&period);
        let halves = !inputs || matrix.all_diagonals() >= 2;
        let diagonals = matrix.diagonals();
        if !fits || !halves || baby > diagonals {
            return None;
        }
        let mut work = vec![Work::Linear { diagonals, baby }, Work::Rescale];
        let (_, count) = matrix.fold();
        if count > 1 {
            let rotations = count.ilog2();
            work.push(Work::Fold { rotations });
        }
        if inputs {
            work.extend([Work::Rotate, Work::Add, Work::Conjugate, Work::Add]);
        }
        let period = match gathers {
            false => fact.to * stride,
            true => fact.to,
        };
        let mut price = self.price(&work, 1, period);
        price.work *= u64::from(fact.blocks);
        Some(price)
    }

    /// What is made once per KV head, copied to its query heads.
    fn copies(&self) -> Price {
        let rotations = self.facts.shared.ilog2();
        self.price(&[Work::Fold { rotations }], 0, 1)
    }

    fn norm(&self, fact: &NormFact, scaled: bool) -> Price {
        let rotations = self.facts.hidden.ilog2();
        let mut work = vec![Work::Mul, Work::Rescale, Work::Fold { rotations }];
        work.extend((0..fact.doublings).map(|_| Work::Add));
        if scaled {
            work.extend([Work::MulConst, Work::Rescale]);
        }
        let rest = [
            Work::AddPlain,
            Work::Poly(fact.rsqrt.clone()),
            Work::Mul,
            Work::Rescale,
        ];
        work.extend(rest);
        self.price(
            &work,
            2 + usize::from(scaled) + fact.rsqrt.depth,
            self.facts.hidden,
        )
    }

    fn attend(&self, inner: u32, tokens: u32, squarings: u32) -> Option<Price> {
        if inner > tokens {
            return None;
        }
        let (inside, outside) = (inner > 1, tokens > inner);
        let exp: &PolyPlan = self.facts.exp.get(squarings as usize)?.as_ref()?;
        let inverse = self.facts.inverse.as_ref()?;
        let (lanes, width) = (self.facts.lanes.ilog2(), self.facts.heads_width);
        let sums = Work::Fold { rotations: lanes };
        let mut group = vec![Work::Mul, Work::Rescale, sums.clone()];
        if outside {
            // lane 0 kept and repeated over the lanes
            group.extend([Work::MulPlain, Work::Rescale, sums]);
        }
        group.extend([Work::AddPlain, Work::Poly(exp.clone())]);
        for _ in 0..squarings {
            group.extend([Work::Mul, Work::Rescale]);
        }
        group.extend([
            Work::Encode,
            Work::MulPlain,
            Work::Rescale,
            Work::Mul,
            Work::Rescale,
            Work::Add,
        ]);
        let depth = 2 + usize::from(outside) + squarings as usize + exp.depth;
        // sums over lanes repeat if all tokens lie inside
        let period = match outside {
            false => tokens * width / self.facts.lanes,
            true => tokens * width,
        };
        let group = self.price(&group, depth, period);
        let sums = Work::Fold {
            rotations: tokens.ilog2(),
        };
        let mut after = vec![sums];
        after.extend(division(inverse));
        let mut period = width;
        if inside {
            // queries repeated; sums masked and repeated
            let rotations = inner.ilog2();
            let repeat = Work::Fold { rotations };
            after.extend([repeat.clone(), Work::MulPlain, Work::Rescale, repeat]);
            period = width * inner;
        }
        let after = self.price(&after, 1 + usize::from(inside) + inverse.depth, period);
        let mean = self.visits(tokens);
        Some(Price {
            work: mean(group.work) + after.work,
            levels: mean(group.levels) + after.levels,
        })
    }

    /// Attention by matrices in diagonals, their appends included.
    fn diagonal(&self, parts: u32, inner: u32, baby: u32, squarings: u32) -> Option<Price> {
        let exp: &PolyPlan = self.facts.exp.get(squarings as usize)?.as_ref()?;
        let inverse = self.facts.inverse.as_ref()?;
        let (lanes, width) = (self.facts.lanes, self.facts.heads_width);
        let matrix = |side| TokenMatrix {
            lanes,
            heads: width / lanes / parts,
            inner: inner * parts,
            baby,
            side,
        };
        if !matrix(Side::Rows).holds() || width * inner > self.facts.slots {
            return None;
        }
        let diagonals = lanes / 2;
        let product = [
            Work::Apply { diagonals, baby },
            Work::Rescale,
            Work::Conjugate,
            Work::Add,
        ];
        let mut group = product.to_vec();
        group.extend([Work::AddPlain, Work::Poly(exp.clone())]);
        for _ in 0..squarings {
            group.extend([Work::Mul, Work::Rescale]);
        }
        group.extend([Work::Encode, Work::MulPlain, Work::Rescale, Work::Rotate]);
        group.extend([Work::Add, Work::Add, Work::Add]);
        group.extend(product);
        let rotations = lanes.ilog2();
        group.push(Work::Fold { rotations });
        let depth = 3 + squarings as usize + exp.depth;
        let mut group = self.price(&group, depth, width * inner);
        group.work *= u64::from(parts);
        let fold = |count: u32| Work::Fold {
            rotations: count.ilog2(),
        };
        // the key turned, and queries: repeated
        let mut once = vec![Work::Rotate, Work::Add];
        once.extend([Side::Rows, Side::Columns].map(|side| Work::spread(&matrix(side))));
        for part in 0..parts {
            once.extend([fold(inner * parts), Work::Rotate, Work::Add]);
            // sums over tokens, masked
            once.extend([fold(inner * parts), Work::MulPlain, Work::Rescale]);
            if part > 0 {
                let rope = [Work::Rotate, Work::Encode, Work::MulPlain, Work::Encode];
                once.extend(rope);
                once.extend([Work::MulPlain, Work::Rotate, Work::Add, Work::Rescale]);
                once.extend([Work::Rotate, Work::Add]);
            }
        }
        once.push(fold(inner));
        once.extend(division(inverse));
        let once = self.price(&once, 3 + inverse.depth, width * inner);
        let mean = self.visits(lanes * inner * parts);
        Some(Price {
            work: mean(group.work) + once.work,
            levels: mean(group.levels) + once.levels,
        })
    }

    /// Nanoseconds of a group times the groups visited, on average over the positions of a conversation.
    fn visits(&self, tokens: u32) -> impl Fn(u64) -> u64 + use<> {
        let context = self.facts.context;
        let visits: u64 = (0..context).map(|p| u64::from(p / tokens + 1)).sum();
        move |nanos| nanos * visits / u64::from(context.max(1))
    }

    /// Work, and levels at the price of refreshing values of a period.
    fn price(&self, work: &[Work], levels: usize, period: u32) -> Price {
        let refresh = Work::Bootstrap(BootstrapKind {
            slots: period,
            complex: false,
        });
        let at = self.levels.work;
        let level = self.prices.nanos(&refresh, at) as f64 * self.levels.price;
        Price {
            work: work.iter().map(|work| self.prices.nanos(work, at)).sum(),
            levels: level as u64 * levels as u64,
        }
    }
}
