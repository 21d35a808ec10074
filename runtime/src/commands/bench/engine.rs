//! `sotto bench engine`: what the scheme's operations take on this machine, as the table that READMEs of such libraries print.

use super::rounds::{Timer, median, values};
use crate::commands::engines::{EngineArgs, EngineName};
use crate::commands::{Failure, Meter, print};
use crate::process::peak_memory;
use serde::Serialize;
use sotto_ckks::engine::{Cpu, Ct, Engine};
use sotto_ckks::{
    Bootstrapper, Complex64, Context, Encoder, EvaluationKeys, Evaluator, KeyGenerator, KeyRequest,
    Result, SecretKey,
};
use sotto_ir::params::ParamSet;
use sotto_ir::params::bootstrap::BootstrapSpec;
use sotto_ir::params::galois;
use std::hint::black_box;
use std::time::Instant;

/// Measure what single operations and bootstraps take, with precision and memory.
///
/// Medians at secure-128, each beside the yardstick (one transform of 2^16 points, one thread), by which figures of other machines and
/// other minutes compare. Dense bootstraps need about 6 GiB. In --json, `bytes` are those of the keys: in memory for bootstraps, on
/// disk for `keygen`; of the operations, of the result.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sotto bench engine --threads 1
  sotto bench engine --threads 2 --rows dense-bootstrap,rotate --json
  sotto bench engine --rows dense-bootstrap,keygen --low-memory")]
pub struct Args {
    /// Threads to use [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: Option<u32>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Only these rows.
    #[arg(long, value_enum, value_name = "ROWS", value_delimiter = ',')]
    rows: Vec<Row>,
    /// Bootstraps with fewer keys, for more key switches.
    #[arg(long)]
    low_memory: bool,
    /// How often everything is timed; what takes milliseconds more often.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// One line of JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Measure a small INSECURE ring with 2^LOG_N coefficients, for tests only.
    #[arg(long, value_name = "LOG_N", value_parser = clap::value_parser!(u32).range(9..=14))]
    insecure_ring: Option<u32>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Row {
    /// A bootstrap of all slots, complex.
    DenseBootstrap,
    /// A bootstrap of 4,096 complex slots.
    #[value(name = "sparse-bootstrap-4096")]
    #[serde(rename = "sparse-bootstrap-4096")]
    Sparse4096,
    /// A bootstrap of 512 complex slots.
    #[value(name = "sparse-bootstrap-512")]
    #[serde(rename = "sparse-bootstrap-512")]
    Sparse512,
    /// All keys of a dense bootstrap, and its plaintexts.
    Keygen,
    /// One rotation.
    Rotate,
    /// Eight rotations of one ciphertext.
    #[value(name = "rotate-hoisted-8")]
    #[serde(rename = "rotate-hoisted-8")]
    RotateHoisted,
    /// A product of ciphertexts, relinearised.
    Multiply,
    /// A product with a plaintext, operands not in the cache.
    MultiplyPlain,
    /// Down one level.
    Rescale,
    /// Slots to a plaintext.
    Encode,
}

impl Row {
    const ALL: [Row; 10] = [
        Row::DenseBootstrap,
        Row::Sparse4096,
        Row::Sparse512,
        Row::Keygen,
        Row::Rotate,
        Row::RotateHoisted,
        Row::Multiply,
        Row::MultiplyPlain,
        Row::Rescale,
        Row::Encode,
    ];

    /// Slots of a bootstrap, or of the keys' bootstrap, on a ring of `most`.
    fn slots(self, most: usize) -> Option<usize> {
        match self {
            Row::DenseBootstrap | Row::Keygen => Some(most),
            Row::Sparse4096 => Some(most.min(4096)),
            Row::Sparse512 => Some(most.min(512)),
            _ => None,
        }
    }

    fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.map_or(String::new(), |value| value.get_name().into())
    }
}

