//! Weighted minimax polynomials by Remez exchange.
//!
//! Solves f(t_j) - p(t_j) = (-1)^j E·u(t_j) on a reference of degree + 2 points, u being what errors are measured in, then
//! moves the reference to the extrema of (f - p)/u, until the largest extremum is within a percent of E. Extrema are taken
//! from a grid that is dense towards the ends as Chebyshev nodes are; 1 % of an error bound is far below what matters.

use super::function::{Function, Window};
use super::series::eval;
use miette::Diagnostic;
use std::f64::consts::PI;

/// Grid points per reference point.
const DENSITY: usize = 24;
/// Exchanges before giving up on the last percent; smooth functions need fewer than ten.
const EXCHANGES: usize = 60;
/// Relative gap between the reference's error and the largest error at which the fit is called minimax.
const CLOSE: f64 = 0.01;

/// A Chebyshev series and how far it is from its function.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// What it stands for.
    pub function: Function,
    /// c_0 … c_degree.
    pub coefficients: Vec<f64>,
    /// Largest |f - p| / unit over the window.
    pub error: f64,
    /// Largest |f - p| over the window.
    pub absolute: f64,
    /// Largest |p| over the window.
    pub range: f64,
}

impl Fit {
    /// Degree of the series.
    pub fn degree(&self) -> usize {
        self.coefficients.len() - 1
    }
}

/// Why no polynomial was found.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Diagnostic)]
pub enum FitError {
    /// The window holds points where the function has no value.
    #[error("{function} on {window}: {cause}; calibrate on more data or narrow the margin")]
    #[diagnostic(code(approx::undefined))]
    Undefined {
        /// Function.
        function: String,
        /// Window.
        window: Window,
        /// Why.
        cause: &'static str,
    },
    /// Even the largest degree misses the target.
    #[error(
        "{function} on {window} errs {error:.1e} at degree {degree}, more than {target:.1e}: what was calibrated spans too much for one polynomial; a smaller --margin, a larger --tolerance or calibration text without outliers may do, and if not, no program of this compiler has such a range"
    )]
    #[diagnostic(code(approx::target))]
    Target {
        /// Function.
        function: String,
        /// Window.
        window: Window,
        /// Error reached.
        error: f64,
        /// Error wanted.
        target: f64,
        /// Largest degree tried.
        degree: usize,
    },
    /// The linear system of an exchange broke down.
    #[error("{function} on {window}: the minimax system of degree {degree} is singular")]
    #[diagnostic(code(approx::singular))]
    Singular {
        /// Function.
        function: String,
        /// Window.
        window: Window,
        /// Degree.
        degree: usize,
    },
}

/// The minimax polynomial of `degree` for `function`, in the function's own error measure.
pub fn fit(function: &Function, degree: usize) -> Result<Fit, FitError> {
    if let Some(cause) = function.undefined() {
        return Err(FitError::Undefined {
            function: function.name().into(),
            window: function.window(),
            cause,
        });
    }
    let grid = Grid::new(*function, degree);
    let points = degree + 2;
    let last = grid.t.len() - 1;
    let mut reference: Vec<usize> = (0..points).map(|j| j * last / (points - 1)).collect();
    let mut best: Option<Fit> = None;
    for _ in 0..EXCHANGES {
        let Some((coefficients, level)) = solve(&grid, &reference) else {
            break;
        };
        let found = grid.measure(straightened(function, coefficients));
        let done = found.error <= level.abs() * (1.0 + CLOSE);
        let next = grid.extrema(&found.coefficients, points);
        if best.as_ref().is_none_or(|b| found.error < b.error) {
            best = Some(found);
        }
        match next {
            Some(next) if !done && next != reference => reference = next,
            _ => break,
        }
    }
    best.ok_or_else(|| FitError::Singular {
        function: function.name().into(),
        window: function.window(),
        degree,
    })
}

/// Coefficients of the mean of p(t) and of p(-t) + 2·slope·t, for a function that is slope·t and an even function: no further from it
/// than p is, and cheaper, since odd coefficients vanish.
fn straightened(function: &Function, mut coefficients: Vec<f64>) -> Vec<f64> {
    let Some(slope) = function.slope() else {
        return coefficients;
    };
    for odd in coefficients.iter_mut().skip(3).step_by(2) {
        *odd = 0.0;
    }
    if let Some(linear) = coefficients.get_mut(1) {
        *linear = slope;
    }
    while coefficients.len() > 2 && coefficients.last() == Some(&0.0) {
        coefficients.pop();
    }
    coefficients
}

