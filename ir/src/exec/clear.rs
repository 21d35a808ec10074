//! The cleartext backend: slot vectors in float64 under the scheme's rules.
//!
//! It needs no keys, executes the plan's own polynomials, and refuses what a real backend refuses: wrong levels and degrees,
//! bootstraps of values that do not repeat, levels that are not there. What a real backend cannot see it counts: values that
//! leave [-1, 1] on their way into a polynomial or a bootstrap ([`Clear::take_escape`]). A bootstrap bends its slots as EvalMod's sine
//! does, noise or not: that is part of what the plan computes. With a [`NoiseModel`] it adds noise per operation, from a seed.

use super::noise::Noise;
use super::noisy_poly;
use super::{Backend, Diagonals, LevelNoise, NoiseModel};
use crate::plan::Plan;
use crate::slot::{self, At, BootstrapKind, Slots};
use miette::Diagnostic;
use num_complex::Complex64;
use sotto_params::ParamSet;
use sotto_params::bootstrap::BootstrapSpec;
use sotto_params::poly::depth;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How far from exact repetition a bootstrap's input may be; noise of unequal copies lies far below.
const PERIOD_TOLERANCE: f64 = 1e-3;

/// Why the cleartext backend refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Diagnostic)]
pub enum ClearError {
    /// Level or degree of an operand is wrong.
    #[error("an operand at level {}, degree {}; {expected} is needed", found.level, found.degree)]
    #[diagnostic(code(clear::at))]
    At {
        /// Found.
        found: At,
        /// Needed, in words.
        expected: String,
    },
    /// A vector's length is not a power of two.
    #[error("{0} slots are not a power of two")]
    #[diagnostic(code(clear::length))]
    Length(usize),
    /// The parameters have no such level for programs.
    #[error("level {0} is above the top application level")]
    #[diagnostic(code(clear::level))]
    Level(u32),
    /// The plan has no such bootstrap.
    #[error("no bootstrap of {} {} slots is declared", kind.slots, if kind.complex { "complex" } else { "real" })]
    #[diagnostic(code(clear::kind))]
    Kind {
        /// Asked for.
        kind: BootstrapKind,
    },
    /// A polynomial cannot be evaluated by products.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Poly(#[from] sotto_params::poly::PolyError),
    /// A bootstrap's input does not repeat.
    #[error(
        "the input of a bootstrap of {slots} slots does not repeat: slots differ by {deviation:.3e}"
    )]
    #[diagnostic(code(clear::period))]
    Period {
        /// Slots of the kind.
        slots: u32,
        /// Largest difference.
        deviation: f64,
    },
}

/// A value of the cleartext backend.
#[derive(Clone, Debug, PartialEq)]
pub struct ClearCt {
    /// Content.
    pub slots: Slots,
    /// Level and degree.
    pub at: At,
}

/// An encoded plaintext of the cleartext backend.
#[derive(Clone, Debug)]
pub struct ClearPlain {
    slots: Slots,
    at: At,
}

/// A matrix of the cleartext backend.
#[derive(Clone, Debug)]
pub struct ClearLinear {
    diagonals: Diagonals,
    level: u32,
}

/// The cleartext backend.
#[derive(Debug)]
pub struct Clear {
    params: ParamSet,
    bootstraps: Vec<BootstrapSpec>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    noise: Option<Noise>,
    escape: Option<f64>,
}

type Done = Result<ClearCt, ClearError>;

impl Clear {
    /// A noiseless backend with the application levels of a parameter set and these bootstraps.
    pub fn new(params: ParamSet, bootstraps: Vec<BootstrapSpec>) -> Self {
        Self {
            params,
            bootstraps,
            state: Mutex::default(),
        }
    }

    /// The noiseless backend that a plan runs on.
    pub fn for_plan(plan: &Plan) -> Self {
        Self::new(plan.params.clone(), plan.bootstraps.clone())
    }

    /// The same with noise on ciphertexts of `slots` slots.
    pub fn with_noise(self, model: NoiseModel, slots: u32, seed: u64) -> Self {
        self.locked().noise = Some(Noise::new(model, slots as usize, seed));
        self
    }