/// Modulus bits at which operations are measured, where the chain has them: what tables of other libraries are made at.
const LOG_Q: [f64; 2] = [1250.0, 620.0];
/// Rotations of one ciphertext that share its decomposition.
const HOISTED: [i64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
/// Pairs of operands that a cold product goes through: more than a cache holds.
const COLD: usize = 24;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
struct Figure {
    row: Row,
    log_q: f64,
    slots: usize,
    seconds_median: f64,
    seconds_min: f64,
    seconds_max: f64,
    precision_bits_mean: Option<f64>,
    precision_bits_worst: Option<f64>,
    bits_left: Option<f64>,
    bytes: u64,
}

/// The table.
#[derive(Debug, Serialize)]
struct Table {
    /// What computed.
    engine: String,
    /// Whether bootstraps have few keys.
    low_memory: bool,
    yardstick_ntt_ms: f64,
    threads: usize,
    set: String,
    rows: Vec<Figure>,
}

/// Carries the command out.
pub fn run(args: &Args) -> std::result::Result<(), Failure> {
    let params = match args.insecure_ring {
        Some(log_n) => ParamSet::insecure_test(log_n),
        None => ParamSet::secure_128(),
    };
    if let Some(threads) = args.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads as usize);
        pool.build_global().map_err(Failure::foreign)?;
    }
    let rows = match args.rows.is_empty() {
        true => Row::ALL.to_vec(),
        false => args.rows.clone(),
    };
    let context = Context::new(params).map_err(Failure::input)?;
    let secret = SecretKey::generate(&context).map_err(Failure::input)?;
    let table = match args.engine.backend {
        EngineName::Cpu => table(args, &rows, Cpu::new(&context), &secret)?,
        EngineName::Gpu => {
            let gpu = args.engine.card.open(context.params())?;
            table(args, &rows, gpu, &secret)?
        }
    };
    match args.json {
        true => {
            let line = serde_json::to_string(&table).map_err(Failure::foreign)?;
            print(format_args!("{line}\n"))
        }
        false => print(format_args!("{}", page(&table, context.params()))),
    }
}

fn table<E: Engine>(
    args: &Args,
    rows: &[Row],
    engine: E,
    secret: &SecretKey,
) -> std::result::Result<Table, Failure> {
    let meter = Meter::bar(rows.len() as u64, "measuring");
    let context = engine.context().clone();
    let bench = Bench {
        encoder: Encoder::new(&context),
        ctx: &context,
        engine,
        secret,
        timer: Timer::default(),
        runs: args.runs as usize,
        low_memory: args.low_memory,
    };
    bench.table(rows, &meter).map_err(Failure::input)
}

/// A measuring run.
struct Bench<'a, E> {
    engine: E,
    ctx: &'a Context,
    encoder: Encoder,
    secret: &'a SecretKey,
    timer: Timer,
    runs: usize,
    low_memory: bool,
}