/// The function on a grid of Chebyshev extrema.
struct Grid {
    function: Function,
    t: Vec<f64>,
    f: Vec<f64>,
    unit: Vec<f64>,
}

impl Grid {
    fn new(function: Function, degree: usize) -> Grid {
        let n = DENSITY * (degree + 2);
        let t: Vec<f64> = (0..=n).map(|j| -(PI * j as f64 / n as f64).cos()).collect();
        Grid {
            function,
            f: t.iter().map(|&t| function.value(t)).collect(),
            unit: t.iter().map(|&t| function.unit(t)).collect(),
            t,
        }
    }

    fn measure(&self, coefficients: Vec<f64>) -> Fit {
        let (mut error, mut absolute, mut range) = (0.0f64, 0.0f64, 0.0f64);
        for j in 0..self.t.len() {
            let p = eval(&coefficients, self.t[j]);
            let e = (self.f[j] - p).abs();
            absolute = absolute.max(e);
            error = error.max(e / self.unit[j]);
            range = range.max(p.abs());
        }
        Fit {
            function: self.function,
            coefficients,
            error,
            absolute,
            range,
        }
    }

    /// `points` alternating extrema of the weighted error with the largest one among them, or None when there are too few
    /// (the fit is exact to rounding).
    fn extrema(&self, coefficients: &[f64], points: usize) -> Option<Vec<usize>> {
        let e: Vec<f64> = (0..self.t.len())
            .map(|j| (self.f[j] - eval(coefficients, self.t[j])) / self.unit[j])
            .collect();
        // the largest point of every run of one sign
        let mut found: Vec<usize> = Vec::new();
        for j in 0..e.len() {
            match found.last_mut() {
                Some(last) if e[*last] * e[j] > 0.0 => {
                    if e[j].abs() > e[*last].abs() {
                        *last = j;
                    }
                }
                _ => found.push(j),
            }
        }
        // too many: drop the smaller end, which keeps the alternation
        while found.len() > points {
            let (first, last) = (found[0], found[found.len() - 1]);
            if e[first].abs() < e[last].abs() {
                found.remove(0);
            } else {
                found.pop();
            }
        }
        (found.len() == points).then_some(found)
    }
}

/// Coefficients and levelled error on a reference: Gaussian elimination with partial pivoting.
fn solve(grid: &Grid, reference: &[usize]) -> Option<(Vec<f64>, f64)> {
    let n = reference.len();
    let mut rows: Vec<Vec<f64>> = reference
        .iter()
        .enumerate()
        .map(|(j, &p)| {
            let mut row = chebyshev_row(grid.t[p], n - 1);
            row.push(if j % 2 == 0 {
                grid.unit[p]
            } else {
                -grid.unit[p]
            });
            row.push(grid.f[p]);
            row
        })
        .collect();
    for c in 0..n {
        let pivot = (c..n).max_by(|&a, &b| rows[a][c].abs().total_cmp(&rows[b][c].abs()))?;
        rows.swap(c, pivot);
        if rows[c][c].abs() < 1e-300 {
            return None;
        }
        let (above, below) = rows.split_at_mut(c + 1);
        let row = &above[c];
        for other in below {
            let factor = other[c] / row[c];
            for k in c..=n {
                other[k] -= factor * row[k];
            }
        }
    }
    let mut x = vec![0.0; n];
    for c in (0..n).rev() {
        let known: f64 = (c + 1..n).map(|k| rows[c][k] * x[k]).sum();
        x[c] = (rows[c][n] - known) / rows[c][c];
    }
    let level = x.pop()?;
    x.iter().all(|v| v.is_finite()).then_some((x, level))
}

/// T_0(t) … T_{count-1}(t).
fn chebyshev_row(t: f64, count: usize) -> Vec<f64> {
    let mut row = Vec::with_capacity(count + 2);
    for k in 0..count {
        row.push(match k {
            0 => 1.0,
            1 => t,
            _ => 2.0 * t * row[k - 1] - row[k - 2],
        });
    }
    row
}