    /// What the client's encryption gives.
    pub fn encrypt(&self, slots: Slots, level: u32) -> Done {
        self.level(level)?;
        let at = At { level, degree: 1 };
        let slots = self.noisy(slots, |m| m.at(level).encrypt);
        Ok(ClearCt { slots, at })
    }

    /// The largest |re| or |im| above 1 that entered a polynomial or a bootstrap since the last call.
    pub fn take_escape(&self) -> Option<f64> {
        self.locked().escape.take()
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // Both fields are whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noisy(&self, slots: Slots, std: impl Fn(&NoiseModel) -> f64) -> Slots {
        match &mut self.locked().noise {
            Some(noise) => {
                let std = std(&noise.model);
                if std > 0.0 {
                    noise.add(slots, |_| std)
                } else {
                    slots
                }
            }
            None => slots,
        }
    }

    /// Noise of an operation on a value at degree 1; at degree 2 it is far below what the next rescale adds.
    fn noisy_at(&self, slots: Slots, at: At, std: impl Fn(LevelNoise) -> f64) -> Slots {
        if at.degree == 1 {
            self.noisy(slots, |m| std(m.at(at.level)))
        } else {
            slots
        }
    }

    fn is_noisy(&self) -> bool {
        self.locked().noise.is_some()
    }

    fn domain(&self, slots: &Slots) {
        let largest = slots.max_part();
        if largest > 1.0 {
            let mut state = self.locked();
            state.escape = Some(state.escape.map_or(largest, |e| e.max(largest)));
        }
    }

    fn level(&self, level: u32) -> Result<(), ClearError> {
        if level as usize <= self.params.top_app_level() {
            Ok(())
        } else {
            Err(ClearError::Level(level))
        }
    }
}

fn need(ok: bool, found: At, expected: impl FnOnce() -> String) -> Result<(), ClearError> {
    if ok {
        return Ok(());
    }
    let expected = expected();
    Err(ClearError::At { found, expected })
}

fn need_degree(v: &ClearCt, degree: u8) -> Result<(), ClearError> {
    need(v.at.degree == degree, v.at, || format!("degree {degree}"))
}

fn need_equal(a: At, b: At) -> Result<(), ClearError> {
    need(a == b, b, || {
        format!("level {}, degree {}, as the other has,", a.level, a.degree)
    })
}

fn power_of_two(values: &[Complex64]) -> Result<Slots, ClearError> {
    Slots::new(values.to_vec()).ok_or(ClearError::Length(values.len()))
}

impl Backend for Clear {
    type Ct = ClearCt;
    type Stored = Arc<ClearCt>;
    type Plain = ClearPlain;
    type Linear = ClearLinear;
    type Error = ClearError;

    fn at(&self, ct: &ClearCt) -> At {
        ct.at
    }

    fn store(&self, ct: ClearCt, _layer: u32) -> Result<Arc<ClearCt>, ClearError> {
        Ok(Arc::new(ct))
    }

    fn load(&self, stored: &Arc<ClearCt>) -> Result<Arc<ClearCt>, ClearError> {
        Ok(stored.clone())
    }

    fn encode(&self, values: &[Complex64], at: At) -> Result<ClearPlain, ClearError> {
        self.level(at.level)?;
        let slots = self.noisy_at(power_of_two(values)?, at, |m| m.encode);
        Ok(ClearPlain { slots, at })
    }

    fn encode_linear(&self, diagonals: &Diagonals, level: u32) -> Result<ClearLinear, ClearError> {
        self.level(level)?;
        let period = diagonals.period as usize;
        let lengths = diagonals.entries.iter().map(|(_, d)| d.len());
        for length in lengths.chain([period]) {
            if length != period || !length.is_power_of_two() {
                return Err(ClearError::Length(length));
            }
        }
        let diagonals = diagonals.clone();
        Ok(ClearLinear { diagonals, level })
    }

    fn plain_bytes(&self, plain: &ClearPlain) -> usize {
        std::mem::size_of_val(plain.slots.values())
    }

    fn linear_bytes(&self, matrix: &ClearLinear) -> usize {
        let entries = matrix.diagonals.entries.iter();
        entries.map(|(_, d)| std::mem::size_of_val(&d[..])).sum()
    }

    fn add(&self, a: &ClearCt, b: &ClearCt) -> Done {
        need_equal(a.at, b.at)?;
        let slots = a.slots.zip(&b.slots, |a, b| a + b);
        Ok(ClearCt { slots, at: a.at })
    }

