//! Measures a cost table for the compiler: seconds of the scheme's operations at several levels, and of bootstraps, at secure-128.
//!
//!     cargo run --release -p sotto-tests --example cost_table -- NAME > compiler/src/cost/default.ron
//!
//! Needs about 10 GiB and a quarter of an hour. Figures are processor time of all threads divided by the threads, which a busy
//! machine disturbs less than elapsed time does.

use sotto_ckks::linear::LinearTransform;
use sotto_ckks::{
    Bootstrapper, Ciphertext, Complex64, Context, Encoder, EvaluationKeys, Evaluator, KeyGenerator,
    KeyRequest, SecretKey,
};
use sotto_compiler::cost::{BootstrapPrice, CostTable, Curve, OpClass};
use sotto_ir::params::bootstrap::{BootstrapSpec, Bsgs};
use sotto_ir::params::{ParamSet, galois};
use sotto_ir::slot::BootstrapKind;
use std::collections::BTreeMap;
use std::hint::black_box;

type Failure = Box<dyn std::error::Error>;

/// Levels measured: around the step from one key-switching digit to two (7 to 8), and both ends.
const LEVELS: [usize; 6] = [1, 4, 7, 8, 12, 16];
const ROUNDS: usize = 9;
/// Threads of a parallel section wait for each other; this part of their time is work.
const EFFICIENCY: f64 = 0.9;
/// Period of the matrices measured.
const PERIOD: usize = 128;
/// Slot counts of the bootstraps measured, and whether complex ones are, too.
const BOOTSTRAPS: [(usize, bool); 4] = [(1, false), (128, true), (2048, false), (32768, true)];
/// (diagonals, babies) of the matrices whose times give the pieces of a linear transform.
const SHAPES: [(usize, usize); 4] = [(2, 2), (8, 8), (16, 2), (64, 8)];

/// Seconds all threads of this process have run, as the Linux scheduler counts them.
fn processor_seconds() -> Result<f64, Failure> {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        total += text.split(' ').next().unwrap_or("").parse::<u64>()?;
    }
    Ok(total as f64 / 1e9)
}

struct Bench<'a> {
    ctx: &'a Context,
    encoder: Encoder,
    secret: &'a SecretKey,
    threads: u32,
}

