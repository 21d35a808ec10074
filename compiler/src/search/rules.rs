//! What may be rewritten into what. Every rule relates lowerings of the same mathematical value; which is cheaper is not its
//! business.

use egg::{
    Applier, EGraph, Id, MultiPattern, Pattern, PatternAst, Rewrite, SearchMatches, Subst, Symbol,
    Var,
};

use super::language::Kernel;
use std::ops::RangeInclusive;

/// Most squarings after the exponential.
pub const MAX_SQUARINGS: u32 = 5;
/// Most baby steps.
pub const MAX_BABY: u32 = 256;

/// A family of rules, to be switched off by `sottoc ablate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alternative {
    /// Two outputs in one complex product.
    Outputs,
    /// Two diagonals in one complex one.
    Inputs,
    /// Vectors whose features stand apart, and products that spread and gather them.
    Strides,
    /// Tokens inside the features.
    Interleaving,
    /// Keys and values as matrices in diagonals.
    Diagonals,
    /// Groups of fewer tokens than fit.
    Groups,
    /// More squarings of an exponential than it needs.
    Squarings,
    /// Norms that spend a level.
    Norms,
    /// Activations over the window of what was calibrated.
    Windows,
    /// Keys and values made once per KV head and copied to its query heads.
    Once,
    /// Keys and values in diagonals stored once per KV head.
    Stored,
    /// Baby steps other than balanced ones. Spread and gathered products start from one step, so this switches them off too.
    Steps,
}

impl Alternative {
    /// All of them.
    pub const ALL: [Alternative; 12] = [
        Alternative::Outputs,
        Alternative::Inputs,
        Alternative::Strides,
        Alternative::Interleaving,
        Alternative::Diagonals,
        Alternative::Groups,
        Alternative::Squarings,
        Alternative::Norms,
        Alternative::Windows,
        Alternative::Once,
        Alternative::Stored,
        Alternative::Steps,
    ];

    /// What a table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Alternative::Outputs => "pairs of outputs",
            Alternative::Inputs => "pairs of diagonals",
            Alternative::Strides => "spread and gathered vectors",
            Alternative::Interleaving => "tokens inside features",
            Alternative::Diagonals => "keys and values in diagonals",
            Alternative::Groups => "smaller groups",
            Alternative::Squarings => "more squarings",
            Alternative::Norms => "exact windows of norms",
            Alternative::Windows => "own windows of activations",
            Alternative::Once => "keys once per KV head",
            Alternative::Stored => "storage once per KV head",
            Alternative::Steps => "baby and giant splits",
        }
    }

    /// How the names of its rules begin.
    fn prefixes(self) -> &'static [&'static str] {
        match self {
            Alternative::Outputs => &["pair"],
            Alternative::Inputs => &["inputs"],
            Alternative::Strides => &["gather", "strided", "baby-spread", "baby-gather"],
            Alternative::Interleaving => &["interleave"],
            Alternative::Diagonals => &["diagonal", "baby-diagonal"],
            Alternative::Groups => &["tokens"],
            Alternative::Squarings => &["square"],
            Alternative::Norms => &["norm"],
            Alternative::Windows => &["window"],
            Alternative::Once => &["once"],
            Alternative::Stored => &["own"],
            Alternative::Steps => &["baby"],
        }
    }
}

