//! The search on small terms with made-up prices, where the cheapest program can be seen by eye.

use super::facts::{Facts, LinearFact};
use super::language::Kernel;
use super::price::Pricing;
use super::*;
use crate::cost::Work;
use egg::{EGraph, RecExpr, Symbol};

/// No groups, strides or shared heads.
const NARROW: rules::Extent = rules::Extent {
    tokens: 1,
    strides: 1,
    shared: 1,
    rotary: true,
};

/// Every operation costs 1, but for conjugations, products by matrices per diagonal and step, and bootstraps.
struct Made {
    conjugate: u64,
}

impl Prices for Made {
    fn nanos(&self, work: &Work, _level: u32) -> u64 {
        match work {
            Work::Conjugate => self.conjugate,
            Work::Linear { diagonals, baby } => {
                u64::from(diagonals + 10 * (baby + diagonals / baby))
            }
            Work::Bootstrap(_) => 1300,
            _ => 1,
        }
    }
}

fn facts(sites: &[&str], diagonals: u32) -> Facts {
    let fact = LinearFact {
        shape: 0,
        from: diagonals,
        to: diagonals,
        blocks: 1,
    };
    let mut facts = Facts::default();
    (facts.tokens, facts.hidden, facts.heads_width) = (1, 16, 16);
    facts.shared = 1;
    facts.inner = 16;
    (facts.lanes, facts.context, facts.slots) = (4, 1, 64);
    for site in sites {
        facts.insert(Symbol::from(*site), fact);
    }
    facts
}

fn priced(egraph: &EGraph<Kernel, ()>, facts: &Facts, prices: &Made) -> extract::Priced {
    let levels = Levels::default();
    extract::priced(
        egraph,
        &Pricing {
            facts,
            prices,
            levels,
        },
    )
}

fn cheapest(text: &str, sites: &[&str], diagonals: u32, prices: &Made) -> (Choices, u64) {
    let facts = facts(sites, diagonals);
    let expr: RecExpr<Kernel> = text.parse().unwrap();
    let runner = Runner::default()
        .with_expr(&expr)
        .with_scheduler(SimpleScheduler)
        .run(&rules::rules(NARROW, &[]));
    let search = Search {
        root: runner.roots[0],
        egraph: &runner.egraph,
        priced: priced(&runner.egraph, &facts, prices),
        attend: String::new(),
        pins: &[],
    };
    let best = search.best(&|_| true).unwrap();
    assert!(best.exact);
    let mut choices = Choices::default();
    let mut nodes: Vec<_> = best.nodes.values().collect();
    nodes.sort();
    for node in nodes {
        search.record(node, &mut choices);
    }
    (choices, best.cost)
}

const TWO: &str = "(add (linear 0 16 (w 0 a) x) (linear 0 16 (w 0 b) x))";

#[test]
fn a_pair_is_taken_when_its_conjugation_is_cheaper_than_a_product() {
    // one product of 16 diagonals in 4 baby steps: 16 + 80, and a rescale; a level is 100
    let (choices, cost) = cheapest(TWO, &["a", "b"], 16, &Made { conjugate: 20 });
    assert_eq!(choices.pairs.len(), 1);
    assert_eq!(cost, 97 + 20 + 2 + 1 + 100);
    let (choices, cost) = cheapest(TWO, &["a", "b"], 16, &Made { conjugate: 200 });
    assert!(choices.pairs.is_empty());
    assert_eq!(cost, 2 * 97 + 1 + 100);
}

#[test]
fn baby_steps_balance_by_price() {
    let (choices, _) = cheapest(TWO, &["a", "b"], 64, &Made { conjugate: 1000 });
    assert_eq!(choices.ways[&"a".to_string()].baby, Some(8));
    assert_eq!(choices.ways[&"b".to_string()].baby, Some(8));
}

#[test]
fn of_three_products_two_pair_and_work_is_paid_once() {
    let three =
        "(add (add (linear 0 16 (w 0 a) x) (linear 0 16 (w 0 b) x)) (linear 0 16 (w 0 c) x))";
    let (choices, cost) = cheapest(three, &["a", "b", "c"], 16, &Made { conjugate: 20 });
    assert_eq!(choices.pairs.len(), 1);
    // the third has half the diagonals, 8 in 2 or 4 baby steps, for a rotation, a conjugation and two sums
    let third = 8 + 60 + 1 + 1 + 20 + 2;
    assert_eq!(cost, 97 + third + 20 + 2 + 2 + 100);
}

#[test]
fn levels_are_paid_along_the_longest_path_only() {
    let chain = "(linear 0 4 (w 0 a) (linear 0 4 (w 0 b) x))";
    let (_, deep) = cheapest(chain, &["a", "b"], 16, &Made { conjugate: 1000 });
    assert_eq!(deep, 2 * 97 + 200);
}

#[test]
fn decisions_name_their_closest_alternatives_with_what_they_cost_more() {
    let facts = facts(&["a", "b"], 64);
    let expr: RecExpr<Kernel> = TWO.parse().unwrap();
    let runner = Runner::default()
        .with_expr(&expr)
        .with_scheduler(SimpleScheduler)
        .run(&rules::rules(NARROW, &[]));
    let search = Search {
        root: runner.roots[0],
        egraph: &runner.egraph,
        priced: priced(&runner.egraph, &facts, &Made { conjugate: 20 }),
        attend: String::new(),
        pins: &[],
    };
    let best = search.best(&|_| true).unwrap();
    let found = search.decisions(&best);
    let of = |chosen: &str| {
        let mut decisions = found.iter();
        decisions.find(|d| d.chosen == chosen).unwrap()
    };
    // Two products of half of 64 diagonals each, 32 + 120 and 24 around them, instead of one of 64 + 160 and a conjugation and splits.
    let pair = of("one complex product");
    assert_eq!(pair.rejected.len(), 1);
    assert_eq!(pair.rejected[0].extra_nanos, 2 * 176 - (225 + 22));
    // 8 + 8 steps against 4 + 16 or 16 + 4.
    let baby = of("8 baby steps");
    let rejected: Vec<_> = baby
        .rejected
        .iter()
        .map(|r| (r.what.as_str(), r.extra_nanos))
        .collect();
    assert_eq!(rejected, [("16 baby steps", 40), ("4 baby steps", 40)]);
}