impl<E: Engine> Bench<'_, E> {
    fn table(&self, rows: &[Row], meter: &Meter) -> Result<Table> {
        let mut figures = Vec::new();
        for (done, &row) in rows.iter().enumerate() {
            meter.set(done as u64, rows.len() as u64);
            meter.say(row.name());
            match (row, row.slots(self.ctx.slots())) {
                (Row::Keygen, Some(slots)) => figures.push(self.keygen(slots)?),
                (_, Some(slots)) => figures.push(self.bootstrap(row, slots)?),
                (_, None) => {
                    for level in self.levels() {
                        figures.push(self.operation(row, level)?);
                    }
                }
            }
        }
        Ok(Table {
            engine: self.engine.describe(),
            low_memory: self.low_memory,
            yardstick_ntt_ms: self.timer.yardstick() * 1e3,
            threads: rayon::current_num_threads(),
            set: self.ctx.params().name.clone(),
            rows: figures,
        })
    }

    /// The levels whose moduli are nearest to [`LOG_Q`].
    fn levels(&self) -> Vec<usize> {
        let params = self.ctx.params();
        let far = |level: &usize, bits: f64| (params.log_q(*level) - bits).abs();
        let nearest = LOG_Q.map(|bits| {
            let levels = 1..=params.top_level();
            levels.min_by(|a, b| far(a, bits).total_cmp(&far(b, bits)))
        });
        let mut levels: Vec<usize> = nearest.into_iter().flatten().collect();
        levels.dedup();
        levels
    }

    fn figure(&self, row: Row, log_q: f64, slots: usize, mut times: Vec<f64>) -> Figure {
        times.sort_by(f64::total_cmp);
        Figure {
            row,
            log_q,
            slots,
            seconds_median: median(times.clone()),
            seconds_min: times.first().copied().unwrap_or(0.0),
            seconds_max: times.last().copied().unwrap_or(0.0),
            precision_bits_mean: None,
            precision_bits_worst: None,
            bits_left: None,
            bytes: 0,
        }
    }

    fn request(&self, spec: &BootstrapSpec) -> KeyRequest {
        let mut request = KeyRequest::default();
        request.add_bootstrap(spec, self.ctx.params().log_n);
        request
    }

    fn spec(&self, slots: usize) -> Result<BootstrapSpec> {
        let spec = BootstrapSpec::new(self.ctx.params(), slots, true)?;
        Ok(match self.low_memory {
            true => spec.sparing(),
            false => spec,
        })
    }

    /// Keys and plaintexts of a bootstrap; once or twice is enough, of keys by the hundred.
    fn keygen(&self, slots: usize) -> Result<Figure> {
        let spec = self.spec(slots)?;
        let request = self.request(&spec);
        let mut times = Vec::new();
        for _ in 0..self.runs.min(2) {
            self.timer.look();
            let start = Instant::now();
            let keys = self.keys(&request)?;
            black_box(Bootstrapper::on(&self.engine, &spec)?);
            self.engine.wait();
            times.push(start.elapsed().as_secs_f64());
            drop(keys);
        }
        let figure = self.figure(Row::Keygen, self.ctx.params().log_qp(), slots, times);
        Ok(Figure {
            bytes: request.file_bytes(self.ctx)?,
            ..figure
        })
    }

    /// Keys where the engine computes, and their bytes.
    fn keys(&self, request: &KeyRequest) -> Result<(EvaluationKeys<E::Poly>, usize)> {
        let keys = KeyGenerator::new(self.secret).evaluation_keys(request, |_, _| ())?;
        let bytes = keys.size_bytes();
        Ok((keys.upload(&self.engine)?, bytes))
    }

    /// Seconds of an operation, to its end, several times.
    fn times<T>(&self, operation: impl Fn() -> Result<T>) -> Result<Vec<f64>> {
        self.timer.times(self.runs, || {
            let result = operation()?;
            self.engine.wait();
            self.engine.check()?;
            Ok(result)
        })
    }

    fn bootstrap(&self, row: Row, slots: usize) -> Result<Figure> {
        let (params, spec) = (self.ctx.params(), self.spec(slots)?);
        let (keys, key_bytes) = self.keys(&self.request(&spec))?;
        let ev = Evaluator::on(&self.engine, &keys);
        let bootstrapper = Bootstrapper::on(&self.engine, &spec)?;
        let wanted = unit_square(slots);
        let plain = self.encoder.encode(&wanted, spec.input_level, 1)?;
        let ct = ev.upload(self.secret.encrypt(&plain)?);
        let times = self.times(|| bootstrapper.apply(&ev, &ct))?;
        let out = ev.download(&bootstrapper.apply(&ev, &ct)?)?;
        let got = self.encoder.decode(&self.secret.decrypt(&out)?);
        let (mean, worst) = precision(&got, &wanted);
        let figure = self.figure(row, params.log_q(params.top_level()), slots, times);
        Ok(Figure {
            precision_bits_mean: Some(mean),
            precision_bits_worst: Some(worst),
            bits_left: Some(params.log_q(out.level()) - params.log_q(spec.input_level)),
            bytes: (key_bytes + bootstrapper.size_bytes()) as u64,
            ..figure
        })
    }

    fn operation(&self, row: Row, level: usize) -> Result<Figure> {
        let params = self.ctx.params();
        let mut request = KeyRequest::default();
        match row {
            Row::Multiply | Row::Rescale => request.add_relinearization(level),
            Row::Rotate | Row::RotateHoisted => HOISTED
                .iter()
                .for_each(|&step| request.add_galois(galois::rotation(step, params.log_n), level)),
            _ => {}
        }
        let (keys, _) = self.keys(&request)?;
        let ev = Evaluator::on(&self.engine, &keys);
        let slots = values(self.ctx.slots());
        let plain = self.encoder.encode(&slots, level, 1)?;
        let ct = ev.upload(self.secret.encrypt(&plain)?);
        let bytes = 2 * 4 * (params.n() * params.levels[level].primes.len()) as u64;
        let times = match row {
            Row::Rotate => self.times(|| ev.rotate(&ct, 1))?,
            Row::RotateHoisted => self.times(|| ev.rotate_many(&ct, &HOISTED))?,
            Row::Multiply => self.times(|| ev.mul(&ct, &ct))?,
            Row::Rescale => {
                let product = ev.mul(&ct, &ct)?;
                self.times(|| ev.rescale(&product))?
            }
            Row::MultiplyPlain => self.cold(&ev, &ct, level)?,
            _ => self.times(|| Ok(ev.upload_plain(self.encoder.encode(&slots, level, 1)?)))?,
        };
        let figure = self.figure(row, params.log_q(level), self.ctx.slots(), times);
        Ok(Figure { bytes, ..figure })
    }

    /// Products of operands that were last used many operands ago.
    fn cold(&self, ev: &Evaluator<'_, E>, ct: &Ct<E>, level: usize) -> Result<Vec<f64>> {
        let slots = values(self.ctx.slots());
        let plain = |_| Ok(ev.upload_plain(self.encoder.encode(&slots, level, 1)?));
        let plains = (0..COLD).map(plain).collect::<Result<Vec<_>>>()?;
        // copies of their own: an engine may share what nobody writes to
        let ct = ev.download(ct)?;
        let cts: Vec<Ct<E>> = (0..COLD).map(|_| ev.upload(ct.clone())).collect();
        let all = || {
            let mut products = cts.iter().zip(&plains);
            products.try_for_each(|(ct, plain)| ev.mul_plain(ct, plain).map(drop))
        };
        let times = self.times(all)?;
        Ok(times.into_iter().map(|t| t / COLD as f64).collect())
    }
}

