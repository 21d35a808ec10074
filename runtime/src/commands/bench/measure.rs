//! Times of single operations and bootstraps, each beside the yardstick.

use crate::commands::Meter;
use sotto_ckks::engine::{Ct, Engine, Keep};
use sotto_ckks::linear::LinearTransform;
use sotto_ckks::{
    Bootstrapper, Complex64, Context, Encoder, EvaluationKeys, Evaluator, KeyGenerator, KeyRequest,
    Result, SecretKey,
};
use sotto_ir::cost::{BootstrapPrice, Curve, OpClass};
use sotto_ir::params::bootstrap::{BootstrapSpec, Bsgs};
use sotto_ir::params::galois;
use sotto_ir::slot::BootstrapKind;
use std::cell::Cell;
use std::collections::BTreeMap;

use super::rounds::{Timer, values};

/// Levels measured: around the step from one key-switching digit to two (7 to 8), and both ends.
const LEVELS: [usize; 6] = [1, 4, 7, 8, 12, 16];
const ROUNDS: usize = 9;
const BOOTSTRAP_ROUNDS: usize = 3;
/// Period of the matrices measured.
const PERIOD: usize = 128;
/// Slot counts of the bootstraps measured (as far as the ring has them), and whether complex ones are, too.
const BOOTSTRAPS: [(usize, bool); 4] = [(1, false), (128, true), (2048, false), (32768, true)];
/// (diagonals, babies) of the matrices whose times give the pieces of a linear transform.
const SHAPES: [(usize, usize); 4] = [(2, 2), (8, 8), (16, 2), (64, 8)];
/// No operation takes less, as far as a table is concerned.
const FLOOR: f64 = 1e-8;

/// Times in yardsticks.
type Classes = Vec<(OpClass, f64)>;
/// The content of a cost table: operations, bootstraps, and the yardstick's seconds.
pub(super) type Measured = (BTreeMap<OpClass, Curve>, Vec<BootstrapPrice>, f64);

/// A measuring run.
pub(super) struct Bench<'a, E> {
    engine: &'a E,
    ctx: &'a Context,
    encoder: Encoder,
    secret: &'a SecretKey,
    meter: &'a Meter,
    /// How matrices lie.
    keep: Keep,
    timer: Timer,
    /// Pieces of progress done.
    done: Cell<u64>,
}

impl<'a, E: Engine> Bench<'a, E> {
    pub(super) fn new(engine: &'a E, secret: &'a SecretKey, meter: &'a Meter, keep: Keep) -> Self {
        let ctx = engine.context();
        Self {
            encoder: Encoder::new(ctx),
            timer: Timer::new(engine.yardstick()),
            engine,
            ctx,
            secret,
            meter,
            keep,
            done: Cell::new(0),
        }
    }

    /// Measures everything.
    pub(super) fn run(&self) -> Result<Measured> {
        let ops = self.ops()?;
        let bootstraps = self.bootstraps()?;
        let yardstick = self.timer.yardstick();
        let curve = |(class, Curve(points)): (OpClass, Curve)| {
            let seconds = |(level, sticks): (u32, f64)| (level, rounded(sticks * yardstick));
            let curve = Curve(points.into_iter().map(seconds).collect());
            (class, curve.rising())
        };
        let price = |p: BootstrapPrice| BootstrapPrice {
            seconds: rounded(p.seconds * yardstick),
            ..p
        };
        Ok((
            ops.into_iter().map(curve).collect(),
            bootstraps.into_iter().map(price).collect(),
            yardstick,
        ))
    }

    fn step(&self, doing: String) {
        self.done.set(self.done.get() + 1);
        self.meter.set(
            self.done.get() - 1,
            (LEVELS.len() + BOOTSTRAPS.len()) as u64,
        );
        self.meter.say(doing);
    }

    fn ciphertext(
        &self,
        ev: &Evaluator<'_, E>,
        slots: &[Complex64],
        level: usize,
    ) -> Result<Ct<E>> {
        let plain = self.encoder.encode(slots, level, 1)?;
        Ok(ev.upload(self.secret.encrypt(&plain)?))
    }

    fn keys(&self, request: &KeyRequest) -> Result<EvaluationKeys<E::Poly>> {
        let keys = KeyGenerator::new(self.secret).evaluation_keys(request, |_, _| ())?;
        keys.upload(self.engine)
    }

    /// Yardsticks that an operation takes, to its end.
    fn sticks<T>(&self, rounds: usize, operation: impl Fn() -> Result<T>) -> Result<f64> {
        self.timer.sticks(rounds, || {
            let result = operation()?;
            self.engine.wait();
            self.engine.check()?;
            Ok(result)
        })
    }

    /// Curves of all classes, in yardsticks.
    fn ops(&self) -> Result<BTreeMap<OpClass, Curve>> {
        let params = self.ctx.params();
        let mut request = KeyRequest::default();
        let top = params.top_app_level();
        request.add_relinearization(top);
        for step in rotations() {
            request.add_galois(galois::rotation(step, params.log_n), top);
        }
        let keys = self.keys(&request)?;
        let ev = Evaluator::on(self.engine, &keys);
        let mut ops: BTreeMap<OpClass, Curve> = BTreeMap::new();
        for level in LEVELS {
            self.step(format!("level {level}"));
            for (class, sticks) in self.level(&ev, level)? {
                let curve = ops.entry(class).or_insert_with(|| Curve(Vec::new()));
                curve.0.push((level as u32, sticks));
            }
        }
        Ok(ops)
    }