/// A rule: name, left side, right side.
type Rule = (&'static str, &'static str, &'static str);

/// Rules with a power of two {n} and its double {2n} filled in, up to [`MAX_BABY`].
const BABY: &[Rule] = &[
    (
        "baby-halve",
        "(linear ?i {2n} ?w ?x)",
        "(linear ?i {n} ?w ?x)",
    ),
    (
        "baby-double",
        "(linear ?i {n} ?w ?x)",
        "(linear ?i {2n} ?w ?x)",
    ),
    (
        "baby-spread",
        "(spread ?s ?c ?i {n} ?w ?x)",
        "(spread ?s ?c ?i {2n} ?w ?x)",
    ),
    (
        "baby-gather",
        "(gather ?s ?i {n} ?w ?x)",
        "(gather ?s ?i {2n} ?w ?x)",
    ),
    (
        "baby-diagonal",
        "(diagonal ?p ?s {n} ?e ?q ?kv)",
        "(diagonal ?p ?s {2n} ?e ?q ?kv)",
    ),
];

/// Rules with {n} and {2n} up to the most tokens of a group.
const TOKENS: &[Rule] = &[(
    "tokens-halve",
    "(attend 0 {2n} ?s ?q ?kv)",
    "(attend 0 {n} ?s ?q ?kv)",
)];

/// Rules with a stride {s} above 1: a product gathers a strided operand, and what asks for a strided value finds how to make it.
const STRIDES: &[Rule] = &[
    (
        "gather",
        "(linear 0 1 ?w ?x)",
        "(gather {s} 0 1 ?w (strided {s} ?x))",
    ),
    (
        "strided",
        "(strided {s} (linear 0 1 ?w ?x))",
        "(clean {s} (spread {s} 0 0 1 ?w ?x))",
    ),
    (
        "strided-activate",
        "(strided {s} (activate ?w 1 ?site ?x))",
        "(activate ?w {s} ?site (strided {s} ?x))",
    ),
    (
        "strided-mul",
        "(strided {s} (mul 1 ?a ?b))",
        "(mul {s} (strided {s} ?a) (strided {s} ?b))",
    ),
    (
        "strided-conj",
        "(strided {s} (conj ?x))",
        "(conj (strided {s} ?x))",
    ),
    (
        "strided-re",
        "(strided {s} (re ?a ?b))",
        "(re (strided {s} ?a) (strided {s} ?b))",
    ),
    (
        "strided-im",
        "(strided {s} (im ?a ?b))",
        "(im (strided {s} ?a) (strided {s} ?b))",
    ),
];

/// Rules with a stride {s} that is the tokens of a group.
const INTERLEAVE: &[Rule] = &[
    (
        "interleave",
        "(strided {s} (attend 0 ?t ?n (rope ?q) (append (rope ?k) ?v)))",
        "(attend {s} ?t ?n (rope (first {s} ?q)) (append (rope (landed {s} ?k)) (landed {s} ?v)))",
    ),
    (
        "diagonal",
        "(strided {s} (attend 0 ?t ?n (rope ?q) (append (rope ?k) ?v)))",
        "(diagonal 1 {s} 1 ?n (rope (first {s} ?q)) (append (rope (landed {s} ?k)) (landed {s} ?v)))",
    ),
    (
        "first",
        "(first {s} (linear 0 1 ?w ?x))",
        "(spread {s} 0 0 1 ?w ?x)",
    ),
    (
        "landed",
        "(landed {s} (linear 0 1 ?w ?x))",
        "(spread {s} 1 0 1 ?w ?x)",
    ),
    (
        "landed-conj",
        "(landed {s} (conj ?x))",
        "(conj (landed {s} ?x))",
    ),
    (
        "landed-re",
        "(landed {s} (re ?a ?b))",
        "(re (landed {s} ?a) (landed {s} ?b))",
    ),
    (
        "landed-im",
        "(landed {s} (im ?a ?b))",
        "(im (landed {s} ?a) (landed {s} ?b))",
    ),
];

/// Rules with a stride {s}, 1 included, and {gs}, as much for each of the query heads that share a key head.
const ONCE: &[Rule] = &[(
    "once",
    "(landed {s} (linear 0 1 ?w ?x))",
    "(spread {gs} 1 0 1 (once ?w) ?x)",
)];

/// Rules with a stride {s} above 1, {gs}, and {g} query heads that share a key head: keys and values stored once for these.
const OWN: &[Rule] = &[
    (
        "own",
        "(diagonal 1 {s} ?b ?n ?q (append (rope (landed {s} ?k)) (landed {s} ?v)))",
        "(diagonal {g} {s} ?b ?n ?q (append (rope (own {s} ?k)) (own {s} ?v)))",
    ),
    (
        "own-linear",
        "(own {s} (linear 0 1 ?w ?x))",
        "(spread {gs} 2 0 1 (once ?w) ?x)",
    ),
    ("own-conj", "(own {s} (conj ?x))", "(conj (own {s} ?x))"),
    (
        "own-re",
        "(own {s} (re ?a ?b))",
        "(re (own {s} ?a) (own {s} ?b))",
    ),
    (
        "own-im",
        "(own {s} (im ?a ?b))",
        "(im (own {s} ?a) (own {s} ?b))",
    ),
];

/// Rules that make the wishes which [`ONCE`] grants where no tokens lie inside the features.
const ONCE_OUTSIDE: &[Rule] = &[
    (
        "once-outside",
        "(attend 0 ?t ?n ?q (append (rope ?k) ?v))",
        "(attend 0 ?t ?n ?q (append (rope (landed 1 ?k)) (landed 1 ?v)))",
    ),
    // what has landed has: so that the rule above comes to an end
    ("once-landed", "(landed 1 (landed 1 ?x))", "(landed 1 ?x)"),
    ("once-conj", "(landed 1 (conj ?x))", "(conj (landed 1 ?x))"),
    (
        "once-re",
        "(landed 1 (re ?a ?b))",
        "(re (landed 1 ?a) (landed 1 ?b))",
    ),
    (
        "once-im",
        "(landed 1 (im ?a ?b))",
        "(im (landed 1 ?a) (landed 1 ?b))",
    ),
];

/// Rules without values to fill in.
const PLAIN: &[Rule] = &[
    ("norm-scale", "(norm 0 ?site ?x)", "(norm 1 ?site ?x)"),
    (
        "window",
        "(activate 0 ?s ?site ?x)",
        "(activate 1 ?s ?site ?x)",
    ),
    (
        "square-1",
        "(attend ?i ?t 0 ?q ?kv)",
        "(attend ?i ?t 1 ?q ?kv)",
    ),
    (
        "square-2",
        "(attend ?i ?t 1 ?q ?kv)",
        "(attend ?i ?t 2 ?q ?kv)",
    ),
    (
        "square-3",
        "(attend ?i ?t 2 ?q ?kv)",
        "(attend ?i ?t 3 ?q ?kv)",
    ),
    (
        "square-4",
        "(attend ?i ?t 3 ?q ?kv)",
        "(attend ?i ?t 4 ?q ?kv)",
    ),
    (
        "square-5",
        "(attend ?i ?t 4 ?q ?kv)",
        "(attend ?i ?t 5 ?q ?kv)",
    ),
    (
        "inputs",
        "(linear 0 ?n (w ?shape ?a) ?x)",
        "(linear 1 ?n (w ?shape ?a) ?x)",
    ),
    (
        "inputs-spread",
        "(spread ?s ?c 0 ?n (w ?shape ?a) ?x)",
        "(spread ?s ?c 1 ?n (w ?shape ?a) ?x)",
    ),
    (
        "inputs-once",
        "(spread ?s ?c 0 ?n (once (w ?shape ?a)) ?x)",
        "(spread ?s ?c 1 ?n (once (w ?shape ?a)) ?x)",
    ),
    (
        "inputs-gather",
        "(gather ?s 0 ?n (w ?shape ?a) ?x)",
        "(gather ?s 1 ?n (w ?shape ?a) ?x)",
    ),
];

/// Two products of one vector become the parts of one.
const PAIR: (&str, &str) = (
    "?p = (linear 0 ?n (w ?shape ?a) ?x), ?q = (linear 0 ?n (w ?shape ?b) ?x)",
    "?z = (linear 0 ?n (pair (w ?shape ?a) (w ?shape ?b)) ?x), ?c = (conj ?z), ?p = (re ?z ?c), ?q = (im ?z ?c)",
);

/// How far rules go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Most tokens of a group.
    pub tokens: u32,
    /// Largest stride.
    pub strides: u32,
    /// Query heads to a key head where keys may be made once for them, else 1.
    pub shared: u32,
    /// Whether queries and keys are turned. Rules are written for those that are; where none is, they hold without the turn.
    pub rotary: bool,
}

