//! What a whole check came to: its steps, the values that left their ranges, and where it could not go on.

use super::report::{StepReport, Summary};
use crate::commands::Failure;
use crate::commands::escapes::{FirstEscape, REMEDY, Stopped};
use std::fmt;

/// The whole check.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outcome {
    pub reports: Vec<StepReport>,
    /// The largest excess first.
    pub escapes: Vec<FirstEscape>,
    pub stopped: Option<Stopped>,
}

impl Outcome {
    /// All steps together.
    pub fn summary(&self) -> Summary {
        Summary::of(&self.reports)
    }

    /// Whether the plan computes what float64 does.
    pub fn verdict(&self, tolerance: f64) -> Result<(), Failure> {
        if let Some(Stopped { step, cause }) = &self.stopped {
            return Err(Failure::Check(format!(
                "step {step} cannot be computed, values have left their ranges too far: {REMEDY} ({cause})"
            )));
        }
        let misses = self.summary().misses;
        if misses == 0 {
            return Ok(());
        }
        let remedy = match self.escapes.is_empty() {
            true => "; make the golden file anew from the plan's model (`sottoc reference`): if the plan still misses, that is a defect of the compiler".into(),
            false => format!("; values have left their ranges: {REMEDY}"),
        };
        Err(Failure::Check(format!(
            "{misses} of {} steps miss the tolerance of {tolerance} σ{remedy}",
            self.reports.len()
        )))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.reports.is_empty() {
            writeln!(f, "{}", self.summary())?;
        }
        self.escapes
            .iter()
            .try_for_each(|escape| writeln!(f, "{escape}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::escapes::note;
    use sotto_ir::exec::Escape;

    fn escape(site: &str, seen: f64) -> Escape {
        Escape {
            site: site.into(),
            op: "poly",
            declared: 1.0,
            seen,
            times: 1,
        }
    }

    #[test]
    fn an_escape_is_told_with_its_first_step_and_its_worst() {
        let mut outcome = Outcome::default();
        note(&mut outcome.escapes, 0, vec![]);
        note(&mut outcome.escapes, 1, vec![escape("a", 2.0)]);
        note(
            &mut outcome.escapes,
            2,
            vec![escape("b", f64::INFINITY), escape("a", 3.0)],
        );
        let told: Vec<_> = outcome.escapes.iter().map(|e| e.to_string()).collect();
        assert!(
            told[0].contains("b (poly), inf") && told[0].ends_with("first at step 2"),
            "{told:?}"
        );
        assert!(
            told[1].contains("a (poly), 3.000") && told[1].ends_with("first at step 1"),
            "{told:?}"
        );
        assert_eq!(outcome.escapes[1].json()["first_step"], 1);
    }

    #[test]
    fn a_step_that_escapes_stop_is_a_failed_check_with_a_remedy() {
        let mut outcome = Outcome::default();
        outcome.verdict(0.02).unwrap();
        outcome.stopped = Some(Stopped {
            step: 3,
            cause: "no".into(),
        });
        let failure = outcome.verdict(0.02).unwrap_err();
        assert!(matches!(failure, Failure::Check(_)));
        let said = failure.to_string();
        assert!(said.contains("step 3") && said.contains(REMEDY), "{said}");
    }
}
