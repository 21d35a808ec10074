//! Bootstrapping: a value at a low level becomes the same value at the top app level, by a [`BootstrapSpec`].
//!
//! The specification's module describes the data flow. The only keys that ever hold the ephemeral sparse secret are the pair around
//! ModRaise: to it under the level-0 modulus and a few special primes, and from it (as the message of a key of the main secret).

use crate::context::Context;
use crate::engine::{Cpu, Ct, Division, Engine, Keep, Uses};
use crate::error::{CkksError, Result};
use crate::evaluator::Evaluator;
use crate::keys::KeyKind;
use crate::linear::{LinearTransform, add_rotations};
use crate::poly::ChebyshevSeries;
use sotto_params::bootstrap::{BootstrapSpec, FactorSpec};
use std::time::{Duration, Instant};

const OP: &str = "bootstrap";

/// The stages of a bootstrap, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Slots to coefficients.
    SlotsToCoefficients,
    /// To the ephemeral secret, up to the high modulus, back to the main secret.
    ModRaise,
    /// The trace to the subring of periodic values.
    Trace,
    /// Coefficients to slots, and the split into real and imaginary parts.
    CoefficientsToSlots,
    /// The modular reduction of the parts.
    EvalMod,
}

/// Time spent per stage of one bootstrap.
pub type StageTimes = Vec<(Stage, Duration)>;

/// A bootstrap with its plaintexts encoded.
#[derive(Debug)]
pub struct Bootstrapper<E: Engine = Cpu> {
    spec: BootstrapSpec,
    stc: Vec<LinearTransform<E>>,
    cts: Vec<LinearTransform<E>>,
    cosine: ChebyshevSeries,
    shift: f64,
    amplitudes: Vec<f64>,
}

impl Bootstrapper {
    /// Encodes the transforms of a specification for the processor (see [`Self::on`]).
    ///
    /// # Errors
    /// As [`Self::on`].
    pub fn new(ctx: &Context, spec: &BootstrapSpec) -> Result<Self> {
        Self::on(&Cpu::new(ctx), spec)
    }
}

impl<E: Engine> Bootstrapper<E> {
    /// Encodes the transforms of a specification. For dense slots at the largest ring that takes seconds and gigabytes.
    ///
    /// # Errors
    /// If the specification does not belong to the context's parameter set.
    pub fn on(engine: &E, spec: &BootstrapSpec) -> Result<Self> {
        let params = engine.context().params();
        spec.check(params)?;
        let encode = |factor: &FactorSpec, gain: f64| {
            let diagonals = factor.diagonals(gain);
            LinearTransform::on(engine, &factor.bsgs, &diagonals, factor.level, Keep::Ready)
        };
        let constants = spec.evalmod.constants(params);
        let cts_gain = spec.cts_gain(params);
        Ok(Self {
            stc: spec
                .stc
                .iter()
                .map(|f| encode(f, 1.0))
                .collect::<Result<_>>()?,
            cts: spec
                .cts
                .iter()
                .map(|f| encode(f, cts_gain))
                .collect::<Result<_>>()?,
            cosine: ChebyshevSeries::with_plan(spec.evalmod.poly.clone(), &constants.coefficients)?,
            shift: constants.shift,
            amplitudes: constants.amplitudes,
            spec: spec.clone(),
        })
    }

    /// The specification.
    pub fn spec(&self) -> &BootstrapSpec {
        &self.spec
    }

    /// Bytes its plaintexts take in memory.
    pub fn size_bytes(&self) -> usize {
        self.stc
            .iter()
            .chain(&self.cts)
            .map(LinearTransform::size_bytes)
            .sum()
    }

    /// The value of `ct` at the top app level. Slots repeat with the specification's period and have real and imaginary parts in [-1, 1];
    /// a real bootstrap returns the real parts. Operands above the input level are dropped there.
    ///
    /// # Errors
    /// If the operand is of degree 2 or below the input level, or a key is missing.
    pub fn apply(&self, ev: &Evaluator<'_, E>, ct: &Ct<E>) -> Result<Ct<E>> {
        self.apply_timed(ev, ct).map(|(out, _)| out)
    }

