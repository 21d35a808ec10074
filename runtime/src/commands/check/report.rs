//! What `sotto check` says of each step and of all.

use serde_json::{Value, json};
use sotto_ir::fidelity::{Agreement, Fidelity, largest};
use std::fmt;

/// One step's comparison.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StepReport {
    /// Logits against float64.
    pub fidelity: Fidelity,
    /// Largest error allowed, in standard deviations of the float64 logits.
    pub tolerance: f64,
    /// Seconds that the step took.
    pub seconds: f64,
}

impl StepReport {
    /// Whether the step is outside the tolerance.
    pub fn miss(&self) -> bool {
        !self.fidelity.holds(self.tolerance)
    }

    fn top1(&self) -> Option<bool> {
        self.fidelity.top1(self.tolerance)
    }

    /// The report as JSON.
    pub fn json(&self) -> Value {
        json!({
            "error_sigma": self.fidelity.error_sigma,
            "top1": self.top1(),
            "seconds": self.seconds,
            "miss": self.miss(),
        })
    }
}

impl fmt::Display for StepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let top1 = match self.top1() {
            Some(true) => "same",
            Some(false) => "OTHER",
            None => "close",
        };
        let miss = if self.miss() { "  MISS" } else { "" };
        write!(
            f,
            "{:>9.6}  {top1:>5}  {:>7.2}{miss}",
            self.fidelity.error_sigma, self.seconds
        )
    }
}

/// All steps together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Summary {
    /// Largest error in σ.
    pub largest: f64,
    /// Steps whose top-1 could be compared, and those that agree.
    pub top1: Agreement,
    /// Steps outside the tolerance.
    pub misses: usize,
}

impl Summary {
    /// Over these reports.
    pub fn of(reports: &[StepReport]) -> Self {
        let tolerance = reports.first().map_or(0.0, |r| r.tolerance);
        Self {
            largest: largest(reports.iter().map(|r| r.fidelity.error_sigma)),
            top1: Agreement::of(reports.iter().map(|r| &r.fidelity), tolerance),
            misses: reports.iter().filter(|r| r.miss()).count(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "largest logit error {:.6} σ; top-1 agrees in {} of {} steps that can be compared",
            self.largest, self.top1.agree, self.top1.compared
        )
    }
}