    fn level(&self, ev: &Evaluator<'_, E>, level: usize) -> Result<Classes> {
        let slots = values(self.ctx.slots());
        let ct = self.ciphertext(ev, &slots, level)?;
        let plain = ev.upload_plain(self.encoder.encode(&slots, level, 1)?);
        let product = ev.mul(&ct, &ct)?;
        let run = |case: &dyn Fn() -> Result<Ct<E>>| self.sticks(ROUNDS, case);
        let mut found = vec![
            (OpClass::Add, run(&|| ev.add(&ct, &ct))?),
            (OpClass::AddPlain, run(&|| ev.add_plain(&ct, &plain))?),
            (OpClass::MulPlain, run(&|| ev.mul_plain(&ct, &plain))?),
            (OpClass::MulConst, run(&|| ev.mul_const(&ct, 0.3))?),
            (OpClass::Mul, run(&|| ev.mul(&ct, &ct))?),
            (OpClass::Rotate, run(&|| ev.rotate(&ct, 1))?),
            (OpClass::Rescale, run(&|| ev.rescale(&product))?),
            (OpClass::Drop, run(&|| ev.drop_to_level(&ct, level - 1))?),
        ];
        let encode = || Ok(ev.upload_plain(self.encoder.encode(&slots, level, 1)?));
        found.push((OpClass::Encode, self.sticks(ROUNDS, encode)?));
        found.extend(self.linear(ev, level)?);
        Ok(found)
    }

    /// base + (babies - 1)·hoisted + diagonals·product + (giants - 1)·giant, solved from four shapes.
    fn linear(&self, ev: &Evaluator<'_, E>, level: usize) -> Result<Classes> {
        let ct = self.ciphertext(ev, &values(PERIOD), level)?;
        let mut times = Vec::new();
        for (diagonals, babies) in SHAPES {
            let bsgs = Bsgs::regular(PERIOD, 1, 0, diagonals as i64 - 1, babies);
            let entries = bsgs
                .diagonals()
                .into_iter()
                .map(|d| (d, values(PERIOD)))
                .collect();
            let matrix = LinearTransform::on(self.engine, &bsgs, &entries, level, self.keep)?;
            times.push(self.sticks(ROUNDS, || matrix.apply(ev, &ct))?);
        }
        let product = ((times[3] - times[1] - (times[2] - times[0])) / 42.0).max(0.0);
        let giant = ((times[2] - times[0] - 14.0 * product) / 7.0).max(0.0);
        let hoisted = ((times[1] - times[0] - 6.0 * product) / 6.0).max(0.0);
        let base = (times[0] - hoisted - 2.0 * product).max(0.0);
        Ok(vec![
            (OpClass::LinearBase, base),
            (OpClass::HoistedRotation, hoisted),
            (OpClass::DiagonalProduct, product),
            (OpClass::GiantStep, giant),
        ])
    }

    /// Bootstraps in yardsticks, one slot count after the other, so that only one's keys are in memory.
    fn bootstraps(&self) -> Result<Vec<BootstrapPrice>> {
        let params = self.ctx.params();
        let mut prices = Vec::new();
        for (slots, both) in BOOTSTRAPS {
            if slots > self.ctx.slots() {
                continue;
            }
            let kinds: &[bool] = if both { &[false, true] } else { &[false] };
            let spec = |&complex: &bool| BootstrapSpec::new(params, slots, complex);
            let specs: Vec<BootstrapSpec> = kinds
                .iter()
                .map(spec)
                .collect::<std::result::Result<_, _>>()?;
            let mut request = KeyRequest::default();
            specs
                .iter()
                .for_each(|s| request.add_bootstrap(s, params.log_n));
            self.step(format!("bootstraps of {slots} slots"));
            let keys = self.keys(&request)?;
            let ev = Evaluator::on(self.engine, &keys);
            for spec in &specs {
                prices.push(BootstrapPrice {
                    kind: BootstrapKind {
                        slots: slots as u32,
                        complex: spec.complex,
                    },
                    seconds: self.bootstrap(&ev, spec)?,
                });
            }
        }
        Ok(prices)
    }

    fn bootstrap(&self, ev: &Evaluator<'_, E>, spec: &BootstrapSpec) -> Result<f64> {
        let bootstrapper = Bootstrapper::on(self.engine, spec)?;
        let mut slots = values(spec.slots);
        if !spec.complex {
            slots.iter_mut().for_each(|z| z.im = 0.0);
        }
        let ct = self.ciphertext(ev, &slots, spec.input_level)?;
        self.sticks(BOOTSTRAP_ROUNDS, || bootstrapper.apply(ev, &ct))
    }
}

/// Every rotation that the matrices of [`SHAPES`] and the single rotation need.
fn rotations() -> Vec<i64> {
    let shape = |&(diagonals, babies): &(usize, usize)| {
        Bsgs::regular(PERIOD, 1, 0, diagonals as i64 - 1, babies).rotations()
    };
    SHAPES
        .iter()
        .flat_map(shape)
        .map(|s| s as i64)
        .chain([1])
        .collect()
}

/// To four digits, and at least [`FLOOR`]: tables are read by people too.
fn rounded(seconds: f64) -> f64 {
    let seconds = seconds.max(FLOOR);
    let grid = 10f64.powi(seconds.log10().floor() as i32 - 3);
    let rounded = (seconds / grid).round() * grid;
    // without what is left of binary fractions
    format!("{rounded:.3e}").parse().unwrap_or(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_to_four_digits() {
        assert_eq!(rounded(0.123456), 0.1235);
        assert_eq!(rounded(1.23456e-5), 1.235e-5);
        assert_eq!(rounded(99.996), 100.0);
        assert_eq!(rounded(0.0), FLOOR);
    }
}