    fn sub(&self, a: &ClearCt, b: &ClearCt) -> Done {
        need_equal(a.at, b.at)?;
        let slots = a.slots.zip(&b.slots, |a, b| a - b);
        Ok(ClearCt { slots, at: a.at })
    }

    fn neg(&self, v: &ClearCt) -> Done {
        let slots = v.slots.map(|x| -x);
        Ok(ClearCt { slots, at: v.at })
    }

    fn mul_i(&self, v: &ClearCt) -> Done {
        let slots = v.slots.map(|x| Complex64::new(-x.im, x.re));
        Ok(ClearCt { slots, at: v.at })
    }

    fn add_plain(&self, v: &ClearCt, plain: &ClearPlain) -> Done {
        need_equal(v.at, plain.at)?;
        let slots = v.slots.zip(&plain.slots, |a, b| a + b);
        Ok(ClearCt { slots, at: v.at })
    }

    fn mul_plain(&self, v: &ClearCt, plain: &ClearPlain) -> Done {
        need_degree(v, 1)?;
        need_equal(v.at, plain.at)?;
        let at = At { degree: 2, ..v.at };
        let slots = v.slots.zip(&plain.slots, |a, b| a * b);
        Ok(ClearCt { slots, at })
    }

    fn add_const(&self, v: &ClearCt, c: f64) -> Done {
        let slots = v.slots.map(|x| x + c);
        Ok(ClearCt { slots, at: v.at })
    }

    fn mul_const(&self, v: &ClearCt, c: f64) -> Done {
        need_degree(v, 1)?;
        let at = At { degree: 2, ..v.at };
        let slots = v.slots.map(|x| x * c);
        Ok(ClearCt { slots, at })
    }

    fn mul(&self, a: &ClearCt, b: &ClearCt) -> Done {
        need_degree(a, 1)?;
        need_equal(a.at, b.at)?;
        let at = At { degree: 2, ..a.at };
        let slots = a.slots.zip(&b.slots, |a, b| a * b);
        Ok(ClearCt { slots, at })
    }

    fn rotate(&self, v: &ClearCt, by: i32) -> Done {
        let slots = self.noisy_at(v.slots.rotate(by), v.at, |m| m.key_switch);
        Ok(ClearCt { slots, at: v.at })
    }

    fn conjugate(&self, v: &ClearCt) -> Done {
        let conjugate = v.slots.map(|x| x.conj());
        let slots = self.noisy_at(conjugate, v.at, |m| m.key_switch);
        Ok(ClearCt { slots, at: v.at })
    }

    fn linear(&self, v: &ClearCt, matrix: &ClearLinear) -> Done {
        need_degree(v, 1)?;
        let level = matrix.level;
        need(v.at.level == level, v.at, || format!("level {level}"))?;
        let at = At { degree: 2, ..v.at };
        let (diagonals, stride) = (&matrix.diagonals.entries, matrix.diagonals.stride);
        let period = v.slots.period().max(matrix.diagonals.period as usize);
        let mut sum = vec![Complex64::ZERO; period];
        let mut squares = vec![0.0; matrix.diagonals.period as usize];
        for (k, diagonal) in diagonals {
            for (p, sum) in sum.iter_mut().enumerate() {
                *sum += diagonal[p & (diagonal.len() - 1)] * v.slots.at(p + (k * stride) as usize);
            }
            let norms = squares.iter_mut().zip(diagonal);
            norms.for_each(|(s, d)| *s += d.norm_sqr());
        }
        let slots = power_of_two(&sum)?;
        // Every diagonal multiplies a rotation, each with its own key switch.
        let slots = match &mut self.locked().noise {
            Some(noise) => {
                let std = noise.model.at(level).baby;
                noise.add(slots, |p| std * f64::sqrt(squares[p % squares.len()]))
            }
            None => slots,
        };
        Ok(ClearCt { slots, at })
    }