impl Bench<'_> {
    /// Median seconds of `case`, on all threads.
    fn time(
        &self,
        rounds: usize,
        case: impl Fn() -> sotto_ckks::Result<()>,
    ) -> Result<f64, Failure> {
        case()?;
        let mut times = Vec::new();
        for _ in 0..rounds {
            let before = processor_seconds()?;
            case()?;
            times.push(processor_seconds()? - before);
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2] / f64::from(self.threads) / EFFICIENCY)
    }

    fn ciphertext(&self, slots: &[Complex64], level: usize) -> sotto_ckks::Result<Ciphertext> {
        self.secret.encrypt(&self.encoder.encode(slots, level, 1)?)
    }

    /// Curves of all classes.
    fn ops(&self) -> Result<BTreeMap<OpClass, Curve>, Failure> {
        let params = self.ctx.params();
        let mut request = KeyRequest::default();
        let top = params.top_app_level();
        request.add_relinearization(top);
        for step in rotations() {
            request.add_galois(galois::rotation(step, params.log_n), top);
        }
        let keys = self.keys(&request)?;
        let ev = Evaluator::new(self.ctx, &keys);
        let mut ops: BTreeMap<OpClass, Curve> = BTreeMap::new();
        for level in LEVELS {
            eprintln!("level {level}");
            for (class, seconds) in self.level(&ev, level)? {
                let curve = ops.entry(class).or_insert_with(|| Curve(Vec::new()));
                curve.0.push((level as u32, seconds));
            }
        }
        Ok(ops
            .into_iter()
            .map(|(class, curve)| (class, rising(curve)))
            .collect())
    }

    /// Bootstraps one slot count after the other, so that only one's keys are in memory.
    fn bootstraps(&self) -> Result<Vec<BootstrapPrice>, Failure> {
        let params = self.ctx.params();
        let mut prices = Vec::new();
        for (slots, both) in BOOTSTRAPS {
            let kinds: &[bool] = if both { &[false, true] } else { &[false] };
            let spec = |&complex: &bool| BootstrapSpec::new(params, slots, complex);
            let specs: Vec<BootstrapSpec> = kinds.iter().map(spec).collect::<Result<_, _>>()?;
            let mut request = KeyRequest::default();
            specs
                .iter()
                .for_each(|s| request.add_bootstrap(s, params.log_n));
            let keys = self.keys(&request)?;
            let ev = Evaluator::new(self.ctx, &keys);
            for spec in &specs {
                eprintln!("bootstrap of {slots} slots, complex {}", spec.complex);
                prices.push(BootstrapPrice {
                    kind: BootstrapKind {
                        slots: slots as u32,
                        complex: spec.complex,
                    },
                    seconds: rounded(self.bootstrap(&ev, spec)?),
                });
            }
        }
        Ok(prices)
    }

    fn keys(&self, request: &KeyRequest) -> sotto_ckks::Result<EvaluationKeys> {
        eprintln!("generating {} keys", request.kinds().len());
        KeyGenerator::new(self.secret).evaluation_keys(request, |_, _| ())
    }

    fn level(&self, ev: &Evaluator<'_>, level: usize) -> Result<Vec<(OpClass, f64)>, Failure> {
        let slots = values(self.ctx.slots());
        let plain = self.encoder.encode(&slots, level, 1)?;
        let ct = self.secret.encrypt(&plain)?;
        let product = ev.mul(&ct, &ct)?;
        let run = |case: &dyn Fn() -> sotto_ckks::Result<Ciphertext>| {
            self.time(ROUNDS, || black_box(case()).map(drop))
        };
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
        let encode = || black_box(self.encoder.encode(&slots, level, 1)).map(drop);
        found.push((OpClass::Encode, self.time(ROUNDS, encode)?));
        found.extend(self.linear(ev, level)?);
        Ok(found)
    }

    /// base + (babies - 1)·hoisted + diagonals·product + (giants - 1)·giant, solved from four shapes.
    fn linear(&self, ev: &Evaluator<'_>, level: usize) -> Result<Vec<(OpClass, f64)>, Failure> {
        let ct = self.ciphertext(&values(PERIOD), level)?;
        let mut times = Vec::new();
        for (diagonals, babies) in SHAPES {
            let bsgs = Bsgs::regular(PERIOD, 1, 0, diagonals as i64 - 1, babies);
            let entries = bsgs
                .diagonals()
                .into_iter()
                .map(|d| (d, values(PERIOD)))
                .collect();
            let matrix = LinearTransform::new(self.ctx, &bsgs, &entries, level)?;
            times.push(self.time(ROUNDS, || black_box(matrix.apply(ev, &ct)).map(drop))?);
        }
        let floor = 1e-6;
        let product = ((times[3] - times[1] - (times[2] - times[0])) / 42.0).max(floor);
        let giant = ((times[2] - times[0] - 14.0 * product) / 7.0).max(floor);
        let hoisted = ((times[1] - times[0] - 6.0 * product) / 6.0).max(floor);
        let base = (times[0] - hoisted - 2.0 * product).max(floor);
        Ok(vec![
            (OpClass::LinearBase, base),
            (OpClass::HoistedRotation, hoisted),
            (OpClass::DiagonalProduct, product),
            (OpClass::GiantStep, giant),
        ])
    }

    fn bootstrap(&self, ev: &Evaluator<'_>, spec: &BootstrapSpec) -> Result<f64, Failure> {
        let bootstrapper = Bootstrapper::new(self.ctx, spec)?;
        let mut slots = values(spec.slots);
        if !spec.complex {
            slots.iter_mut().for_each(|z| z.im = 0.0);
        }
        let ct = self.ciphertext(&slots, spec.input_level)?;
        self.time(2, || black_box(bootstrapper.apply(ev, &ct)).map(drop))
    }
}

fn values(n: usize) -> Vec<Complex64> {
    (0..n)
        .map(|i| Complex64::new((i as f64).sin(), (i as f64 * 0.7).cos()) * 0.5)
        .collect()
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

/// The closest curve that does not fall: neighbours that do are replaced by their mean (pool adjacent violators). Working at a
/// lower level never costs more, and placement relies on it.
fn rising(Curve(points): Curve) -> Curve {
    // (sum, count) of each pool.
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (_, seconds) in &points {
        pools.push((*seconds, 1));
        while let [.., a, b] = pools[..]
            && a.0 / a.1 as f64 > b.0 / b.1 as f64
        {
            pools.truncate(pools.len() - 2);
            pools.push((a.0 + b.0, a.1 + b.1));
        }
    }
    let means = pools
        .into_iter()
        .flat_map(|(sum, n)| std::iter::repeat_n(sum / n as f64, n));
    Curve(
        points
            .iter()
            .zip(means)
            .map(|((level, _), mean)| (*level, rounded(mean)))
            .collect(),
    )
}

/// A microsecond grid: tables are read by people too.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e6).ceil() / 1e6
}

fn main() -> Result<(), Failure> {
    let name = std::env::args()
        .nth(1)
        .ok_or("give the table a name: machine and threads")?;
    let ctx = Context::new(ParamSet::secure_128())?;
    let secret = SecretKey::generate(&ctx)?;
    let bench = Bench {
        encoder: Encoder::new(&ctx),
        ctx: &ctx,
        secret: &secret,
        threads: rayon::current_num_threads() as u32,
    };
    let ops = bench.ops()?;
    let bootstraps = bench.bootstraps()?;
    let threads = bench.threads;
    let table = CostTable {
        name,
        origin: format!(
            "cargo run --release -p sotto-tests --example cost_table: medians of processor time at {}, by {threads} threads at {:.0} %",
            ctx.params().name,
            EFFICIENCY * 100.0
        ),
        log_n: ctx.params().log_n,
        threads,
        ops,
        bootstraps,
    };
    print!("{}", table.print()?);
    Ok(())
}
