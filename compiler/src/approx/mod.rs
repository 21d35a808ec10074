//! Polynomial approximations on [-1, 1] in the Chebyshev basis.
//!
//! A function enters as its window and leaves as a series over t ∈ [-1, 1], where t is the affine image of the window; the
//! lowering folds that map in weights, masks and units. [`fit`] is the weighted minimax polynomial (Remez exchange), so the
//! error it states is the largest one over the whole window, not over samples that calibration happened to see.

mod function;
mod remez;
mod series;

pub use function::{Function, Window};
pub use remez::{Fit, FitError, fit};
pub use series::{eval, interpolate};

/// Largest degree offered.
pub const MAX_DEGREE: usize = 255;

/// Levels that a polynomial of `degree` consumes, ⌈log2(degree + 1)⌉.
pub fn levels(degree: usize) -> u32 {
    usize::BITS - degree.leading_zeros()
}

/// How many times more accurate than asked a fit may become within its levels.
const TIGHTER: f64 = 5.0;

/// The fit of fewest levels whose weighted error is at most `target`; of these the least degree that errs [`TIGHTER`] times less,
/// or the largest. Fails with the error that [`MAX_DEGREE`] leaves.
pub fn cheapest(function: &Function, target: f64) -> Result<Fit, FitError> {
    let mut degree = 3;
    let mut found = fit(function, degree)?;
    while found.error > target {
        degree = 2 * degree + 1;
        if degree > MAX_DEGREE {
            return Err(FitError::Target {
                function: function.name().into(),
                window: function.window(),
                error: found.error,
                target,
                degree: MAX_DEGREE,
            });
        }
        found = fit(function, degree)?;
    }
    // the levels are settled; within them accuracy is cheap, but beyond TIGHTER it is worth nothing
    let target = target / TIGHTER;
    let (mut fails, mut meets) = (degree / 2, degree);
    while meets - fails > 1 {
        let middle = (fails + meets) / 2;
        let lower = fit(function, middle)?;
        if lower.error <= target {
            (meets, found) = (middle, lower);
        } else {
            fails = middle;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_degrees() {
        for (degree, expected) in [
            (1, 1),
            (3, 2),
            (4, 3),
            (7, 3),
            (8, 4),
            (15, 4),
            (31, 5),
            (63, 6),
        ] {
            assert_eq!(levels(degree), expected, "degree {degree}");
        }
    }

    #[test]
    fn wider_windows_need_higher_degrees() {
        let needed = |hi| {
            let f = Function::Inverse {
                window: Window::new(1.0, hi).unwrap(),
                scale: 1.0,
            };
            levels(cheapest(&f, 1e-3).unwrap().degree())
        };
        assert_eq!(needed(3.0), 3);
        assert_eq!(needed(10.0), 4);
        assert_eq!(needed(60.0), 5);
        assert_eq!(needed(200.0), 6);
    }

    /// Largest error of a fit's power over the window, in what the exponential says it is measured in.
    fn power_error(fit: &Fit, window: Window, root: f64, lowest: f64) -> f64 {
        let error = |i: u32| {
            let t = f64::from(i) / 5000.0 - 1.0;
            let x = window.at(t) - window.hi;
            let power = eval(&fit.coefficients, t).powi(root as i32);
            (power - x.exp()).abs() / (x.exp() + (lowest - window.hi).exp())
        };
        (0..=10_000).map(error).fold(0.0, f64::max)
    }

    /// Scores that span 35 and 135: what is far below the best is as good as 0, whatever the power.
    #[test]
    fn a_vanishing_exponential_stays_vanished() {
        let tolerance = 5e-4;
        for (span, roots) in [(35.0, 0..=5), (135.0, 1..=5), (170.0, 1..=5)] {
            let window = Window::new(-span, 0.0).unwrap();
            for root in roots.map(|squarings| f64::from(1 << squarings)) {
                let lowest = -8.0;
                let exp = Function::Exp {
                    window,
                    root,
                    lowest,
                    tolerance,
                };
                let fit = cheapest(&exp, tolerance).unwrap();
                let error = power_error(&fit, window, root, lowest);
                assert!(error <= tolerance, "span {span}, root {root}: {error}");
            }
        }
    }

    #[test]
    fn degrees_are_no_higher_than_accuracy_is_worth() {
        let window = Window::new(0.1, 1.3).unwrap();
        let f = Function::Inverse { window, scale: 1.0 };
        let found = cheapest(&f, 1e-4).unwrap();
        assert!(found.error <= 1e-4 / TIGHTER);
        assert!(fit(&f, found.degree() - 1).unwrap().error > 1e-4 / TIGHTER);
    }

    #[test]
    fn an_impossible_target_names_the_function_and_the_error() {
        let f = Function::Inverse {
            window: Window::new(1e-4, 1e4).unwrap(),
            scale: 1.0,
        };
        let text = cheapest(&f, 1e-3).unwrap_err().to_string();
        assert!(text.contains("1/x") && text.contains("255"), "{text}");
    }
}