    fn apply(&self, diagonals: &[Arc<ClearCt>], v: &ClearCt, baby: u32, step: u32) -> Done {
        need_degree(v, 1)?;
        for diagonal in diagonals {
            need_equal(v.at, diagonal.at)?;
        }
        let at = At { degree: 2, ..v.at };
        let parts: Vec<Slots> = diagonals.iter().map(|d| d.slots.clone()).collect();
        let slots = slot::apply(&parts, &v.slots, baby, step);
        // as in `linear`: every diagonal multiplies a rotation with its own key switch
        let slots = match &mut self.locked().noise {
            Some(noise) => {
                let mut squares = vec![0.0; slots.period()];
                for part in &parts {
                    let norms = squares.iter_mut().enumerate();
                    norms.for_each(|(p, s)| *s += part.at(p).norm_sqr());
                }
                let std = noise.model.at(at.level).baby;
                noise.add(slots, |p| std * f64::sqrt(squares[p % squares.len()]))
            }
            None => slots,
        };
        Ok(ClearCt { slots, at })
    }

    fn poly(&self, v: &ClearCt, coefficients: &[f64]) -> Done {
        need_degree(v, 1)?;
        let depth = depth(coefficients.len().saturating_sub(1)) as u32;
        need(v.at.level >= depth, v.at, || format!("level {depth}"))?;
        self.domain(&v.slots);
        let at = At {
            level: v.at.level - depth,
            degree: 1,
        };
        let slots = if self.is_noisy() {
            let from = v.at.level;
            let mut rescale = |slots, depth: usize| {
                self.noisy(slots, |m| m.at(from.saturating_sub(depth as u32)).rescale)
            };
            noisy_poly::evaluate(&v.slots, coefficients, &mut rescale)?
        } else {
            v.slots.chebyshev(coefficients)
        };
        Ok(ClearCt { slots, at })
    }

    fn rescale(&self, v: &ClearCt) -> Done {
        need_degree(v, 2)?;
        need(v.at.level > 0, v.at, || "level 1 or more".into())?;
        let at = At {
            level: v.at.level - 1,
            degree: 1,
        };
        let slots = self.noisy_at(v.slots.clone(), at, |m| m.rescale);
        Ok(ClearCt { slots, at })
    }

    fn drop_to(&self, v: &ClearCt, level: u32) -> Done {
        need_degree(v, 1)?;
        need(v.at.level >= level, v.at, || {
            format!("level {level} or more")
        })?;
        if level == v.at.level {
            return Ok(v.clone());
        }
        let at = At { level, degree: 1 };
        let slots = self.noisy_at(v.slots.clone(), at, |m| m.rescale);
        Ok(ClearCt { slots, at })
    }

    fn bootstrap(&self, v: &ClearCt, kind: BootstrapKind) -> Done {
        let spec = self.bootstraps.iter().find(|b| kind_of(b) == kind);
        let spec = spec.ok_or(ClearError::Kind { kind })?;
        let expected = At {
            level: spec.input_level as u32,
            degree: 1,
        };
        need(v.at == expected, v.at, || {
            format!("level {}, degree 1", expected.level)
        })?;
        let slots = repeat(&v.slots, kind)?;
        self.domain(&slots);
        let bend = |x: f64| spec.evalmod.transfer(&self.params, x);
        let slots = slots.map(|x| {
            let im = if kind.complex { bend(x.im) } else { 0.0 };
            Complex64::new(bend(x.re), im)
        });
        let slots = self.noisy(slots, |m| m.bootstrap(kind));
        let at = At {
            level: spec.output_level as u32,
            degree: 1,
        };
        Ok(ClearCt { slots, at })
    }
}

fn kind_of(spec: &BootstrapSpec) -> BootstrapKind {
    BootstrapKind {
        slots: spec.slots as u32,
        complex: spec.complex,
    }
}

/// The mean of the copies of a value that repeats with period `kind.slots`, which is what the sparse route refreshes.
fn repeat(slots: &Slots, kind: BootstrapKind) -> Result<Slots, ClearError> {
    let period = kind.slots as usize;
    if slots.period() <= period || period == 0 {
        return Ok(slots.clone());
    }
    let copies = slots.period() / period;
    let mean = slots
        .fold(period as i32, copies as u32)
        .map(|x| x / copies as f64);
    let deviation = slots.zip(&mean, |a, b| a - b).max_part();
    if deviation > PERIOD_TOLERANCE {
        return Err(ClearError::Period {
            slots: kind.slots,
            deviation,
        });
    }
    Ok(mean)
}
