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

/// Degrees offered: each is the largest that its number of levels allows.
pub const DEGREES: [usize; 7] = [3, 7, 15, 31, 63, 127, 255];

/// Levels that a polynomial of `degree` consumes, ⌈log2(degree + 1)⌉.
pub fn levels(degree: usize) -> u32 {
    usize::BITS - degree.leading_zeros()
}

/// The fit of least degree among [`DEGREES`] whose weighted error is at most `target`, or the error that the largest degree
/// leaves.
pub fn cheapest(function: &Function, target: f64) -> Result<Fit, FitError> {
    let mut last = None;
    for degree in DEGREES {
        let found = fit(function, degree)?;
        if found.error <= target {
            return Ok(found);
        }
        last = Some(found.error);
    }
    Err(FitError::Target {
        function: function.name().into(),
        window: function.window(),
        error: last.unwrap_or(f64::INFINITY),
        target,
        degree: DEGREES[DEGREES.len() - 1],
    })
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
        let degree = |hi| {
            let f = Function::Inverse {
                window: Window::new(1.0, hi).unwrap(),
                scale: 1.0,
            };
            cheapest(&f, 1e-3).unwrap().degree()
        };
        assert_eq!(degree(3.0), 7);
        assert_eq!(degree(10.0), 15);
        assert_eq!(degree(60.0), 31);
        assert_eq!(degree(200.0), 63);
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