/// The rules as far as `extent` says, but for those of the families `without`.
pub fn rules(extent: Extent, without: &[Alternative]) -> Vec<Rewrite<Kernel, ()>> {
    let off = |name: &str| {
        let mut prefixes = without.iter().flat_map(|family| family.prefixes());
        // queries, keys and values go where attention asks for them, in either of two forms
        let forms = [Alternative::Interleaving, Alternative::Diagonals];
        let asked = forms.iter().any(|form| !without.contains(form));
        let goes = name.starts_with("first") || name.starts_with("landed");
        prefixes.any(|prefix| name.starts_with(prefix)) || (goes && !asked)
    };
    let mut rules = all(extent);
    rules.retain(|rule| !off(rule.name.as_str()));
    rules
}

fn all(extent: Extent) -> Vec<Rewrite<Kernel, ()>> {
    let Extent {
        tokens,
        strides,
        shared,
        ..
    } = extent;
    let filled = |table, range| filled(table, range, extent);
    let mut rules = filled(PLAIN, 1..=1);
    // up to a table's most, the values filled in; a stride of 1 is no stride
    rules.extend(filled(BABY, 1..=MAX_BABY / 2));
    rules.extend(filled(TOKENS, 1..=tokens / 2));
    rules.extend(filled(STRIDES, 2..=strides));
    rules.extend(filled(INTERLEAVE, 2..=tokens));
    if shared > 1 {
        rules.extend(filled(ONCE, 1..=tokens));
        rules.extend(filled(ONCE_OUTSIDE, 1..=1));
        rules.extend(filled(OWN, 2..=tokens));
    }
    rules.push(pair());
    rules
}

/// The rules of a table with every power of two of a range filled in.
fn filled(table: &[Rule], range: RangeInclusive<u32>, extent: Extent) -> Vec<Rewrite<Kernel, ()>> {
    let Extent { shared, rotary, .. } = extent;
    let powers = (0..32).map(|log| 1u32 << log);
    let values: Vec<u32> = powers.filter(|n| range.contains(n)).collect();
    let one = |n: u32| {
        let fill = move |text: &str| {
            let text = text
                .replace("{2n}", &(2 * n).to_string())
                .replace("{n}", &n.to_string())
                .replace("{gs}", &(shared * n).to_string())
                .replace("{g}", &shared.to_string())
                .replace("{s}", &n.to_string());
            match rotary {
                true => text,
                false => unturned(&text),
            }
        };
        table
            .iter()
            .map(move |(name, left, right)| rule(&format!("{name}-{n}"), &fill(left), &fill(right)))
    };
    values.into_iter().flat_map(one).collect()
}

/// A pattern without its rotary embeddings.
fn unturned(text: &str) -> String {
    let mut left = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("(rope ") {
        left.push_str(before);
        // up to the parenthesis that closes it
        let mut depth = 1;
        let close = after.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let (operand, after) = after.split_at(close.unwrap_or(after.len()));
        left.push_str(operand);
        rest = after.get(1..).unwrap_or_default();
    }
    left + rest
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
mod tests;
