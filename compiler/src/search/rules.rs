//! What may be rewritten into what. Every rule relates lowerings of the same mathematical value; which is cheaper is not its
//! business.

use egg::{
    Applier, EGraph, Id, MultiPattern, Pattern, PatternAst, Rewrite, SearchMatches, Subst, Symbol,
    Var,
};

use super::language::Kernel;

/// Most squarings after the exponential.
pub const MAX_SQUARINGS: u32 = 3;
/// Most baby steps.
pub const MAX_BABY: u32 = 256;

/// Rules from left to right, with the decision's values filled in by [`rules`].
const TABLE: &[(&str, &str, &str)] = &[
    ("baby-halve", "(linear {2n} ?w ?x)", "(linear {n} ?w ?x)"),
    ("baby-double", "(linear {n} ?w ?x)", "(linear {2n} ?w ?x)"),
    (
        "tokens-halve",
        "(attend {2n} ?s ?q ?kv)",
        "(attend {n} ?s ?q ?kv)",
    ),
];

/// Rules without values to fill in.
const PLAIN: &[(&str, &str, &str)] = &[
    ("norm-scale", "(norm 0 ?site ?x)", "(norm 1 ?site ?x)"),
    ("square-1", "(attend ?t 0 ?q ?kv)", "(attend ?t 1 ?q ?kv)"),
    ("square-2", "(attend ?t 1 ?q ?kv)", "(attend ?t 2 ?q ?kv)"),
    ("square-3", "(attend ?t 2 ?q ?kv)", "(attend ?t 3 ?q ?kv)"),
];

/// Two products of one vector become the parts of one.
const PAIR: (&str, &str) = (
    "?p = (linear ?n (w ?shape ?a) ?x), ?q = (linear ?n (w ?shape ?b) ?x)",
    "?z = (linear ?n (pair (w ?shape ?a) (w ?shape ?b)) ?x), ?c = (conj ?z), ?p = (re ?z ?c), ?q = (im ?z ?c)",
);

/// All rules, for groups of up to `tokens` tokens.
pub fn rules(tokens: u32) -> Vec<Rewrite<Kernel, ()>> {
    let mut rules: Vec<_> = PLAIN
        .iter()
        .map(|(name, left, right)| rule(name, left, right))
        .collect();
    for (name, left, right) in TABLE {
        let most = if name.starts_with("tokens") {
            tokens
        } else {
            MAX_BABY
        };
        let mut n = 1;
        while 2 * n <= most {
            let fill = |text: &str| {
                text.replace("{2n}", &(2 * n).to_string())
                    .replace("{n}", &n.to_string())
            };
            rules.push(rule(&format!("{name}-{n}"), &fill(left), &fill(right)));
            n *= 2;
        }
    }
    rules.push(pair());
    rules
}

fn rule(name: &str, left: &str, right: &str) -> Rewrite<Kernel, ()> {
    let parse = |text: &str| -> Pattern<Kernel> { text.parse().expect("a rule of the table") };
    Rewrite::new(name, parse(left), parse(right)).expect("a rule of the table")
}

fn pair() -> Rewrite<Kernel, ()> {
    let parse = |text: &str| -> MultiPattern<Kernel> { text.parse().expect("the pair rule") };
    Rewrite::new("pair", parse(PAIR.0), Honest(parse(PAIR.1))).expect("the pair rule")
}

/// A multi-pattern applier that reports no change where there is none; egg's own always reports one, so that saturation would
/// never be seen.
struct Honest(MultiPattern<Kernel>);

impl Applier<Kernel, ()> for Honest {
    fn apply_one(
        &self,
        egraph: &mut EGraph<Kernel, ()>,
        class: Id,
        subst: &Subst,
        searcher: Option<&PatternAst<Kernel>>,
        rule: Symbol,
    ) -> Vec<Id> {
        self.0.apply_one(egraph, class, subst, searcher, rule)
    }

    fn apply_matches(
        &self,
        egraph: &mut EGraph<Kernel, ()>,
        matches: &[SearchMatches<Kernel>],
        rule: Symbol,
    ) -> Vec<Id> {
        let size = |egraph: &EGraph<Kernel, ()>| (egraph.total_size(), egraph.number_of_classes());
        let before = size(egraph);
        let touched = self.0.apply_matches(egraph, matches, rule);
        if size(egraph) == before {
            Vec::new()
        } else {
            touched
        }
    }

    fn vars(&self) -> Vec<Var> {
        Applier::<Kernel, ()>::vars(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egg::{RecExpr, Runner, StopReason};

    /// Whether the rules prove two terms equal.
    fn proves(left: &str, right: &str) -> bool {
        let parse = |text: &str| -> RecExpr<Kernel> { text.parse().unwrap() };
        let runner = Runner::default().with_expr(&parse(left)).run(&rules(8));
        let egraph: EGraph<Kernel, ()> = runner.egraph;
        egraph.lookup_expr(&parse(right)) == Some(egraph.find(runner.roots[0]))
    }

    #[test]
    fn saturation_is_seen() {
        let text = "(add (linear 8 (w 0 a) x) (linear 8 (w 0 b) x))";
        let runner = Runner::default()
            .with_expr(&text.parse().unwrap())
            .run(&rules(8));
        assert!(matches!(runner.stop_reason, Some(StopReason::Saturated)));
    }

    #[test]
    fn baby_steps_halve() {
        assert!(proves("(linear 8 (w 0 a) x)", "(linear 1 (w 0 a) x)"));
    }

    #[test]
    fn baby_steps_double() {
        assert!(proves("(linear 8 (w 0 a) x)", "(linear 64 (w 0 a) x)"));
    }

    #[test]
    fn groups_shrink_and_never_grow() {
        assert!(proves("(attend 8 0 q s)", "(attend 1 0 q s)"));
        assert!(!proves("(attend 4 0 q s)", "(attend 8 0 q s)"));
    }

    #[test]
    fn exponentials_are_squared_up_to_three_times() {
        assert!(proves("(attend 2 0 q s)", "(attend 2 3 q s)"));
        assert!(!proves("(attend 2 0 q s)", "(attend 2 4 q s)"));
    }

    #[test]
    fn norms_may_spend_a_level() {
        assert!(proves("(norm 0 site x)", "(norm 1 site x)"));
    }

    #[test]
    fn products_of_one_vector_pair() {
        let z = "(linear 8 (pair (w 0 a) (w 0 b)) x)";
        assert!(proves(
            "(add (linear 8 (w 0 a) x) (linear 8 (w 0 b) x))",
            &format!("(add (re {z} (conj {z})) (im {z} (conj {z})))")
        ));
    }

    #[test]
    fn products_of_different_vectors_or_shapes_do_not_pair() {
        for other in ["(linear 8 (w 0 b) y)", "(linear 8 (w 1 b) x)"] {
            let z = "(linear 8 (pair (w 0 a) (w 0 b)) x)";
            let sum = format!("(add (linear 8 (w 0 a) x) {other})");
            assert!(
                !proves(&sum, &format!("(add (re {z} (conj {z})) {other})")),
                "{other}"
            );
        }
    }
}