    /// As [`Self::apply`], with the time of every stage.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_timed(&self, ev: &Evaluator<'_, E>, ct: &Ct<E>) -> Result<(Ct<E>, StageTimes)> {
        ct.check_degree(OP, 1)?;
        let lowest = self.spec.input_level;
        if ct.level < lowest {
            return Err(CkksError::BelowInput {
                level: ct.level,
                needed: lowest,
            });
        }
        let mut clock = Clock {
            since: Instant::now(),
            times: Vec::new(),
        };
        let mut value = ev.drop_to_level(ct, lowest)?;
        for factor in &self.stc {
            value = factor.apply_rescaled(ev, &value)?;
        }
        clock.lap(Stage::SlotsToCoefficients);
        value = raise(ev, &value, self.spec.raised_level)?;
        clock.lap(Stage::ModRaise);
        for group in &self.spec.trace {
            value = add_rotations(ev, &value, group)?;
        }
        clock.lap(Stage::Trace);
        for factor in &self.cts {
            value = factor.apply_rescaled(ev, &value)?;
        }
        let conjugate = ev.conjugate(&value)?;
        let real = ev.add(&value, &conjugate)?;
        let imaginary = ev.mul_by_i(&ev.sub(&conjugate, &value)?);
        clock.lap(Stage::CoefficientsToSlots);
        let parts = match self.spec.complex {
            true => vec![real, imaginary],
            false => vec![real],
        };
        let parts = ev.engine().each(parts, |part| self.reduce(ev, &part));
        let mut parts = parts.into_iter();
        let mut value = parts.next().expect("there is a real part")?;
        for imaginary in parts {
            ev.add_assign(&mut value, &ev.mul_by_i(&imaginary?))?;
        }
        clock.lap(Stage::EvalMod);
        Ok((value, clock.times))
    }

    /// EvalMod on one real part.
    fn reduce(&self, ev: &Evaluator<'_, E>, part: &Ct<E>) -> Result<Ct<E>> {
        let shifted = ev.add_const(part, self.shift)?;
        let mut value = self.cosine.evaluate(ev, &shifted)?;
        for &amplitude in &self.amplitudes {
            let mut square = ev.product(&[(&value, &value)])?;
            ev.add_constant_to_product(&mut square, -amplitude)?;
            value = ev.relinearise_rescaled(square)?;
        }
        Ok(value)
    }
}

/// ModRaise: coefficients m at level 0 become m + q_0·I at `level`, read at that level's canonical scale.
fn raise<E: Engine>(ev: &Evaluator<'_, E>, ct: &Ct<E>, level: usize) -> Result<Ct<E>> {
    ev.check_key(OP, ct)?;
    let (ctx, engine) = (ev.context(), ev.engine());
    let to = ev.key(OP, KeyKind::ToEphemeral, 0)?;
    let from = ev.key(OP, KeyKind::FromEphemeral, level)?;
    let special = ctx.ephemeral_special()?;
    let low = ev.decompose_for(&ct.c1, &special, Uses::Once);
    let wide = engine.key_product(&low, to, [Some(&ct.c0), None]);
    let (division, primes) = (Division::by(&special, &[]), ctx.level_primes(level));
    let low = engine.divide(wide.each_ref(), &division, ctx.level_primes(0), 1);
    let [u0, u1] = low.each_ref().map(|half| engine.raise(half, primes));
    let raised = ev.decompose(&u1, Uses::Once);
    let halves = ev.switched_once(&raised, from, [Some(&u0), None], level, level);
    Ok(ct.with(halves).at(level, 1))
}

struct Clock {
    since: Instant,
    times: StageTimes,
}

impl Clock {
    fn lap(&mut self, stage: Stage) {
        let now = Instant::now();
        self.times.push((stage, now - self.since));
        self.since = now;
    }
}
