//! Times of the scheme's operations at secure-128, at the top app level (log Q ≈ 690) and at the top level.
//!
//!     cargo run --release -p sotto-ckks --example ops            # one thread
//!     RAYON_NUM_THREADS=2 cargo run --release -p sotto-ckks --example ops
//!
//! Medians of elapsed and of processor time (on a busy machine the better guide; Linux only, summed over threads). All cases of a level run in turn, round after round, so that a change of the machine's speed hits all alike.

use sotto_ckks::{
    Complex64, Context, Encoder, Evaluator, KeyGenerator, KeyRequest, Result, SecretKey, Yardstick,
};
use sotto_params::{ParamSet, galois};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: usize = 9;
const HOISTED: [i64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

type Case<'a> = (&'static str, Box<dyn Fn() + Send + Sync + 'a>);

/// Nanoseconds all threads of this process have run, as the Linux scheduler counts them; 0 elsewhere.
fn processor_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let run = |dir: std::fs::DirEntry| -> Option<u64> {
        std::fs::read_to_string(dir.path().join("schedstat"))
            .ok()?
            .split(' ')
            .next()?
            .parse()
            .ok()
    };
    tasks.filter_map(run).sum()
}

/// Median milliseconds of each case, elapsed and processor.
fn measure(cases: &[Case<'_>]) -> Vec<(f64, f64)> {
    let mut times = vec![(Vec::new(), Vec::new()); cases.len()];
    for round in 0..=ROUNDS {
        for ((_, case), (elapsed, processor)) in cases.iter().zip(&mut times) {
            let (start, before) = (Instant::now(), processor_ns());
            // On a worker, which sleeps afterwards: the scheduler settles a thread's time when it stops running.
            rayon::scope(|_| case());
            // The first round warms caches and buffers.
            if round > 0 {
                elapsed.push(start.elapsed().as_secs_f64() * 1e3);
                processor.push((processor_ns() - before) as f64 / 1e6);
            }
        }
    }
    let median = |mut t: Vec<f64>| {
        t.sort_by(f64::total_cmp);
        t[t.len() / 2]
    };
    times
        .into_iter()
        .map(|(elapsed, processor)| (median(elapsed), median(processor)))
        .collect()
}

/// A hundred transforms: the scheduler's clock is coarse.
fn transform_case() -> Case<'static> {
    let yardstick = std::sync::Mutex::new(Yardstick::default());
    (
        "100 yardsticks",
        Box::new(move || {
            yardstick.lock().expect("one thread at a time").seconds(100);
        }),
    )
}

fn main() -> Result<()> {
    let ctx = Context::new(ParamSet::secure_128())?;
    let params = ctx.params();
    println!(
        "{}: N = 2^{}, log QP = {:.0}, {} special primes, {} threads",
        params.name,
        params.log_n,
        params.log_qp(),
        params.p_primes.len(),
        rayon::current_num_threads(),
    );
    let secret = SecretKey::generate(&ctx)?;
    let generator = KeyGenerator::new(&secret);
    let encoder = Encoder::new(&ctx);
    let slots: Vec<Complex64> = (0..ctx.slots())
        .map(|i| Complex64::new((i as f64).sin(), (i as f64 * 0.7).cos()))
        .collect();

    for level in [params.top_app_level(), params.top_level()] {
        let mut request = KeyRequest::default();
        request.add_relinearization(level);
        HOISTED
            .iter()
            .for_each(|&s| request.add_galois(galois::rotation(s, params.log_n), level));
        let start = Instant::now();
        let keys = generator.evaluation_keys(&request, |_, _| ())?;
        let keygen = start.elapsed().as_secs_f64() * 1e3 / request.kinds().len() as f64;
        let e = Evaluator::new(&ctx, &keys);
        let plain = encoder.encode(&slots, level, 1)?;
        let ct = secret.encrypt(&plain)?;
        let product = e.mul(&ct, &ct)?;
        let cases: Vec<Case<'_>> = vec![
            transform_case(),
            ("rotate", Box::new(|| drop(black_box(e.rotate(&ct, 1))))),
            (
                "8 hoisted rotations",
                Box::new(|| drop(black_box(e.rotate_many(&ct, &HOISTED)))),
            ),
            (
                "mul, relinearised",
                Box::new(|| drop(black_box(e.mul(&ct, &ct)))),
            ),
            (
                "mul_plain",
                Box::new(|| drop(black_box(e.mul_plain(&ct, &plain)))),
            ),
            ("add", Box::new(|| drop(black_box(e.add(&ct, &ct))))),
            ("rescale", Box::new(|| drop(black_box(e.rescale(&product))))),
            (
                "drop one level",
                Box::new(|| drop(black_box(e.drop_to_level(&ct, level - 1)))),
            ),
            (
                "encode",
                Box::new(|| drop(black_box(encoder.encode(&slots, level, 1)))),
            ),
            (
                "encrypt (secret key)",
                Box::new(|| drop(black_box(secret.encrypt(&plain)))),
            ),
            (
                "decrypt and decode",
                Box::new(|| drop(black_box(secret.decrypt(&ct).map(|p| encoder.decode(&p))))),
            ),
        ];
        let times = measure(&cases);
        let level_params = &params.levels[level].primes;
        println!(
            "\nlevel {level}: log Q = {:.0}, {} primes, {} digits; keys of {:.1} MiB, {keygen:.0} ms to generate each",
            params.log_q(level),
            level_params.len(),
            params.digits_of(level_params).len(),
            keys.size_bytes() as f64 / (1 << 20) as f64 / keys.iter().count() as f64,
        );
        println!(
            "  {:28} {:>9} {:>9}",
            "milliseconds", "elapsed", "processor"
        );
        for ((name, _), (elapsed, processor)) in cases.iter().zip(times) {
            println!("  {name:28} {elapsed:9.3} {processor:9.3}");
        }
    }
    Ok(())
}
