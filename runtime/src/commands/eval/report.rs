//! What `sotto eval` found, for people and for programs.

use crate::commands::Failure;
use crate::commands::escapes::{FirstEscape, REMEDY, Stopped};
use serde_json::{Value, json};
use sotto_ir::fidelity::{Agreement, Fidelity, Trend, largest};
use std::fmt;

/// A position of the teacher-forced run.
#[derive(Clone, Debug)]
pub(super) struct Position {
    /// Logits against float64.
    pub fidelity: Fidelity,
    /// From float64's distribution, in nats.
    pub divergence: f64,
    /// What the next token's surprise is to the plan and to float64, in nats; None at the end.
    pub surprise: Option<(f64, f64)>,
    /// Seconds that the step took.
    pub seconds: f64,
}

/// The teacher-forced run.
#[derive(Clone, Debug, Default)]
pub(super) struct Forced {
    pub positions: Vec<Position>,
    pub escapes: Vec<FirstEscape>,
    pub stopped: Option<Stopped>,
}

/// Where the free-running plan left float64's text.
#[derive(Clone, Debug)]
pub(super) struct Left {
    /// Index of the first token that differs, counted from the prompt's end.
    pub at: usize,
    /// Whether float64's first two tokens were a near-tie there; None where the golden file does not say.
    pub near_tie: Option<bool>,
    /// Their distance in standard deviations.
    pub gap: Option<f64>,
}

/// The free-running run.
#[derive(Clone, Debug, Default)]
pub(super) struct Free {
    /// Tokens read first.
    pub prompt: usize,
    /// Tokens to make.
    pub asked: usize,
    /// Tokens made that are float64's.
    pub same: usize,
    /// Where it left float64's text, if it did.
    pub left: Option<Left>,
    /// Of every token made, where the golden file has float64's logits.
    pub fidelities: Vec<Fidelity>,
    pub divergences: Vec<f64>,
    pub escapes: Vec<FirstEscape>,
    pub stopped: Option<Stopped>,
}

/// Everything.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub backend: &'static str,
    pub noise: bool,
    pub tolerance: f64,
    pub forced: Forced,
    /// None where only reading was asked for.
    pub free: Option<Free>,
}

/// NaN where there is none or one of them is.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

impl Forced {
    fn errors(&self) -> Vec<f64> {
        self.positions
            .iter()
            .map(|p| p.fidelity.error_sigma)
            .collect()
    }

    fn divergences(&self) -> Vec<f64> {
        self.positions.iter().map(|p| p.divergence).collect()
    }

    fn agreement(&self, tolerance: f64) -> Agreement {
        Agreement::of(self.positions.iter().map(|p| &p.fidelity), tolerance)
    }

    /// The plan's and float64's.
    fn perplexities(&self) -> (f64, f64) {
        let all: Vec<(f64, f64)> = self.positions.iter().filter_map(|p| p.surprise).collect();
        let (plan, truth): (Vec<f64>, Vec<f64>) = all.into_iter().unzip();
        (mean(&plan).exp(), mean(&truth).exp())
    }

    fn json(&self, tolerance: f64) -> Value {
        let (errors, divergences) = (self.errors(), self.divergences());
        let agreement = self.agreement(tolerance);
        let perplexity = self.perplexities();
        json!({
            "positions": self.positions.len(),
            "seconds": self.positions.iter().map(|p| p.seconds).collect::<Vec<_>>(),
            "perplexity": {"plan": perplexity.0, "float64": perplexity.1},
            "top1": {"agree": agreement.agree, "compared": agreement.compared, "share": agreement.share()},
            "kl_nats": {"mean": mean(&divergences), "largest": largest(divergences.iter().copied()), "by_position": divergences},
            "error_sigma": {"mean": mean(&errors), "largest": largest(errors.iter().copied()), "by_position": errors},
            "trend": trend_json(&errors),
            "out_of_range": self.escapes.iter().map(FirstEscape::json).collect::<Vec<_>>(),
            "stopped": self.stopped.as_ref().map(Stopped::json),
        })
    }
}

impl Free {
    /// Refuses to call good what the golden file does not allow to judge.
    fn judged(&self) -> Result<(), Failure> {
        let Some(left) = &self.left else {
            return Ok(());
        };
        let at = left.at;
        match left.near_tie {
            None => Err(Failure::Input(format!(
                "token {at} of the free continuation is another than float64's, and the golden file does not say how near its second \
                 was; make it again with `sottoc reference --generate`, which records that"
            ))),
            Some(_) if self.same == 0 => Err(Failure::Input(
                "the free continuation left float64's at its first token, a near-tie, so that none could be judged; give another prompt \
                 to `sottoc reference`, or --forced-only"
                    .into(),
            )),
            Some(_) => Ok(()),
        }
    }

