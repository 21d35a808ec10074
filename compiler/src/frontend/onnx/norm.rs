//! Norms: RMSNorm and LayerNorm as operations, RMSNorm also step by step.

use super::call::Call;
use super::error::{Refusal, Step};
use super::rules::Rules;
use super::value::{Rows, Term, TermId, Value};
use super::weight::Weight;

/// A step that keeps the shape.
fn step(
    rules: &mut Rules<'_>,
    call: &Call<'_>,
    next: impl Fn(&Term) -> Option<Term>,
) -> Step<Value> {
    let rows = rules.rows(call, 0)?;
    match next(rules.terms.get(rows.term)) {
        Some(term) => {
            let width = rules.terms.width(rows.term);
            rules.made(call, term, width, &rows)
        }
        None => Err(rules.misused(call)),
    }
}

/// Sqrt of a mean square plus eps.
pub(super) fn root(rules: &mut Rules<'_>, call: &Call<'_>) -> Step<Value> {
    step(rules, call, |term| match *term {
        Term::Shifted(x, eps) => Some(Term::Root(x, eps)),
        _ => None,
    })
}

/// Reciprocal of the root.
pub(super) fn inverse(rules: &mut Rules<'_>, call: &Call<'_>) -> Step<Value> {
    step(rules, call, |term| match *term {
        Term::Root(x, eps) => Some(Term::InverseRoot(x, eps)),
        _ => None,
    })
}

/// Both at once: Pow with −1/2.
pub(super) fn inverse_root(rules: &mut Rules<'_>, call: &Call<'_>) -> Step<Value> {
    step(rules, call, |term| match *term {
        Term::Shifted(x, eps) => Some(Term::InverseRoot(x, eps)),
        _ => None,
    })
}

/// ReduceMean of a square over the features.
pub(super) fn mean(rules: &mut Rules<'_>, call: &Call<'_>) -> Step<Value> {
    let rows = rules.rows(call, 0)?;
    let rank = rows.shape.len();
    let axes = call.list_or(1, "axes")?.unwrap_or_default();
    let last = axes.len() == 1 && call.axis_of(axes[0], rank)? == rank - 1;
    match *rules.terms.get(rows.term) {
        Term::Square(x) if last && call.int_attribute("keepdims", 1) == 1 => {
            rules.made(call, Term::MeanSquare(x), 1, &rows)
        }
        _ => Err(rules.misused(call)),
    }
}

/// Eps added to the mean square of `x`.
pub(super) fn shifted(
    rules: &mut Rules<'_>,
    call: &Call<'_>,
    x: TermId,
    act: usize,
    constant: usize,
) -> Step<Value> {
    let rows = rules.rows(call, act)?;
    let eps = call.scalar(constant).ok_or_else(|| call.misfit())?;
    rules.made(call, Term::Shifted(x, decimal(eps)), 1, &rows)
}

pub(super) fn rms_norm(rules: &mut Rules<'_>, call: &Call<'_>) -> Step<Value> {
    let rows = rules.whole(call, 0)?;
    check_axis(call, &rows)?;
    let term = Term::Norm {
        x: rows.term,
        eps: epsilon(call),
        weight: call.weight(1)?,
    };
    let width = rules.terms.width(rows.term);
    rules.made(call, term, width, &rows)
}

pub(super) fn layer_norm(rules: &mut Rules<'_>, call: &Call<'_>) -> Step<Value> {
    let rows = rules.whole(call, 0)?;
    check_axis(call, &rows)?;
    let width = rules.terms.width(rows.term);
    let term = Term::LayerNorm {
        x: rows.term,
        eps: epsilon(call),
        weight: call.weight(1)?,
        bias: match call.has(2) {
            true => call.weight(2)?,
            false => Weight::zeros(width),
        },
    };
    rules.made(call, term, width, &rows)
}

/// Sees that a norm is over the features, and its weight and bias as long as these.
fn check_axis(call: &Call<'_>, rows: &Rows) -> Step<()> {
    let rank = rows.shape.len();
    // A scalar has no axis: that is refused before its last extent is asked for.
    let over_features = call.axis(-1, rank)? == rank - 1;
    let width = rows.shape[rank - 1];
    for operand in (1..=2).filter(|&operand| call.has(operand)) {
        let weight = call.weight(operand)?;
        if !over_features || weight.shape() != [width] {
            return Err(Refusal::new(
                format!(
                    "a norm from axis {} with a weight of shape {:?}",
                    call.int_attribute("axis", -1),
                    weight.shape()
                ),
                format!("a norm over the last axis with a weight of shape [{width}]"),
            ));
        }
    }
    Ok(())
}

fn epsilon(call: &Call<'_>) -> f64 {
    decimal(f64::from(call.float_attribute("epsilon", 1e-5)))
}

/// The number a person wrote, of which the file holds the nearest f32.
fn decimal(x: f64) -> f64 {
    (x as f32).to_string().parse().unwrap_or(x)
}
