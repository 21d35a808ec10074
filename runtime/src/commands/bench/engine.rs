//! `sotto bench engine`: what the scheme's operations take on this machine, as the table that READMEs of such libraries print.

use super::kernels::{self, Card, KernelRow, Launches};
use super::rounds::{Timer, median, values};
use super::table::{Figure, Row, Table, page};
use crate::commands::engines::{EngineArgs, EngineName};
use crate::commands::{Failure, Meter, print};
use clap::ValueEnum;
use sotto_ckks::engine::{Cpu, Ct, Keep};
use sotto_ckks::linear::LinearTransform;
use sotto_ckks::{
    Bootstrapper, Complex64, Context, Encoder, EvaluationKeys, Evaluator, KeyGenerator, KeyRequest,
    Result, SecretKey,
};
use sotto_ir::params::ParamSet;
use sotto_ir::params::bootstrap::{BootstrapSpec, Bsgs};
use sotto_ir::params::galois;
use std::hint::black_box;
use std::time::Instant;

/// Measure what single operations and bootstraps take, with precision and memory.
///
/// Medians at secure-128, each beside the yardstick (one transform of 2^16 points, one thread), by which figures of other machines and
/// other minutes compare. Dense bootstraps need about 6 GiB. In --json, `bytes` are those of the keys: in memory for bootstraps, on
/// disk for `keygen`; of the operations, of the result. `kernels` are, on a card, what one run launches: of multiply-plain all 24
/// products, of diagonal-compact the whole matrix of 64 diagonals.
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

