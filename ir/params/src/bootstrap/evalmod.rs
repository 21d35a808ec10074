//! EvalMod: reduction modulo `q_0` as a scaled sine.
//!
//! A slot holds `t = I + m/q_0` with an integer |I| ≤ bound; wanted is m. `cos(2π(t − 1/4)/2^r)` is evaluated as an even Chebyshev
//! polynomial, then r double-angle steps give `sin(2πt) = sin(2πm/q_0)`. Scaled by amplitudes `μ_{k−1} = sqrt(2·μ_k)` a
//! double-angle step `μ_k·cos 2θ = (μ_{k−1}·cos θ)² − μ_k` is one squaring and one subtraction, and the last amplitude μ_r carries the
//! factor back to the message. `sin(ε·x)/ε`, ε = 2π·Δ_0/q_0, is too small by ε²x²/6 relative; an amplitude larger by
//! 1/(1 − g·ε²) makes up for most of it, and no level is spent. g = 1/8 would quarter the worst error over |x| ≤ 1, to ε²/24, and 1/12 give the
//! least mean error; [`RAISE`] is near the former, with a mean of 0.0249 ε² and ε²/21.4 at worst.
//!
//! Bossuat et al. (see [`crate::poly`]); Lee, Lee, Lee, Kim, No for the double angles on even functions.

use super::{BootstrapError, level0_modulus};
use crate::poly::{Parity, PolyPlan, clenshaw, interpolate};
use crate::{LevelKind, ParamSet};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// |I| the interval covers. Together with h = 32: a coefficient escapes with probability 2^-74, see
/// [`super::BootstrapSpec::failure_log2_probability`].
const BOUND: u32 = 13;
/// Degree of the cosine; even, so one product less at 28 than at 30, and its error stays below that of the sine.
const DEGREE: usize = 28;
/// Double-angle steps.
const DOUBLE_ANGLES: usize = 3;
/// Messages up to this many times the promised bound still lie inside the interval.
const MESSAGE_MARGIN: f64 = 4.0;

/// How much larger than 1/ε the sine's amplitude is, relatively and in ε².
const RAISE: f64 = 0.12;

/// The modular reduction of a bootstrap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalModSpec {
    /// Level of the input.
    pub level: usize,
    /// Largest |I| covered.
    pub bound: u32,
    /// Room beyond `bound + 1/4` for the message, in units of `q_0`.
    pub margin: f64,
    /// Evaluation of the even Chebyshev polynomial.
    pub poly: PolyPlan,
    /// Double-angle steps, one level each.
    pub double_angles: usize,
}

/// Numbers that go with an [`EvalModSpec`] under one parameter set.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalModConstants {
    /// Added to the argument `t/radius` first: `−1/(4·radius)`.
    pub shift: f64,
    /// Chebyshev coefficients of `μ_0·cos(2π·radius·y/2^r)`.
    pub coefficients: Vec<f64>,
    /// `μ_1 ‥ μ_r`, one per double-angle step: squared, then this much subtracted.
    pub amplitudes: Vec<f64>,
}

impl EvalModSpec {
    pub(super) fn new(set: &ParamSet) -> Result<Self, BootstrapError> {
        let unsupported = |what: String| BootstrapError::Unsupported {
            set: set.name.clone(),
            what,
        };
        if set.ephemeral.is_none() {
            return Err(unsupported("no ephemeral secret".into()));
        }
        let poly = PolyPlan::new(DEGREE, Parity::Even).map_err(|e| unsupported(e.to_string()))?;
        let levels = set
            .levels
            .iter()
            .filter(|l| l.kind == LevelKind::EvalMod)
            .count();
        let wanted = poly.depth + DOUBLE_ANGLES;
        if levels != wanted {
            return Err(unsupported(format!(
                "{levels} EvalMod levels instead of {wanted}"
            )));
        }
        let margin = MESSAGE_MARGIN * set.scale(0) / level0_modulus(set);
        let level = set.top_app_level() + wanted;
        Ok(Self {
            level,
            bound: BOUND,
            margin,
            poly,
            double_angles: DOUBLE_ANGLES,
        })
    }

