//! The functions that a decoder needs, each on a window, seen from t ∈ [-1, 1].

use sotto_ir::decoder::Activation;

/// An interval [lo, hi] of the function's own argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Smallest argument.
    pub lo: f64,
    /// Largest argument.
    pub hi: f64,
}

impl Window {
    /// A window, or None unless lo < hi are both finite.
    pub fn new(lo: f64, hi: f64) -> Option<Window> {
        (lo.is_finite() && hi.is_finite() && lo < hi).then_some(Window { lo, hi })
    }

    /// Middle of the window.
    pub fn mid(self) -> f64 {
        (self.lo + self.hi) / 2.0
    }

    /// Half its length.
    pub fn half(self) -> f64 {
        (self.hi - self.lo) / 2.0
    }

    /// Largest magnitude in it.
    pub fn reach(self) -> f64 {
        self.lo.abs().max(self.hi.abs())
    }

    /// The argument that t ∈ [-1, 1] stands for.
    pub fn at(self, t: f64) -> f64 {
        self.mid() + self.half() * t
    }

    /// The smallest window that holds both.
    pub fn union(self, other: Window) -> Window {
        Window {
            lo: self.lo.min(other.lo),
            hi: self.hi.max(other.hi),
        }
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = |x: f64| match x == 0.0 || (1e-3..1e6).contains(&x.abs()) {
            true => format!("{x:.4}"),
            false => format!("{x:.2e}"),
        };
        write!(f, "[{}, {}]", end(self.lo), end(self.hi))
    }
}

/// A function to approximate, its window, a factor on its value, and (implied by the function) how errors weigh.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// scale / x; relative error.
    Inverse {
        /// Where x lies; lo > 0.
        window: Window,
        /// Multiplies the value.
        scale: f64,
    },
    /// scale / √(x + eps); relative error.
    InverseSqrt {
        /// Where x lies; lo + eps > 0.
        window: Window,
        /// Added to x under the root.
        eps: f64,
        /// Multiplies the value.
        scale: f64,
    },
    /// exp(x - window.hi)^(1/root), which is to be raised to the power `root` afterwards. Errors are those of the power: relative
    /// to it where exp(x) > exp(lowest), relative to exp(lowest - window.hi) below, as in a mean of exponentials that is at
    /// least exp(lowest).
    Exp {
        /// Where x lies.
        window: Window,
        /// Power taken afterwards.
        root: f64,
        /// Logarithm of what the power is compared with.
        lowest: f64,
        /// Error of the power that is to be met.
        tolerance: f64,
    },
    /// scale · an activation; error relative to the largest |x| of the window.
    Activation {
        /// Which.
        which: Activation,
        /// Where x lies.
        window: Window,
        /// Multiplies the value.
        scale: f64,
    },
}

impl Function {
    /// For messages and dumps.
    pub fn name(&self) -> &'static str {
        match self {
            Function::Inverse { .. } => "1/x",
            Function::InverseSqrt { .. } => "1/√x",
            Function::Exp { root, .. } if *root > 1.0 => "root of exp",
            Function::Exp { .. } => "exp",
            Function::Activation { which, .. } => which.name(),
        }
    }

    /// Its window.
    pub fn window(&self) -> Window {
        match *self {
            Function::Inverse { window, .. }
            | Function::InverseSqrt { window, .. }
            | Function::Exp { window, .. }
            | Function::Activation { window, .. } => window,
        }
    }

    /// The factor on its value.
    pub fn scale(&self) -> f64 {
        match *self {
            Function::Inverse { scale, .. }
            | Function::InverseSqrt { scale, .. }
            | Function::Activation { scale, .. } => scale,
            Function::Exp { window, root, .. } => (-window.hi / root).exp(),
        }
    }

    /// Value at t ∈ [-1, 1].
    pub fn value(&self, t: f64) -> f64 {
        match *self {
            Function::Inverse { window, scale } => scale / window.at(t),
            Function::InverseSqrt { window, eps, scale } => scale / (window.at(t) + eps).sqrt(),
            Function::Exp { window, root, .. } => ((window.at(t) - window.hi) / root).exp(),
            Function::Activation {
                which,
                window,
                scale,
            } => which.scaled(scale, window.at(t)),
        }
    }

    /// What an error at t is divided by.
    pub fn unit(&self, t: f64) -> f64 {
        match *self {
            Function::Inverse { .. } | Function::InverseSqrt { .. } => self.value(t).abs(),
            // dy, over the tolerance, with which (y + dy)^root errs by the tolerance times y^root + exp(lowest - hi). Its derivative
            // instead of the power would let y be anything where y^(root - 1) vanishes. dy is concave in the tolerance, so a fit
            // that is closer than asked has a power that is closer, too
            Function::Exp {
                window,
                root,
                lowest,
                tolerance,
            } => {
                let power = tolerance * (1.0 + (lowest - window.at(t)).exp());
                self.value(t) * (power.ln_1p() / root).exp_m1() / tolerance
            }
            Function::Activation { window, scale, .. } => scale * window.reach(),
        }
    }

    /// The multiple of t that leaves an even function of t, where there is one: SiLU and both GELUs are half their argument and an
    /// even function, on a window about zero.
    pub fn slope(&self) -> Option<f64> {
        match *self {
            Function::Activation { window, scale, .. } if window.mid() == 0.0 => {
                Some(scale * window.half() / 2.0)
            }
            _ => None,
        }
    }

    /// Why the function has no value somewhere on its window, if so.
    pub fn undefined(&self) -> Option<&'static str> {
        match *self {
            Function::Inverse { window, .. } if window.lo <= 0.0 => {
                Some("the window of 1/x reaches zero or below")
            }
            Function::InverseSqrt { window, eps, .. } if window.lo + eps <= 0.0 => {
                Some("the window of 1/√x reaches zero or below")
            }
            _ => None,
        }
    }
}
