//! One decoder template as a term: the operations whose lowering is a choice, with their decisions as leaves.

use egg::{Id, RecExpr, Symbol, define_language};
use sotto_ir::decoder::{Op, Template, Value};
use std::collections::HashMap;

use super::facts::Facts;

define_language! {
    /// Kernels. Numbers are decisions, symbols are sites.
    #[allow(missing_docs)] // the macro takes no documentation of variants
    pub enum Kernel {
        // A decision.
        Num(u32),
        // (w shape site): a weight; weights of one shape, multiplying the same vector, can be paired.
        "w" = Weight([Id; 2]),
        // (pair a b): the complex matrix a + ib.
        "pair" = Pair([Id; 2]),
        // (once w): of a weight or a pair, the rows of each KV head once instead of once for each of its query heads.
        "once" = Once([Id; 1]),
        // (linear inputs baby weight x): a tiled product of a tiled vector; inputs is 1 where diagonals share complex ones.
        "linear" = Linear([Id; 4]),
        // (spread stride current inputs baby weight x): a product whose features stand apart; current is 1 where they end in the
        // current token's slots, 2 where they stay once per KV head there.
        "spread" = Spread([Id; 6]),
        // (gather stride inputs baby weight x): a tiled product of a strided vector.
        "gather" = Gather([Id; 5]),
        // (clean stride x): a spread vector masked and repeated.
        "clean" = Clean([Id; 2]),
        // (strided stride x), (first stride x), (landed stride x), (own stride x): x with every feature in all its slots, in the first of
        // them, in the current token's, in the current token's once per KV head. No program computes these from x: they are wishes, which rules grant or do not.
        "strided" = Strided([Id; 2]),
        "first" = First([Id; 2]),
        "landed" = Landed([Id; 2]),
        "own" = Own([Id; 2]),
        // The complex conjugate.
        "conj" = Conjugate([Id; 1]),
        // (re z (conj z)).
        "re" = Real([Id; 2]),
        // (im z (conj z)).
        "im" = Imaginary([Id; 2]),
        // (norm scaled site x): scaled is 1 where a level is spent on an exact window.
        "norm" = Norm([Id; 3]),
        // Rotary embedding.
        "rope" = Rope([Id; 1]),
        // (append k v): the state after this token.
        "append" = Append([Id; 2]),
        // (attend inner tokens squarings q state): inner of the tokens lie inside the features, 0 for none. Then q is spread, and so is
        // the result before it is cleaned, which is part of this.
        "attend" = Attend([Id; 5]),
        // (diagonal parts inner baby squarings q state): the same with keys and values as matrices in diagonals, inner tokens inside each
        // head; parts query heads read the same one.
        "diagonal" = Diagonal([Id; 6]),
        // (activate windowed stride site x): windowed is 1 where its polynomial is over what was calibrated, not about zero.
        "activate" = Activate([Id; 4]),
        // (mul stride a b): product of ciphertexts.
        "mul" = Mul([Id; 3]),
        // Sum of ciphertexts.
        "add" = Add([Id; 2]),
        // A site, or the template's parameter.
        Site(Symbol),
    }
}

/// Name of the template's parameter.
pub const PARAM: &str = "x";

/// A template as a term, every decision at its plainest: no pairs, balanced steps, the most tokens a group, no squarings.
pub fn term(template: &Template, facts: &Facts) -> RecExpr<Kernel> {
    let mut term = RecExpr::default();
    let mut values: HashMap<Value, Id> = HashMap::new();
    let param = term.add(Kernel::Site(Symbol::from(PARAM)));
    values.insert(template.param.0, param);
    let mut state = param;
    for inst in &template.insts {
        let site = Symbol::from(inst.site.as_str());
        let of = |value: &Value| values.get(value).copied().unwrap_or(param);
        let num = |term: &mut RecExpr<Kernel>, n| term.add(Kernel::Num(n));
        let node = match &inst.op {
            Op::Linear { x, .. } => {
                let linear = facts.linear(site);
                let shape = num(&mut term, linear.shape);
                let name = term.add(Kernel::Site(site));
                let weight = term.add(Kernel::Weight([shape, name]));
                let (baby, apart) = (num(&mut term, linear.balanced()), num(&mut term, 0));
                Kernel::Linear([apart, baby, weight, of(x)])
            }
            Op::RmsNorm { x, .. } | Op::LayerNorm { x, .. } => {
                let plain = num(&mut term, 0);
                let name = term.add(Kernel::Site(site));
                Kernel::Norm([plain, name, of(x)])
            }
            Op::Rope { x, .. } => Kernel::Rope([of(x)]),
            Op::KvAppend { k, v, .. } => {
                state = term.add(Kernel::Append([of(k), of(v)]));
                continue;
            }
            Op::Attend { q, .. } => {
                let tokens = num(&mut term, facts.tokens);
                let fewest = facts.exp.iter().position(Option::is_some).unwrap_or(0);
                let squarings = num(&mut term, fewest as u32);
                let outside = num(&mut term, 0);
                Kernel::Attend([outside, tokens, squarings, of(q), state])
            }
            Op::Activate { x, .. } => {
                let (about_zero, stride) = (num(&mut term, 0), num(&mut term, 1));
                let name = term.add(Kernel::Site(site));
                Kernel::Activate([about_zero, stride, name, of(x)])
            }
            Op::Mul { a, b } => {
                let stride = num(&mut term, 1);
                Kernel::Mul([stride, of(a), of(b)])
            }
            Op::Add { a, b } => Kernel::Add([of(a), of(b)]),
            Op::Embed { .. } | Op::Position { .. } => continue,
        };
        let id = term.add(node);
        values.extend(inst.result.map(|(value, _)| (value, id)));
    }
    // the last node is the root
    let root = values.get(&template.result).copied().unwrap_or(param);
    let root = term[root].clone();
    term.add(root);
    term
}