    fn errors(&self) -> Vec<f64> {
        self.fidelities.iter().map(|f| f.error_sigma).collect()
    }

    fn json(&self) -> Value {
        let errors = self.errors();
        let left = self.left.as_ref().map(
            |left| json!({"token": left.at, "near_tie": left.near_tie, "gap_sigma": left.gap}),
        );
        json!({
            "prompt": self.prompt,
            "tokens": self.asked,
            "same": self.same,
            "left": left,
            "kl_nats": {"mean": mean(&self.divergences), "largest": largest(self.divergences.iter().copied()), "by_position": self.divergences},
            "error_sigma": {"mean": mean(&errors), "largest": largest(errors.iter().copied()), "by_position": errors},
            "trend": trend_json(&errors),
            "out_of_range": self.escapes.iter().map(FirstEscape::json).collect::<Vec<_>>(),
            "stopped": self.stopped.as_ref().map(Stopped::json),
        })
    }
}

fn trend_json(errors: &[f64]) -> Value {
    let trend = Trend::of(errors).map(|t| {
        json!({"slope": t.slope, "standard_error": t.standard_error, "slope_in_errors": t.errors(), "verdict": t.word()})
    });
    trend.unwrap_or(Value::Null)
}

impl Report {
    /// Everything as JSON; what is no number is null.
    pub fn json(&self) -> Value {
        json!({
            "backend": self.backend,
            "noise": self.noise,
            "tolerance": self.tolerance,
            "teacher_forced": self.forced.json(self.tolerance),
            "free_running": self.free.as_ref().map(Free::json),
        })
    }

    /// Whether the plan is as close to float64 as is asked.
    pub fn verdict(&self, min_top1: f64, max_kl: f64) -> Result<(), Failure> {
        let mut found = Vec::new();
        let free = self.free.as_ref();
        let stopped = free.and_then(|free| free.stopped.as_ref());
        for stopped in self.forced.stopped.iter().chain(stopped) {
            let Stopped { step, cause } = stopped;
            found.push(format!("position {step} cannot be computed ({cause})"));
        }
        let share = self.forced.agreement(self.tolerance).share();
        if share < min_top1 {
            found.push(format!(
                "the most likely token agrees in {:.1} % of the compared positions, {:.1} % are asked for",
                100.0 * share,
                100.0 * min_top1
            ));
        }
        let divergence = mean(&self.forced.divergences());
        // NaN is beyond any bound
        if divergence.is_nan() || divergence > max_kl {
            found.push(format!(
                "KL is {divergence:.2e} nats, {max_kl:.2e} are allowed"
            ));
        }
        if let Some(Left {
            at,
            near_tie: Some(false),
            ..
        }) = free.and_then(|free| free.left.as_ref())
        {
            found.push(format!(
                "token {at} of the free continuation is another than float64's, and no near-tie"
            ));
        }
        if found.is_empty() {
            return free.map_or(Ok(()), Free::judged);
        }
        let escaped =
            !self.forced.escapes.is_empty() || free.is_some_and(|free| !free.escapes.is_empty());
        if escaped {
            found.push(format!("values have left their ranges: {REMEDY}"));
        }
        Err(Failure::Check(found.join("; ")))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noise = if self.noise { " with noise" } else { "" };
        let seconds: f64 = self.forced.positions.iter().map(|p| p.seconds).sum();
        writeln!(
            f,
            "teacher-forced on {}{noise}: {} positions in {seconds:.1} s",
            self.backend,
            self.forced.positions.len()
        )?;
        let (plan, truth) = self.forced.perplexities();
        writeln!(f, "  perplexity   {plan:.6}, float64's {truth:.6}")?;
        let Agreement { compared, agree } = self.forced.agreement(self.tolerance);
        writeln!(
            f,
            "  top-1        {agree} of {compared} compared agree, {} near-ties",
            self.forced.positions.len() - compared
        )?;
        figures(f, &self.forced.divergences(), &self.forced.errors())?;
        outside(f, &self.forced.escapes, self.forced.stopped.as_ref())?;
        self.free.as_ref().map_or(Ok(()), |free| free.fmt(f))
    }
}

