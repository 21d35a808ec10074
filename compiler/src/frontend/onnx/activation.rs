//! Activations between an MLP's projections: SiLU and GELU, as operations or step by step.

use super::array::Array;
use super::call::Call;
use super::error::{Refusal, Step};
use super::rules::{Rules, scaled};
use super::value::{Entry, Rows, Term, Value};
use sotto_ir::decoder::Activation;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

/// What the cube is multiplied by in the tanh form of GELU.
const CUBE: f64 = 0.044715;

/// How far a stored constant may be off, relative to itself: f32 holds it to 6e-8.
const TOLERANCE: f64 = 1e-6;

fn is_near(x: f64, constant: f64) -> bool {
    (x - constant).abs() <= TOLERANCE * constant
}

pub(super) fn sigmoid(rules: &mut Rules<'_>, call: &Call<'_>) -> Step<Value> {
    let rows = rules.whole(call, 0)?;
    let width = rules.terms.width(rows.term);
    rules.made(call, Term::Sigmoid(rows.term), width, &rows)
}

pub(super) fn swish(rules: &mut Rules<'_>, call: &Call<'_>) -> Step<Value> {
    if call.float_attribute("alpha", 1.0) != 1.0 {
        return Err(rules.misused(call));
    }
    activated(rules, call, Activation::Silu)
}

pub(super) fn gelu(rules: &mut Rules<'_>, call: &Call<'_>) -> Step<Value> {
    let function = match call.text_attribute("approximate", "none") {
        "none" => Activation::Gelu,
        "tanh" => Activation::GeluTanh,
        other => {
            return Err(Refusal::new(
                format!("a GELU approximated by `{other}`"),
                "Gelu with approximate = none or tanh",
            ));
        }
    };
    activated(rules, call, function)
}

fn activated(rules: &mut Rules<'_>, call: &Call<'_>, function: Activation) -> Step<Value> {
    let rows = rules.whole(call, 0)?;
    let width = rules.terms.width(rows.term);
    let term = Term::Activated(rows.term, function);
    rules.made(call, term, width, &rows)
}

/// x + 0.044715·x³; none if the operands do not look like that.
pub(super) fn gelu_argument(
    rules: &mut Rules<'_>,
    call: &Call<'_>,
    a: &Array<Entry>,
    b: &Array<Entry>,
) -> Option<Step<Value>> {
    let cube_of = |x: &Rows, (cube, factor): &(Rows, f64)| {
        let same = *rules.terms.get(cube.term) == Term::Cube(x.term);
        same && is_near(*factor, CUBE) && (&x.tokens, &x.shape) == (&cube.tokens, &cube.shape)
    };
    let (a, b) = (rules.terms.scaled_rows(a)?, rules.terms.scaled_rows(b)?);
    let x = match (&a, &b) {
        ((x, 1.0), cube) if cube_of(x, cube) => x,
        (cube, (x, 1.0)) if cube_of(x, cube) => x,
        _ => return None,
    };
    let width = rules.terms.width(x.term);
    Some(rules.made(call, Term::GeluArgument(x.term), width, x))
}

/// Tanh of a GELU's argument times √(2/π), or Erf of x/√2.
pub(super) fn gelu_gate(rules: &mut Rules<'_>, call: &Call<'_>) -> Step<Value> {
    let array = call.act(0)?.clone();
    let Some((rows, factor)) = rules.terms.scaled_rows(&array) else {
        return Err(rules.misused(call));
    };
    let gate = match (call.node.op.as_str(), rules.terms.get(rows.term)) {
        ("Tanh", &Term::GeluArgument(x)) if is_near(factor, FRAC_2_PI.sqrt()) => {
            Term::GeluGate(x, Activation::GeluTanh)
        }
        ("Erf", Term::Linear { .. }) if is_near(factor, FRAC_1_SQRT_2) => {
            Term::GeluGate(rows.term, Activation::Gelu)
        }
        _ => return Err(rules.misused(call)),
    };
    let width = rules.terms.width(rows.term);
    rules.made(call, gate, width, &rows)
}

/// x times one plus its gate, which is twice the GELU; none if the operands do not look like that.
pub(super) fn gelu_product(
    rules: &mut Rules<'_>,
    call: &Call<'_>,
    a: &Array<Entry>,
    b: &Array<Entry>,
) -> Option<Step<Value>> {
    let share_of = |x: &Rows, share: &Rows| match *rules.terms.get(share.term) {
        Term::GeluShare(of, function)
            if of == x.term && (&x.tokens, &x.shape) == (&share.tokens, &share.shape) =>
        {
            Some(Term::Activated(of, function))
        }
        _ => None,
    };
    let ((a, of_a), (b, of_b)) = (rules.terms.scaled_rows(a)?, rules.terms.scaled_rows(b)?);
    let term = share_of(&a, &b).or_else(|| share_of(&b, &a))?;
    let width = rules.terms.width(a.term);
    let made = rules.made(call, term, width, &a);
    Some(made.map(|value| match value {
        Value::Act(gelu) => scaled(&gelu, 2.0 * of_a * of_b),
        other => other,
    }))
}
