//! Every rule, by what it proves and what it does not.

use super::*;
use egg::{RecExpr, Runner, StopReason};

const EXTENT: Extent = Extent {
    tokens: 8,
    strides: 4,
    shared: 2,
    rotary: true,
};

/// Whether the rules prove two terms equal.
fn proves(left: &str, right: &str) -> bool {
    proves_by(EXTENT, left, right)
}

fn proves_by(extent: Extent, left: &str, right: &str) -> bool {
    let parse = |text: &str| -> RecExpr<Kernel> { text.parse().unwrap() };
    let runner = Runner::default()
        .with_expr(&parse(left))
        .run(&rules(extent, &[]));
    let egraph: EGraph<Kernel, ()> = runner.egraph;
    egraph.lookup_expr(&parse(right)) == Some(egraph.find(runner.roots[0]))
}

#[test]
fn saturation_is_seen() {
    let text = "(add (linear 0 8 (w 0 a) x) (linear 0 8 (w 0 b) x))";
    let runner = Runner::default()
        .with_expr(&text.parse().unwrap())
        .run(&rules(EXTENT, &[]));
    assert!(matches!(runner.stop_reason, Some(StopReason::Saturated)));
}

#[test]
fn baby_steps_halve() {
    assert!(proves("(linear 0 8 (w 0 a) x)", "(linear 0 1 (w 0 a) x)"));
}

#[test]
fn baby_steps_double() {
    assert!(proves("(linear 0 8 (w 0 a) x)", "(linear 0 64 (w 0 a) x)"));
}

#[test]
fn groups_shrink_and_never_grow() {
    assert!(proves("(attend 0 8 0 q s)", "(attend 0 1 0 q s)"));
    assert!(!proves("(attend 0 4 0 q s)", "(attend 0 8 0 q s)"));
}

#[test]
fn exponentials_are_squared_up_to_five_times() {
    assert!(proves("(attend 0 2 0 q s)", "(attend 0 2 5 q s)"));
    assert!(!proves("(attend 0 2 0 q s)", "(attend 0 2 6 q s)"));
}

#[test]
fn norms_may_spend_a_level() {
    assert!(proves("(norm 0 site x)", "(norm 1 site x)"));
}

#[test]
fn activations_may_have_their_own_window() {
    assert!(proves("(activate 0 1 site x)", "(activate 1 1 site x)"));
}

#[test]
fn products_of_one_vector_pair() {
    let z = "(linear 0 8 (pair (w 0 a) (w 0 b)) x)";
    assert!(proves(
        "(add (linear 0 8 (w 0 a) x) (linear 0 8 (w 0 b) x))",
        &format!("(add (re {z} (conj {z})) (im {z} (conj {z})))")
    ));
}

#[test]
fn products_of_different_vectors_or_shapes_do_not_pair() {
    for other in ["(linear 0 8 (w 0 b) y)", "(linear 0 8 (w 1 b) x)"] {
        let z = "(linear 0 8 (pair (w 0 a) (w 0 b)) x)";
        let sum = format!("(add (linear 0 8 (w 0 a) x) {other})");
        assert!(
            !proves(&sum, &format!("(add (re {z} (conj {z})) {other})")),
            "{other}"
        );
    }
}

#[test]
fn diagonals_share_complex_ones_unless_outputs_do() {
    assert!(proves("(linear 0 8 (w 0 a) x)", "(linear 1 8 (w 0 a) x)"));
    let pair = "(pair (w 0 a) (w 0 b))";
    assert!(!proves(
        &format!("(linear 0 8 {pair} x)"),
        &format!("(linear 1 8 {pair} x)")
    ));
}

#[test]
fn an_mlp_spreads_and_gathers() {
    let linear = |w: &str, x: &str| format!("(linear 0 1 (w 0 {w}) {x})");
    let product = format!(
        "(mul 1 (activate 0 1 s {}) {})",
        linear("a", "x"),
        linear("b", "x")
    );
    let spread = |w: &str| format!("(clean 2 (spread 2 0 0 1 (w 0 {w}) x))");
    let strided = format!("(mul 2 (activate 0 2 s {}) {})", spread("a"), spread("b"));
    assert!(proves(
        &linear("c", &product),
        &format!("(gather 2 0 1 (w 0 c) {strided})")
    ));
}

#[test]
fn a_pair_is_cleaned_before_it_is_split() {
    let z = "(clean 4 (spread 4 0 0 1 (pair (w 0 a) (w 0 b)) x))";
    let sum = "(mul 1 (linear 0 1 (w 0 a) x) (linear 0 1 (w 0 b) x))";
    let split = format!("(mul 4 (re {z} (conj {z})) (im {z} (conj {z})))");
    assert!(proves(
        &format!("(linear 0 1 (w 0 c) {sum})"),
        &format!("(gather 4 0 1 (w 0 c) {split})")
    ));
}