/// Modulus bits at which operations are measured, where the chain has them: what tables of other libraries are made at.
const LOG_Q: [f64; 2] = [1250.0, 620.0];
/// Rotations of one ciphertext that share its decomposition.
const HOISTED: [i64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
/// Pairs of operands that a cold product goes through: more than a cache holds.
const COLD: usize = 24;

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
        true => Row::value_variants().to_vec(),
        false => args.rows.clone(),
    };
    let context = Context::new(params).map_err(Failure::input)?;
    let secret = SecretKey::generate(&context).map_err(Failure::input)?;
    let table = match args.engine.backend {
        EngineName::Cpu => {
            args.engine.card.unused()?;
            table(args, &rows, Cpu::new(&context), &secret)?
        }
        EngineName::Gpu => {
            args.engine.card.without_matrices()?;
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

fn table<E: Launches>(
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
        timer: Timer::new(engine.yardstick()),
        card: Card::of(&engine, args.insecure_ring.is_some()),
        briefly: args.insecure_ring.is_some(),
        engine,
        secret,
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
    /// What its card can do, if there is one.
    card: Option<Card>,
    /// Whether this is a test, and the card a processor.
    briefly: bool,
    runs: usize,
    low_memory: bool,
}

/// What one operation took, run by run, and what one run launched.
struct Times {
    seconds: Vec<f64>,
    kernels: Vec<KernelRow>,
}

impl From<Vec<f64>> for Times {
    fn from(seconds: Vec<f64>) -> Self {
        Self {
            seconds,
            kernels: Vec::new(),
        }
    }
}

impl<E: Launches> Bench<'_, E> {
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
            card: self.card,
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

    fn figure(&self, row: Row, log_q: f64, slots: usize, times: impl Into<Times>) -> Figure {
        let Times {
            seconds: mut times,
            kernels,
        } = times.into();
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
            kernels,
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

    /// Seconds of an operation, to its end, several times; and what it launches, once more.
    fn times<T>(&self, operation: impl Fn() -> Result<T>) -> Result<Times> {
        let whole = || {
            let result = operation()?;
            self.engine.wait();
            self.engine.check()?;
            Ok(result)
        };
        let seconds = self.timer.times(self.runs, whole)?;
        let mut kernels = Vec::new();
        if let Some(card) = &self.card {
            let (done, launched) = self.engine.launches(!self.briefly, whole);
            done?;
            kernels = kernels::rows(&launched, card);
        }
        Ok(Times { seconds, kernels })
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
            Row::DiagonalCompact => square(self.ctx.slots(), true)
                .rotations()
                .into_iter()
                .for_each(|step| {
                    request.add_galois(galois::rotation(step as i64, params.log_n), level)
                }),
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
            Row::DiagonalCompact => self.diagonal(&ev, &ct, level)?,
            _ => self.times(|| Ok(ev.upload_plain(self.encoder.encode(&slots, level, 1)?)))?,
        };
        let figure = self.figure(row, params.log_q(level), self.ctx.slots(), times);
        Ok(Figure { bytes, ..figure })
    }

    /// Products of operands that were last used many operands ago.
    fn cold(&self, ev: &Evaluator<'_, E>, ct: &Ct<E>, level: usize) -> Result<Times> {
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
        let mut times = self.times(all)?;
        times.seconds.iter_mut().for_each(|t| *t /= COLD as f64);
        Ok(times)
    }

    /// What one more diagonal costs a matrix that has the same babies and giants without it.
    fn diagonal(&self, ev: &Evaluator<'_, E>, ct: &Ct<E>, level: usize) -> Result<Times> {
        let timed = |full: bool| -> Result<(Times, usize)> {
            let bsgs = square(self.ctx.slots(), full);
            let diagonals = bsgs.diagonals();
            let count = diagonals.len();
            let entries = diagonals.into_iter().map(|d| (d, values(bsgs.slots)));
            let entries = entries.collect();
            let matrix = LinearTransform::on(&self.engine, &bsgs, &entries, level, Keep::Compact)?;
            Ok((self.times(|| matrix.apply(ev, ct))?, count))
        };
        let ((mut full, many), (few, count)) = (timed(true)?, timed(false)?);
        let base = median(few.seconds);
        let share = |t: &mut f64| *t = (*t - base).max(0.0) / (many - count) as f64;
        full.seconds.iter_mut().for_each(share);
        Ok(full)
    }
}

/// A matrix of eight babies and eight giants: all 64 diagonals, or those of the first baby and of the first giant.
fn square(slots: usize, full: bool) -> Bsgs {
    let mut bsgs = Bsgs::regular(slots, 1, 0, 63, 8);
    if !full {
        for giant in bsgs.giants.iter_mut().skip(1) {
            giant.babies.truncate(1);
        }
    }
    bsgs
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

#[cfg(test)]
mod tests {
    use super::*;
    use sotto_gpu::{Gpu, Kernel};
    use sotto_gpu_host::Host;

    #[test]
    fn a_card_tells_what_it_launches_and_a_processor_does_not() {
        let context = Context::new(ParamSet::insecure_test(10)).unwrap();
        let secret = SecretKey::generate(&context).unwrap();
        let args = Args {
            threads: None,
            engine: EngineArgs::default(),
            rows: Vec::new(),
            low_memory: false,
            runs: 1,
            json: true,
            insecure_ring: Some(10),
        };
        let rows = [Row::Rotate, Row::DiagonalCompact];
        let gpu = Gpu::new(Host, &context).unwrap();
        let on_card = table(&args, &rows, gpu, &secret).unwrap();
        let json = serde_json::to_value(&on_card).unwrap();
        assert!(json["card"]["bytes_per_second"].as_f64().unwrap() > 0.0);
        let kernels = |row: usize| -> Vec<&str> {
            let kernels = json["rows"][row]["kernels"].as_array().unwrap();
            kernels
                .iter()
                .map(|k| k["kernel"].as_str().unwrap())
                .collect()
        };
        assert!(kernels(0).contains(&"key_product"), "{json}");
        assert!(
            !kernels(0).contains(&Kernel::ExpandColumns.name()),
            "{json}"
        );
        let last = json["rows"].as_array().unwrap().len() - 1;
        assert!(
            kernels(last).contains(&Kernel::ExpandColumns.name()),
            "{json}"
        );
        // which kernels take longest is the clock's to say
        let page = page(&on_card, context.params());
        for row in [0, last] {
            assert!(page.contains(kernels(row)[0]), "{page}{json}");
        }

        let on_cpu = table(&args, &rows, Cpu::new(&context), &secret).unwrap();
        let json = serde_json::to_value(&on_cpu).unwrap();
        assert!(json.get("card").is_none() && json["rows"][0].get("kernels").is_none());
    }
}