    /// Half the length of the interval of `t − 1/4`: the polynomial's argument is `(t − 1/4)/radius`.
    pub fn radius(&self) -> f64 {
        f64::from(self.bound) + 0.25 + self.margin
    }

    /// What a message x comes out as, noise apart: the scaled sine, within ε²/21 of x on [-1, 1].
    pub fn transfer(&self, set: &ParamSet, x: f64) -> f64 {
        let epsilon = epsilon(set);
        amplitude(epsilon) * (epsilon * x).sin()
    }

    /// Root mean square of what the polynomial's error adds to [`Self::transfer`], over messages uniform in [-1, 1] and the multiples of
    /// `q_0` as they occur.
    pub fn polynomial_error(&self, set: &ParamSet) -> f64 {
        const STEPS: i32 = 16;
        let (constants, gain) = (self.constants(set), output_gain(set));
        let epsilon = epsilon(set);
        let h = set.ephemeral.as_ref().map_or(1, |e| e.h);
        // The sum of h uniform variables, to the accuracy wanted here.
        let weight = |i: f64| (-6.0 * i * i / f64::from(h)).exp();
        let (mut sum, mut total) = (0.0, 0.0);
        for i in -(self.bound as i32)..=self.bound as i32 {
            for step in 0..=STEPS {
                let x = f64::from(2 * step - STEPS) / f64::from(STEPS);
                let t = f64::from(i) + x * epsilon / TAU;
                let error = constants.interpret(t / self.radius()) * gain - self.transfer(set, x);
                sum += weight(f64::from(i)) * error * error;
                total += weight(f64::from(i));
            }
        }
        (sum / total).sqrt()
    }

    /// Coefficients and amplitudes. The step onto the top app level may change the canonical scale by a gain (see
    /// [`crate::Level::scale`]); the last amplitude makes up for it.
    pub fn constants(&self, set: &ParamSet) -> EvalModConstants {
        let gain = output_gain(set);
        let last = amplitude(epsilon(set)) / gain;
        let mut amplitudes = vec![last];
        for _ in 0..self.double_angles {
            amplitudes.push((2.0 * amplitudes[amplitudes.len() - 1]).sqrt());
        }
        amplitudes.reverse();
        let first = amplitudes.remove(0);
        let frequency = TAU * self.radius() / f64::from(1u32 << self.double_angles);
        let mut coefficients = interpolate(self.poly.degree, |y| first * (frequency * y).cos());
        coefficients
            .iter_mut()
            .skip(1)
            .step_by(2)
            .for_each(|c| *c = 0.0);
        EvalModConstants {
            shift: -0.25 / self.radius(),
            coefficients,
            amplitudes,
        }
    }
}

/// ε = 2π·Δ_0/q_0: the angle of a message of one.
fn epsilon(set: &ParamSet) -> f64 {
    TAU * set.scale(0) / level0_modulus(set)
}

/// The factor from the sine of the angle to the message.
fn amplitude(epsilon: f64) -> f64 {
    1.0 / (epsilon * (1.0 - RAISE * epsilon * epsilon))
}

/// What a value grows by at the rescale onto the top app level, by the change of canonical scales there.
fn output_gain(set: &ParamSet) -> f64 {
    let out = set.top_app_level();
    set.scale(out + 1).powi(2) / (set.ratio(out + 1, out) * set.scale(out))
}

impl EvalModConstants {
    /// EvalMod in floating point: `argument = t/radius` to the message, up to the gain of the last rescale.
    pub fn interpret(&self, argument: f64) -> f64 {
        let cosine = clenshaw(&self.coefficients, argument + self.shift);
        self.amplitudes.iter().fold(cosine, |c, mu| c * c - mu)
    }
}

