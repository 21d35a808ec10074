//! Values out of their ranges, as `check` and `eval` tell of them.

use serde_json::{Value, json};
use sotto_ir::exec::Escape;
use std::fmt;

/// What to do about values out of range.
pub(in crate::commands) const REMEDY: &str =
    "calibrate on text like this, or raise --margin (`sottoc compile`)";

/// The worst of a site, and the step at which it first escaped.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::commands) struct FirstEscape {
    escape: Escape,
    step: usize,
}

impl FirstEscape {
    /// The escape as JSON. An infinite value, which JSON does not have, is null.
    pub fn json(&self) -> Value {
        let e = &self.escape;
        json!({
            "site": e.site, "op": e.op, "declared": e.declared, "seen": e.seen, "times": e.times,
            "first_step": self.step,
        })
    }
}

impl fmt::Display for FirstEscape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Escape {
            site,
            op,
            declared,
            seen,
            times,
        } = &self.escape;
        let step = self.step;
        // An escape feeds on itself: figures may have hundreds of digits.
        let seen = match *seen < 1e6 {
            true => format!("{seen:.3}"),
            false => format!("{seen:.1e}"),
        };
        write!(
            f,
            "out of range: {site} ({op}), {seen} where {declared:.3} is declared, {times} times, first at step {step}"
        )
    }
}

/// A step that could not be computed.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::commands) struct Stopped {
    pub step: usize,
    /// What the backend said.
    pub cause: String,
}

impl Stopped {
    /// It as JSON.
    pub fn json(&self) -> Value {
        json!({"step": self.step, "cause": self.cause})
    }
}

/// Takes the escapes known after a step in place of those before; each keeps the step at which it first was.
pub(in crate::commands) fn note(known: &mut Vec<FirstEscape>, step: usize, escapes: Vec<Escape>) {
    let before = std::mem::take(known);
    let first = |site: &str| before.iter().find(|e| e.escape.site == site);
    let noted = escapes.into_iter().map(|escape| FirstEscape {
        step: first(&escape.site).map_or(step, |e| e.step),
        escape,
    });
    *known = noted.collect();
}
