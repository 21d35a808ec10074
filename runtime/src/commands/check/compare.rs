//! Logits against the float64 truth.

use crate::client::argmax;
use serde_json::{Value, json};
use std::fmt;

/// How strictly logits are compared.
#[derive(Clone, Copy, Debug)]
pub(in crate::commands) struct Truth {
    /// Largest error allowed, in standard deviations of the float64 logits.
    pub tolerance: f64,
}

/// One step's comparison.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::commands) struct StepReport {
    /// Largest |logit - float64 logit| in standard deviations of the float64 logits.
    pub error_sigma: f64,
    /// Whether the most likely tokens agree; None where float64's first two are too close for the comparison to say anything.
    pub top1: Option<bool>,
    /// Seconds that the step took.
    pub seconds: f64,
    /// Whether the step is outside the tolerance.
    pub miss: bool,
}

/// Compares a step's logits with the float64 ones.
pub(in crate::commands) fn compare(
    truth: &Truth,
    expected: &[f64],
    logits: &[f64],
) -> Result<StepReport, String> {
    if expected.len() != logits.len() {
        return Err(format!(
            "{} logits where float64 has {}",
            logits.len(),
            expected.len()
        ));
    }
    let sigma = deviation(expected);
    // NaN must count as an error, and f64::max would lose it.
    let largest = expected
        .iter()
        .zip(logits)
        .map(|(e, l)| (e - l).abs())
        .fold(
            0.0,
            |worst: f64, d| if d > worst || d.is_nan() { d } else { worst },
        );
    let error_sigma = largest / sigma;
    let comparable = gap(expected) >= 2.0 * truth.tolerance * sigma;
    let top1 = comparable.then(|| argmax(expected) == argmax(logits));
    let within = error_sigma <= truth.tolerance;
    Ok(StepReport {
        error_sigma,
        top1,
        seconds: 0.0,
        miss: !within || top1 == Some(false),
    })
}

/// Standard deviation over the vocabulary.
fn deviation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
    variance.sqrt()
}

/// Distance between the largest two values.
fn gap(values: &[f64]) -> f64 {
    let (mut first, mut second) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for &value in values {
        if value > first {
            (first, second) = (value, first);
        } else if value > second {
            second = value;
        }
    }
    first - second
}

impl StepReport {
    /// The report as JSON.
    pub fn json(&self) -> Value {
        json!({
            "error_sigma": self.error_sigma,
            "top1": self.top1,
            "seconds": self.seconds,
            "miss": self.miss,
        })
    }
}

impl fmt::Display for StepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let top1 = match self.top1 {
            Some(true) => "same",
            Some(false) => "OTHER",
            None => "close",
        };
        let miss = if self.miss { "  MISS" } else { "" };
        write!(
            f,
            "{:>9.6}  {top1:>5}  {:>7.2}{miss}",
            self.error_sigma, self.seconds
        )
    }
}

/// All steps together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Summary {
    /// Largest error in σ.
    pub largest: f64,
    /// Steps whose top-1 could be compared, and those that agree.
    pub compared: usize,
    pub agree: usize,
    /// Steps outside the tolerance.
    pub misses: usize,
}

impl Summary {
    /// Over these reports.
    pub fn of(reports: &[StepReport]) -> Self {
        let error = |worst: f64, r: &StepReport| {
            if r.error_sigma > worst || r.error_sigma.is_nan() {
                r.error_sigma
            } else {
                worst
            }
        };
        Self {
            largest: reports.iter().fold(0.0, error),
            compared: reports.iter().filter(|r| r.top1.is_some()).count(),
            agree: reports.iter().filter(|r| r.top1 == Some(true)).count(),
            misses: reports.iter().filter(|r| r.miss).count(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "largest logit error {:.6} σ; top-1 agrees in {} of {} steps that can be compared",
            self.largest, self.agree, self.compared
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTH: Truth = Truth { tolerance: 0.1 };
    // Mean 0, variance 2, so σ = √2; the gap is 1.
    const EXPECTED: [f64; 4] = [-2.0, 0.0, 0.5, 1.5];

    #[test]
    fn errors_are_in_deviations() {
        let sigma = deviation(&EXPECTED);
        let mut logits = EXPECTED;
        logits[1] += 0.05 * sigma;
        let report = compare(&TRUTH, &EXPECTED, &logits).unwrap();
        assert!((report.error_sigma - 0.05).abs() < 1e-12);
        assert_eq!(report.top1, Some(true));
        assert!(!report.miss);
        logits[0] -= 0.2 * sigma;
        assert!(compare(&TRUTH, &EXPECTED, &logits).unwrap().miss);
    }

    #[test]
    fn a_near_tie_is_not_compared() {
        let expected = [-2.0, 0.0, 1.4, 1.5];
        let logits = [-2.0, 0.0, 1.5, 1.4];
        let report = compare(&TRUTH, &expected, &logits).unwrap();
        assert_eq!(report.top1, None);
        assert!(!report.miss);
        let far = compare(&TRUTH, &EXPECTED, &[-2.0, 0.0, 1.5, 0.5]).unwrap();
        assert_eq!(far.top1, Some(false));
    }

    #[test]
    fn nan_is_a_miss() {
        let report = compare(&TRUTH, &EXPECTED, &[f64::NAN, 0.0, 0.5, 1.5]).unwrap();
        assert!(report.miss);
        assert!(Summary::of(&[report]).largest.is_nan());
        assert!(compare(&TRUTH, &EXPECTED, &[1.0]).is_err());
    }
}