/// log2 of P(|X| > bound) for X the sum of `h` independent variables uniform on [-1/2, 1/2] (Irwin–Hall), −∞ where it is zero.
///
/// After the raise a coefficient is `m + q_0·I` with `I` the rounded sum of h coefficients of the (uniform) level-0 ciphertext,
/// each divided by `q_0`. Exact: `2/h! · Σ_{k ≤ τ} (−1)^k C(h,k) (τ−k)^h`, `τ = h/2 − bound`, summed relative to `τ^h`.
///
/// The alternating sum loses digits where the tail is no longer small; for `bound < h/8` the bound 1 (log2 = 0) is returned.
pub fn irwin_hall_log2_tail(h: u32, bound: f64) -> f64 {
    let (count, tau) = (f64::from(h), f64::from(h) / 2.0 - bound);
    if tau <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if bound < count / 8.0 {
        return 0.0;
    }
    let (mut sum, mut binomial, mut k) = (0.0, 1.0, 0.0);
    while k < tau {
        sum += binomial * (1.0 - k / tau).powi(h as i32);
        binomial *= -(count - k) / (k + 1.0);
        k += 1.0;
    }
    let log2_factorial: f64 = (2..=h).map(|i| f64::from(i).log2()).sum();
    (1.0 + count * tau.log2() - log2_factorial + f64::log2(sum)).min(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The density of the sum by repeated convolution on a grid, integrated: an independent tail.
    fn tail_by_convolution(h: u32, bound: f64) -> f64 {
        const CELLS: usize = 64;
        let mut density = vec![1.0 / CELLS as f64; CELLS];
        for _ in 1..h {
            let mut next = vec![0.0; density.len() + CELLS];
            for (i, d) in density.iter().enumerate() {
                next[i] += d / CELLS as f64 / 2.0;
                next[i + CELLS] += d / CELLS as f64 / 2.0;
                for j in 1..CELLS {
                    next[i + j] += d / CELLS as f64;
                }
            }
            density = next;
        }
        let middle = density.len() as f64 / 2.0;
        let beyond = |i: usize| ((i as f64 + 0.5 - middle) / CELLS as f64).abs() > bound;
        density
            .iter()
            .enumerate()
            .filter(|(i, _)| beyond(*i))
            .map(|(_, d)| d)
            .sum()
    }

    #[test]
    fn tail_matches_convolution() {
        for (h, bound) in [(8, 2.0), (16, 4.0), (32, 5.0), (32, 7.0)] {
            let (exact, grid) = (
                irwin_hall_log2_tail(h, bound),
                tail_by_convolution(h, bound).log2(),
            );
            assert!(
                (exact - grid).abs() < 0.2,
                "h {h} bound {bound}: {exact} against {grid}"
            );
        }
        assert_eq!(irwin_hall_log2_tail(32, 16.0), f64::NEG_INFINITY);
        // One corner of the cube: τ = 1/2 leaves a single term, 2·(1/2)^2/2!.
        assert!((irwin_hall_log2_tail(2, 0.5) - 0.25f64.log2()).abs() < 1e-12);
    }

    #[test]
    fn double_angles_give_the_sine() {
        let set = ParamSet::secure_128();
        let spec = EvalModSpec::new(&set).expect("the set bootstraps");
        let constants = spec.constants(&set);
        let (q0, gain) = (level0_modulus(&set), output_gain(&set));
        let mut worst = 0.0f64;
        for integer in -(spec.bound as i32)..=spec.bound as i32 {
            for step in -20..=20 {
                let message = f64::from(step) / 20.0;
                let t = f64::from(integer) + message * set.scale(0) / q0;
                let error = constants.interpret(t / spec.radius()) * gain - message;
                worst = worst.max(error.abs());
            }
        }
        let error = spec.polynomial_error(&set);
        assert!(
            error < f64::exp2(-25.0),
            "the polynomial's error 2^{:.2}",
            error.log2()
        );
        // ε²/21.4 = 2^-19.1 of the sine, and the polynomial's own.
        assert!(
            worst < f64::exp2(-19.0),
            "worst error 2^{:.2}",
            worst.log2()
        );
    }
}
