//! Chebyshev series: evaluation and interpolation.

use std::f64::consts::PI;

/// Σ c_k T_k(t), by Clenshaw's recurrence.
pub fn eval(coefficients: &[f64], t: f64) -> f64 {
    let (mut a, mut b) = (0.0, 0.0);
    for &c in coefficients.iter().skip(1).rev() {
        (a, b) = (2.0 * t * a - b + c, a);
    }
    t * a - b + coefficients.first().copied().unwrap_or(0.0)
}

/// The series of `degree` that meets `f` in the Chebyshev nodes.
pub fn interpolate(f: impl Fn(f64) -> f64, degree: usize) -> Vec<f64> {
    let n = degree + 1;
    let angle = |j: usize| PI * (j as f64 + 0.5) / n as f64;
    let values: Vec<f64> = (0..n).map(|j| f(angle(j).cos())).collect();
    (0..n)
        .map(|k| {
            let sum: f64 = (0..n)
                .map(|j| values[j] * (k as f64 * angle(j)).cos())
                .sum();
            sum * if k == 0 { 1.0 } else { 2.0 } / n as f64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clenshaw_agrees_with_the_cosine_form() {
        let c = [0.3, -1.2, 0.5, 0.25];
        for t in [-1.0f64, -0.4, 0.0, 0.7, 1.0] {
            let direct: f64 = c
                .iter()
                .enumerate()
                .map(|(k, c)| c * (k as f64 * t.acos()).cos())
                .sum();
            assert!((eval(&c, t) - direct).abs() < 1e-14);
        }
    }

    #[test]
    fn interpolation_reproduces_a_polynomial() {
        let c = interpolate(|t| 4.0 * t * t * t - 3.0 * t + 2.0, 5);
        let expected = [2.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        for (c, e) in c.iter().zip(expected) {
            assert!((c - e).abs() < 1e-13);
        }
    }
}