impl fmt::Display for Free {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "free-running: {} of {} tokens after a prompt of {} are float64's",
            self.same, self.asked, self.prompt
        )?;
        if let Some(left) = &self.left {
            let why = match (left.near_tie, left.gap) {
                (Some(true), Some(gap)) => {
                    format!("a near-tie: float64's first two are {gap:.4} σ apart")
                }
                (_, Some(gap)) => format!("float64's first two are {gap:.4} σ apart"),
                _ => "the golden file does not say how near float64's second was".into(),
            };
            writeln!(f, "  left at      token {}, {why}", left.at)?;
        }
        if !self.fidelities.is_empty() {
            figures(f, &self.divergences, &self.errors())?;
        }
        outside(f, &self.escapes, self.stopped.as_ref())
    }
}

fn figures(f: &mut fmt::Formatter<'_>, divergences: &[f64], errors: &[f64]) -> fmt::Result {
    writeln!(
        f,
        "  KL           {:.3e} nats in the mean, {:.3e} at most",
        mean(divergences),
        largest(divergences.iter().copied())
    )?;
    writeln!(
        f,
        "  error        {:.6} σ in the mean, {:.6} at most",
        mean(errors),
        largest(errors.iter().copied())
    )?;
    match Trend::of(errors) {
        Some(t) => writeln!(
            f,
            "  by position  {}: slope {:.2e} σ a position, standard error {:.2e} ({:+.1} of them)",
            t.word(),
            t.slope,
            t.standard_error,
            t.errors()
        ),
        None => writeln!(f, "  by position  too few positions for a trend"),
    }
}

fn outside(
    f: &mut fmt::Formatter<'_>,
    escapes: &[FirstEscape],
    stopped: Option<&Stopped>,
) -> fmt::Result {
    escapes.iter().try_for_each(|e| writeln!(f, "  {e}"))?;
    stopped
        .iter()
        .try_for_each(|s| writeln!(f, "  stopped      at position {}: {}", s.step, s.cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(logits: [f64; 2]) -> Report {
        let truth = [0.0, 3.0];
        let position = Position {
            fidelity: Fidelity::of(&logits, &truth).unwrap(),
            divergence: sotto_ir::fidelity::divergence(&logits, &truth),
            surprise: Some((1.0, 2.0)),
            seconds: 0.1,
        };
        Report {
            backend: "clear",
            noise: false,
            tolerance: 0.02,
            forced: Forced {
                positions: vec![position; 4],
                ..Forced::default()
            },
            free: None,
        }
    }

    #[test]
    fn what_is_too_far_fails_and_says_why() {
        report([0.0, 3.0]).verdict(0.99, 1e-3).unwrap();
        let said = report([3.0, 0.0]).verdict(0.99, 1e-3).unwrap_err();
        assert!(matches!(said, Failure::Check(_)));
        let said = said.to_string();
        assert!(
            said.contains("0.0 % of the compared") && said.contains("KL is"),
            "{said}"
        );
        assert!(report([f64::NAN, 3.0]).verdict(0.0, 1e9).is_err());
    }

    #[test]
    fn leaving_at_a_near_tie_is_no_fault() {
        let mut left = report([0.0, 3.0]);
        let leave = |near_tie| {
            Some(Left {
                at: 3,
                near_tie,
                gap: Some(0.1),
            })
        };
        let mut verdict = |near_tie, same| {
            left.free = Some(Free {
                same,
                left: leave(near_tie),
                ..Free::default()
            });
            left.verdict(0.99, 1e-3)
        };
        verdict(Some(true), 3).unwrap();
        assert!(matches!(verdict(Some(false), 3), Err(Failure::Check(_))));
        // what cannot be judged is no success
        for (near_tie, same) in [(None, 3), (Some(true), 0)] {
            assert!(matches!(verdict(near_tie, same), Err(Failure::Input(_))));
        }
    }

    #[test]
    fn perplexity_is_that_of_the_mean_surprise() {
        let (plan, truth) = report([0.0, 3.0]).forced.perplexities();
        assert!((plan - 1f64.exp()).abs() < 1e-12 && (truth - 2f64.exp()).abs() < 1e-12);
        let json = report([0.0, 3.0]).json();
        assert_eq!(json["teacher_forced"]["top1"]["agree"], 4);
        assert_eq!(json["free_running"], Value::Null);
    }
}