#[cfg(test)]
mod tests {
    use super::super::series::interpolate;
    use super::*;
    use sotto_ir::decoder::Activation;
    use sotto_ir::params::poly::Parity;

    fn window(lo: f64, hi: f64) -> Window {
        Window::new(lo, hi).unwrap()
    }

    /// Worst weighted error on points that are not the grid's.
    fn worst(f: &Function, c: &[f64]) -> f64 {
        (0..=5000)
            .map(|j| -1.0 + j as f64 / 2500.0)
            .map(|t| ((eval(c, t) - f.value(t)) / f.unit(t)).abs())
            .fold(0.0, f64::max)
    }

    #[test]
    fn states_its_error_and_beats_interpolation() {
        let functions = [
            Function::Inverse {
                window: window(0.1, 5.0),
                scale: 2.0,
            },
            Function::InverseSqrt {
                window: window(0.2, 3.0),
                eps: 1e-5,
                scale: 0.5,
            },
            Function::Exp {
                window: window(-9.0, 1.0),
                root: 1.0,
                lowest: -3.0,
                tolerance: 1e-3,
            },
            Function::Exp {
                window: window(-9.0, 9.0),
                root: 4.0,
                lowest: 0.0,
                tolerance: 1e-3,
            },
            Function::Activation {
                which: Activation::Silu,
                window: window(-6.0, 6.0),
                scale: 1.0,
            },
            Function::Activation {
                which: Activation::GeluTanh,
                window: window(-6.0, 6.0),
                scale: 1.0,
            },
            Function::Activation {
                which: Activation::Gelu,
                window: window(-4.0, 4.0),
                scale: 3.0,
            },
            Function::Activation {
                which: Activation::Silu,
                window: window(-3.0, 7.0),
                scale: 0.1,
            },
        ];
        for f in functions {
            for degree in [7, 15, 31] {
                let fit = fit(&f, degree).unwrap();
                let seen = worst(&f, &fit.coefficients);
                assert!(
                    seen <= fit.error * 1.02 + 1e-14,
                    "{f:?} {degree}: {seen} against {}",
                    fit.error
                );
                let plain = worst(&f, &interpolate(|t| f.value(t), degree));
                assert!(
                    fit.error <= plain * 1.011 + 1e-14,
                    "{f:?} {degree}: {} against {plain}",
                    fit.error
                );
            }
        }
    }

    #[test]
    fn activations_about_zero_are_even_but_for_half_their_argument() {
        for which in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
            let f = |lo, hi| Function::Activation {
                which,
                window: window(lo, hi),
                scale: 0.25,
            };
            for degree in [15, 30, 31] {
                let about_zero = fit(&f(-8.0, 8.0), degree).unwrap().coefficients;
                assert_eq!(Parity::of(&about_zero), Parity::EvenAndLinear, "{degree}");
                assert_eq!(about_zero.len(), degree / 2 * 2 + 1);
                assert_eq!(about_zero[1], 1.0);
                let skew = fit(&f(-8.0, 7.0), degree).unwrap().coefficients;
                assert_eq!(Parity::of(&skew), Parity::Mixed, "{degree}");
            }
        }
    }

    #[test]
    fn inverse_reaches_the_known_minimax_error() {
        // relative minimax of 1/x on [lo, hi]: 1 / T_{n+1}((hi + lo) / (hi - lo))
        let f = Function::Inverse {
            window: window(1.0, 20.0),
            scale: 1.0,
        };
        let z: f64 = 21.0 / 19.0;
        for degree in [7usize, 15, 31] {
            let exact = 1.0 / (z.acosh() * (degree + 1) as f64).cosh();
            let found = fit(&f, degree).unwrap().error;
            assert!(
                (found / exact - 1.0).abs() < 0.02,
                "{degree}: {found} against {exact}"
            );
        }
    }

    #[test]
    fn a_window_that_reaches_zero_is_refused() {
        let f = Function::Inverse {
            window: window(-0.1, 1.0),
            scale: 1.0,
        };
        assert!(matches!(fit(&f, 7), Err(FitError::Undefined { .. })));
    }
}
