//! How close logits are to the float64 ones: the one measure that calibration, checks, the demo and tests use.

use thiserror::Error;

/// One position's comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fidelity {
    /// Largest |logit - float64 logit|, in standard deviations of the float64 logits over the vocabulary; NaN where a logit is.
    pub error_sigma: f64,
    /// Distance between float64's two largest logits, in the same unit.
    pub gap_sigma: f64,
    /// Whether the most likely tokens agree.
    pub same_top: bool,
}

/// Vectors of different lengths.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{found} logits where float64 has {expected}")]
pub struct LengthError {
    /// Length of the truth.
    pub expected: usize,
    /// Length of what is compared with it.
    pub found: usize,
}

impl Fidelity {
    /// Compares `logits` with `truth`, position by position of the vocabulary.
    ///
    /// # Errors
    /// Different lengths.
    pub fn of(logits: &[f64], truth: &[f64]) -> Result<Self, LengthError> {
        if logits.len() != truth.len() {
            return Err(LengthError {
                expected: truth.len(),
                found: logits.len(),
            });
        }
        let sigma = deviation(truth);
        let errors = logits.iter().zip(truth).map(|(l, t)| (l - t).abs());
        Ok(Self {
            error_sigma: largest(errors) / sigma,
            gap_sigma: gap(truth) / sigma,
            same_top: most_likely(logits) == most_likely(truth),
        })
    }

    /// Whether the most likely tokens agree; None where float64's first two are closer than twice the tolerance (in standard
    /// deviations), so that an error within the tolerance may exchange them.
    pub fn top1(&self, tolerance: f64) -> Option<bool> {
        (self.gap_sigma >= 2.0 * tolerance).then_some(self.same_top)
    }

    /// Whether the error is within the tolerance and the most likely token, where it can be compared, is the same.
    pub fn holds(&self, tolerance: f64) -> bool {
        self.error_sigma <= tolerance && self.top1(tolerance) != Some(false)
    }
}

/// The largest; NaN if any is, which `f64::max` would lose.
pub fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    let larger = |worst: f64, x: f64| if x > worst || x.is_nan() { x } else { worst };
    values.into_iter().fold(0.0, larger)
}

/// Index of the largest value, the first of equals; NaN never wins. 0 for no values.
pub fn most_likely(values: &[f64]) -> u32 {
    let mut best = (0, f64::NEG_INFINITY);
    for (id, &value) in (0u32..).zip(values) {
        if value > best.1 {
            best = (id, value);
        }
    }
    best.0
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

#[cfg(test)]
mod tests {
    use super::*;

    // Mean 0, variance 13/8; the gap is 1.
    const TRUTH: [f64; 4] = [-2.0, 0.0, 0.5, 1.5];

    #[test]
    fn errors_are_in_deviations() {
        let sigma = deviation(&TRUTH);
        let mut logits = TRUTH;
        logits[1] += 0.05 * sigma;
        let close = Fidelity::of(&logits, &TRUTH).unwrap();
        assert!((close.error_sigma - 0.05).abs() < 1e-12);
        assert!((close.gap_sigma * 1.625f64.sqrt() - 1.0).abs() < 1e-12);
        assert_eq!(close.top1(0.1), Some(true));
        assert!(close.holds(0.1));
        logits[0] -= 0.2 * sigma;
        assert!(!Fidelity::of(&logits, &TRUTH).unwrap().holds(0.1));
    }

    #[test]
    fn a_near_tie_is_not_compared() {
        let truth = [-2.0, 0.0, 1.4, 1.5];
        let swapped = Fidelity::of(&[-2.0, 0.0, 1.5, 1.4], &truth).unwrap();
        assert!(!swapped.same_top);
        assert_eq!(swapped.top1(0.1), None);
        assert!(swapped.holds(0.1));
        let far = Fidelity::of(&[-2.0, 0.0, 1.5, 0.5], &TRUTH).unwrap();
        assert_eq!(far.top1(0.1), Some(false));
    }

    #[test]
    fn nan_is_a_miss() {
        let nan = Fidelity::of(&[f64::NAN, 0.0, 0.5, 1.5], &TRUTH).unwrap();
        assert!(nan.error_sigma.is_nan() && !nan.holds(0.1));
        assert!(largest([nan.error_sigma, 1.0]).is_nan());
        assert!(Fidelity::of(&[1.0], &TRUTH).is_err());
        assert_eq!(most_likely(&[f64::NAN, 1.0, 3.0, 3.0]), 2);
    }
}