#[test]
fn tokens_interleave_where_keys_and_values_land() {
    let linear = |w: &str| format!("(linear 0 1 (w 0 {w}) x)");
    let (q, k, v) = (linear("q"), linear("k"), linear("v"));
    let attend = format!("(attend 0 8 0 (rope {q}) (append (rope {k}) {v}))");
    let spread = |at: u32, w: &str| format!("(spread 4 {at} 0 1 (w 0 {w}) x)");
    let (q, k, v) = (spread(0, "q"), spread(1, "k"), spread(1, "v"));
    let inside = format!("(attend 4 8 0 (rope {q}) (append (rope {k}) {v}))");
    let out = |x: &str| format!("(linear 0 1 (w 0 o) {x})");
    let gathered = |x: &str| format!("(gather 4 0 1 (w 0 o) {x})");
    assert!(proves(&out(&attend), &gathered(&inside)));
    let tokens = inside.replace("attend 4 8", "attend 8 8");
    assert!(!proves(&out(&attend), &gathered(&tokens)));
    // so they do where nothing is turned, and there alone
    let learned = Extent {
        rotary: false,
        ..EXTENT
    };
    let (attend, inside) = (unturned(&attend), unturned(&inside));
    assert!(!inside.contains("rope") && inside.contains("(append (spread 4 1"));
    assert!(proves_by(learned, &out(&attend), &gathered(&inside)));
    assert!(!proves(&out(&attend), &gathered(&inside)));
}

#[test]
fn keys_and_values_in_diagonals_are_stored_once_for_the_heads_that_share_them() {
    let linear = |w: &str| format!("(linear 0 1 (w 0 {w}) x)");
    let (q, k, v) = (linear("q"), linear("k"), linear("v"));
    let attend = format!("(attend 0 8 0 (rope {q}) (append (rope {k}) {v}))");
    let q = "(spread 4 0 0 1 (w 0 q) x)";
    let once = |w: &str| format!("(spread 8 2 0 1 (once (w 0 {w})) x)");
    let (k, v) = (once("k"), once("v"));
    let stored = format!("(diagonal 2 4 1 0 (rope {q}) (append (rope {k}) {v}))");
    let out = format!("(linear 0 1 (w 0 o) {attend})");
    assert!(proves(&out, &format!("(gather 4 0 1 (w 0 o) {stored})")));
    // one query head to a key head: nothing to share
    let alone = Extent {
        shared: 1,
        ..EXTENT
    };
    assert!(!proves_by(
        alone,
        &out,
        &format!("(gather 4 0 1 (w 0 o) {stored})")
    ));
}

#[test]
fn keys_and_values_lie_in_diagonals() {
    let linear = |w: &str| format!("(linear 0 1 (w 0 {w}) x)");
    let (q, k, v) = (linear("q"), linear("k"), linear("v"));
    let attend = format!("(attend 0 8 3 (rope {q}) (append (rope {k}) {v}))");
    let spread = |at: u32, w: &str| format!("(spread 4 {at} 0 1 (w 0 {w}) x)");
    let (q, k, v) = (spread(0, "q"), spread(1, "k"), spread(1, "v"));
    let diagonal = |baby: u32| {
        let diagonal = format!("(diagonal 1 4 {baby} 3 (rope {q}) (append (rope {k}) {v}))");
        format!("(gather 4 0 1 (w 0 o) {diagonal})")
    };
    let out = format!("(linear 0 1 (w 0 o) {attend})");
    assert!(proves(&out, &diagonal(1)));
    assert!(proves(&out, &diagonal(16)));
    assert!(!proves(
        &out,
        &diagonal(16).replace("diagonal 1 4", "diagonal 1 16")
    ));
}

#[test]
fn keys_and_values_are_made_once_per_kv_head_wherever_tokens_lie() {
    let linear = |w: &str| format!("(linear 0 1 (w 0 {w}) x)");
    let (q, k, v) = (linear("q"), linear("k"), linear("v"));
    let attend = format!("(attend 0 8 0 (rope {q}) (append (rope {k}) {v}))");
    let once = |s: u32, w: &str| format!("(spread {s} 1 0 1 (once (w 0 {w})) x)");
    let (k, v) = (once(2, "k"), once(2, "v"));
    let outside = format!("(attend 0 8 0 (rope {q}) (append (rope {k}) {v}))");
    assert!(proves(&attend, &outside));
    let (k, v) = (once(8, "k"), once(8, "v"));
    let q = "(spread 4 0 0 1 (w 0 q) x)";
    let inside = format!("(attend 4 8 0 (rope {q}) (append (rope {k}) {v}))");
    let out = |x: &str| format!("(linear 0 1 (w 0 o) {x})");
    let gathered = |x: &str| format!("(gather 4 0 1 (w 0 o) {x})");
    assert!(proves(&out(&attend), &gathered(&inside)));
}

#[test]
fn every_rule_belongs_to_a_family_that_can_be_switched_off() {
    assert!(rules(EXTENT, &Alternative::ALL).is_empty());
    for family in Alternative::ALL {
        assert!(
            rules(EXTENT, &[family]).len() < rules(EXTENT, &[]).len(),
            "{family:?}"
        );
    }
}
