//! How close logits are to the float64 ones: the one measure that calibration, checks, the demo and tests use.

use miette::Diagnostic;
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
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error("{found} logits where float64 has {expected}")]
#[diagnostic(code(fidelity::length))]
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

/// How often the most likely token is float64's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Positions where it can be compared: float64's first two are no closer than twice the tolerance.
    pub compared: usize,
    /// Those where it is the same.
    pub agree: usize,
}

impl Agreement {
    /// Over some positions.
    pub fn of<'f>(positions: impl IntoIterator<Item = &'f Fidelity>, tolerance: f64) -> Self {
        let top1 = positions.into_iter().filter_map(|f| f.top1(tolerance));
        top1.fold(Self::default(), |sum, same| Self {
            compared: sum.compared + 1,
            agree: sum.agree + usize::from(same),
        })
    }

    /// The share that agrees; 1 where nothing can be compared.
    pub fn share(&self) -> f64 {
        match self.compared {
            0 => 1.0,
            compared => self.agree as f64 / compared as f64,
        }
    }
}

/// Kullback-Leibler divergence from float64's next-token distribution to that of `logits`, in nats; NaN where a logit is. Both have one
/// entry per vocabulary entry.
pub fn divergence(logits: &[f64], truth: &[f64]) -> f64 {
    let (q, p) = (log_sum_exp(logits), log_sum_exp(truth));
    let pairs = truth.iter().zip(logits);
    let terms = pairs.map(|(t, l)| (t - p).exp() * ((t - p) - (l - q)));
    // a sum of terms of either sign may round to less than the least there is
    let sum: f64 = terms.sum();
    if sum < 0.0 { 0.0 } else { sum }
}

/// Nats by which the next token surprises: −log of its probability. None outside the vocabulary.
pub fn surprise(logits: &[f64], token: u32) -> Option<f64> {
    let logit = logits.get(token as usize)?;
    Some(log_sum_exp(logits) - logit)
}

fn log_sum_exp(values: &[f64]) -> f64 {
    let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    top + values.iter().map(|x| (x - top).exp()).sum::<f64>().ln()
}

/// The line through values at positions 0, 1, 2, … by least squares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// Change from one position to the next.
    pub slope: f64,
    /// Standard error of the slope, if the values scatter independently around the line.
    pub standard_error: f64,
}

impl Trend {
    /// Slopes of more standard errors than this are trends: chance gives one in a hundred.
    pub const SIGNIFICANT: f64 = 2.6;

    /// Fewest values that a trend is told of: the scatter of fewer says too little of how large a slope chance gives.
    pub const LEAST: usize = 32;

    /// Through values; None for fewer than [`Self::LEAST`].
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.len() < Self::LEAST {
            return None;
        }
        let n = values.len() as f64;
        let (mid, mean) = ((n - 1.0) / 2.0, values.iter().sum::<f64>() / n);
        let points = || {
            values
                .iter()
                .enumerate()
                .map(|(i, y)| (i as f64 - mid, y - mean))
        };
        let spread: f64 = points().map(|(x, _)| x * x).sum();
        let slope = points().map(|(x, y)| x * y).sum::<f64>() / spread;
        let rest: f64 = points().map(|(x, y)| (y - slope * x).powi(2)).sum();
        Some(Self {
            slope,
            standard_error: (rest / (n - 2.0) / spread).sqrt(),
        })
    }

    /// The slope in standard errors; 0 for a line without slope.
    pub fn errors(&self) -> f64 {
        match self.slope == 0.0 {
            true => 0.0,
            false => self.slope / self.standard_error,
        }
    }

    /// What that says: `grows`, `decays`, or `no trend`.
    pub fn word(&self) -> &'static str {
        match self.errors() {
            t if t > Self::SIGNIFICANT => "grows",
            t if t < -Self::SIGNIFICANT => "decays",
            t if t.is_nan() => "unknown",
            _ => "no trend",
        }
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
    fn agreement_leaves_near_ties_out() {
        let tie = Fidelity::of(&[-2.0, 0.0, 1.5, 1.4], &[-2.0, 0.0, 1.4, 1.5]).unwrap();
        let same = Fidelity::of(&TRUTH, &TRUTH).unwrap();
        let other = Fidelity::of(&[-2.0, 0.0, 1.5, 0.5], &TRUTH).unwrap();
        let agreement = Agreement::of(&[tie, same, other], 0.1);
        assert_eq!((agreement.compared, agreement.agree), (2, 1));
        assert_eq!(agreement.share(), 0.5);
        assert_eq!(Agreement::of(&[tie], 0.1).share(), 1.0);
    }

    #[test]
    fn divergence_and_surprise_are_those_of_softmax() {
        // softmax of [0, ln 3] is [1/4, 3/4]
        let (p, q) = ([0.0, 3f64.ln()], [5.0, 5.0]);
        let expected = 0.25 * 0.5f64.ln() + 0.75 * 1.5f64.ln();
        assert!((divergence(&q, &p) - expected).abs() < 1e-15);
        assert_eq!(divergence(&p, &p), 0.0);
        assert!(divergence(&[f64::NAN, 0.0], &p).is_nan());
        assert!((surprise(&p, 0).unwrap() - 4f64.ln()).abs() < 1e-15);
        assert_eq!(surprise(&p, 2), None);
    }

    #[test]
    fn a_trend_is_told_from_scatter() {
        let scatter = |i: usize| f64::from(u8::from(i.is_multiple_of(2)));
        let flat: Vec<f64> = (0..128).map(scatter).collect();
        assert_eq!(Trend::of(&flat).unwrap().word(), "no trend");
        let grows: Vec<f64> = (0..128).map(|i| 0.1 * i as f64 + scatter(i)).collect();
        let trend = Trend::of(&grows).unwrap();
        assert!((trend.slope - 0.1).abs() < 0.001 && trend.word() == "grows");
        // by hand: of a scatter of ±1/2 about no line, the slope's error is 1/2 by the root of (n - 2) (n³ - n) / 12 n
        let trend = Trend::of(&flat[..32]).unwrap();
        let expected = (0.25 * 32.0 / 30.0 / (32.0 * (32.0 * 32.0 - 1.0) / 12.0_f64)).sqrt();
        assert!((trend.standard_error / expected - 1.0).abs() < 0.01);
        assert_eq!(Trend::of(&flat[..Trend::LEAST - 1]), None);
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