/// Slots uniform in the unit square, always the same.
fn unit_square(n: usize) -> Vec<Complex64> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..n).map(|_| Complex64::new(next(), next())).collect()
}

/// Bits of precision over real and imaginary parts: of the mean error, and of the worst.
fn precision(got: &[Complex64], wanted: &[Complex64]) -> (f64, f64) {
    let parts = |(g, w): (&Complex64, &Complex64)| [(g.re - w.re).abs(), (g.im - w.im).abs()];
    let errors: Vec<f64> = got.iter().zip(wanted).flat_map(parts).collect();
    let mean = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
    let worst = errors.iter().fold(0.0, |m: f64, e| m.max(*e));
    (-mean.log2(), -worst.log2())
}

/// The table for people.
fn page(table: &Table, params: &ParamSet) -> String {
    let mut page = format!(
        "{} on {}: N = 2^{}, log QP = {:.0}, {} levels for programs, {} threads, yardstick {:.4} ms\n{:<24} {:>6} {:>6} {:>10} {:>10} {:>10}  {:>9} {:>6} {:>9} {:>9}\n",
        table.set,
        match table.low_memory {
            true => format!("{}, few keys", table.engine),
            false => table.engine.clone(),
        },
        params.log_n,
        params.log_qp(),
        params.top_app_level(),
        table.threads,
        table.yardstick_ntt_ms,
        "",
        "log Q",
        "slots",
        "median ms",
        "min",
        "max",
        "mean bits",
        "worst",
        "bits left",
        "MiB"
    );
    for f in &table.rows {
        let ms = |seconds: f64| format!("{:.3}", seconds * 1e3);
        let bits = |bits: Option<f64>| bits.map_or(String::new(), |bits| format!("{bits:.1}"));
        page += &format!(
            "{:<24} {:>6.0} {:>6} {:>10} {:>10} {:>10}  {:>9} {:>6} {:>9} {:>9.1}\n",
            f.row.name(),
            f.log_q,
            f.slots,
            ms(f.seconds_median),
            ms(f.seconds_min),
            ms(f.seconds_max),
            bits(f.precision_bits_mean),
            bits(f.precision_bits_worst),
            bits(f.bits_left),
            f.bytes as f64 / f64::from(1 << 20)
        );
    }
    if let Some(bytes) = peak_memory(std::process::id()) {
        page += &format!(
            "peak memory {:.2} GiB\n",
            bytes as f64 / f64::from(1u32 << 30)
        );
    }
    page
}
