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
        // (linear baby weight x).
        "linear" = Linear([Id; 3]),
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
        // (attend tokens squarings q state).
        "attend" = Attend([Id; 4]),
        // (silu site x).
        "silu" = Silu([Id; 2]),
        // Product of ciphertexts.
        "mul" = Mul([Id; 2]),
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
                let baby = num(&mut term, linear.balanced());
                Kernel::Linear([baby, weight, of(x)])
            }
            Op::RmsNorm { x, .. } => {
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
                let squarings = num(&mut term, 0);
                Kernel::Attend([tokens, squarings, of(q), state])
            }
            Op::Silu { x } => {
                let name = term.add(Kernel::Site(site));
                Kernel::Silu([name, of(x)])
            }
            Op::Mul { a, b } => Kernel::Mul([of(a), of(b)]),
            Op::Add { a, b } => Kernel::Add([of(a), of(b)]),
            Op::Embed { .. } => continue,
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
