//! Values outside their declared range, as the cleartext backend can see them.

use super::{Clear, ClearCt, Event, Moment};
use crate::slot::Op;
use std::collections::BTreeMap;

/// The worst escape of one site in one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Escape {
    /// Site with the layer's number.
    pub site: String,
    /// Operation whose result or operand escaped.
    pub op: &'static str,
    /// Bound declared; 1 for the operand of a polynomial or bootstrap.
    pub declared: f64,
    /// Largest |re| or |im| seen.
    pub seen: f64,
    /// How many instructions escaped there.
    pub times: u32,
}

/// How far over its range a value may be: the scheme's noise, which ranges do not hold, is some 2^-20, and means nothing.
const SLACK: f64 = 1e-5;

/// Collects escapes: call [`RangeWatch::observe`] from an observer.
#[derive(Clone, Debug, Default)]
pub struct RangeWatch {
    worst: BTreeMap<(String, bool), Escape>,
}

impl RangeWatch {
    /// Compare what an instruction computed with its declared ranges, and what entered it with its domain.
    pub fn observe(&mut self, backend: &Clear, event: &Event<'_, ClearCt>) {
        let Moment::After { results, .. } = &event.moment else {
            return;
        };
        // A loop's body reports for itself; taking the escape here would give it to the loop.
        if !matches!(event.instr.op, Op::SumGroups { .. })
            && let Some(seen) = backend.take_escape()
            && seen > 1.0 + SLACK
        {
            self.note(event, true, 1.0, seen);
        }
        for (ct, ty) in results.iter().zip(&event.instr.types) {
            let seen = ct.slots.max_part();
            if seen > ty.range + SLACK {
                self.note(event, false, ty.range, seen);
            }
        }
    }

    fn note(&mut self, event: &Event<'_, ClearCt>, operand: bool, declared: f64, seen: f64) {
        let site = event.site();
        let worst = self.worst.entry((site.clone(), operand)).or_insert(Escape {
            site,
            op: event.instr.op.name(),
            declared,
            seen,
            times: 0,
        });
        worst.times += 1;
        if seen / declared > worst.seen / worst.declared {
            worst.op = event.instr.op.name();
            (worst.declared, worst.seen) = (declared, seen);
        }
    }

    /// The escapes, the largest excess first.
    pub fn escapes(&self) -> Vec<Escape> {
        let mut escapes: Vec<_> = self.worst.values().cloned().collect();
        let excess = |e: &Escape| e.seen / e.declared;
        escapes.sort_by(|a, b| excess(b).total_cmp(&excess(a)));
        escapes
    }
}
