//! Time per stage, memory and precision of bootstraps at secure-128.
//!
//!     cargo run --release -p sotto-ckks --example bootstrap -- 128:real 128:complex 32768:complex [--rounds 2]
//!
//! Keys are made once for all the bootstraps named. Dense ones (32768 slots) need about 9 GiB.

use sotto_ckks::bootstrap::StageTimes;
use sotto_ckks::{
    Bootstrapper, Complex64, Context, Encoder, Evaluator, KeyGenerator, KeyRequest, SecretKey,
};
use sotto_params::ParamSet;
use sotto_params::bootstrap::BootstrapSpec;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

/// `slots:real` or `slots:complex`.
fn parse(set: &ParamSet, text: &str) -> Result<BootstrapSpec, Failure> {
    let (slots, kind) = text
        .split_once(':')
        .ok_or("give bootstraps as slots:real or slots:complex")?;
    let complex = match kind {
        "complex" => true,
        "real" => false,
        _ => return Err(format!("`{kind}` is neither real nor complex").into()),
    };
    Ok(BootstrapSpec::new(set, slots.parse()?, complex)?)
}

/// Slots uniform in the unit square, reproducible.
fn random_slots(n: usize) -> Vec<Complex64> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..n).map(|_| Complex64::new(next(), next())).collect()
}

/// Seconds all threads of this process have run, as the Linux scheduler counts them; 0 elsewhere. On a busy machine the better guide.
fn processor_seconds() -> f64 {
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
    tasks.filter_map(run).sum::<u64>() as f64 / 1e9
}

fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|l| l.starts_with("VmHWM"))
        .unwrap_or("VmHWM: unknown");
    line.trim_start_matches("VmHWM:").trim().to_string()
}

fn show(times: &StageTimes) -> String {
    let stage =
        |(stage, time): &(_, std::time::Duration)| format!("{stage:?} {:.2}", time.as_secs_f64());
    times.iter().map(stage).collect::<Vec<_>>().join(", ")
}

fn main() -> Result<(), Failure> {
    let set = ParamSet::secure_128();
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let mut rounds = 2;
    if let Some(at) = args.iter().position(|a| a == "--rounds") {
        rounds = args
            .drain(at..)
            .nth(1)
            .ok_or("--rounds takes a number, and comes last")?
            .parse()?;
    }
    let specs: Vec<BootstrapSpec> = args
        .iter()
        .map(|text| parse(&set, text))
        .collect::<Result<_, _>>()?;
    let ctx = Context::new(set)?;
    let params = ctx.params();
    let secret = SecretKey::generate(&ctx)?;
    let mut request = KeyRequest::default();
    specs
        .iter()
        .for_each(|s| request.add_bootstrap(s, params.log_n));
    let start = Instant::now();
    let keys = KeyGenerator::new(&secret).evaluation_keys(&request, |_, _| ())?;
    let (count, gib) = (
        keys.iter().count(),
        keys.size_bytes() as f64 / f64::from(1u32 << 30),
    );
    println!(
        "{count} keys, {gib:.2} GiB, generated in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    let (encoder, ev) = (Encoder::new(&ctx), Evaluator::new(&ctx, &keys));
    for spec in &specs {
        let kind = if spec.complex { "complex" } else { "real" };
        let start = Instant::now();
        let bootstrapper = Bootstrapper::new(&ctx, spec)?;
        let (setup, mib) = (
            start.elapsed().as_secs_f64(),
            bootstrapper.size_bytes() >> 20,
        );
        let failure = spec.failure_log2_probability(params);
        println!(
            "\n{} {kind}: plaintexts {mib} MiB in {setup:.1} s, failure 2^{failure:.0}",
            spec.slots
        );
        let mut slots = random_slots(spec.slots);
        if !spec.complex {
            slots.iter_mut().for_each(|z| z.im = 0.0);
        }
        let ct = secret.encrypt(&encoder.encode(&slots, spec.input_level, 1)?)?;
        for _ in 0..rounds {
            let (start, before) = (Instant::now(), processor_seconds());
            let (out, times) = bootstrapper.apply_timed(&ev, &ct)?;
            let (elapsed, processor) =
                (start.elapsed().as_secs_f64(), processor_seconds() - before);
            println!(
                "  {elapsed:.2} s (processor {processor:.2} s): {}",
                show(&times)
            );
            report(
                params,
                spec,
                &encoder.decode(&secret.decrypt(&out)?),
                &slots,
            );
        }
    }
    println!("\npeak memory {}", peak_memory());
    Ok(())
}

/// Errors per real component: worst and mean precision in bits, and what of the error is noise and not the sine's bend.
fn report(set: &ParamSet, spec: &BootstrapSpec, got: &[Complex64], want: &[Complex64]) {
    let pairs = got.iter().zip(want.iter().cycle());
    let parts: Vec<(f64, f64)> = pairs
        .flat_map(|(g, w)| [(g.re - w.re, w.re), (g.im - w.im, w.im)])
        .enumerate()
        .filter(|(i, _)| spec.complex || i % 2 == 0)
        .map(|(_, e)| e)
        .collect();
    let count = parts.len() as f64;
    let worst = parts.iter().fold(0.0, |m: f64, (e, _)| m.max(e.abs()));
    let mean = parts.iter().map(|(e, _)| e.abs()).sum::<f64>() / count;
    let beside_sine = |(e, x): &(f64, f64)| (e + x - spec.evalmod.transfer(set, *x)).powi(2);
    let noise = (parts.iter().map(beside_sine).sum::<f64>() / count).sqrt();
    let predicted = spec.noise_std(set);
    let bits = |x: f64| -x.log2();
    println!(
        "  precision worst {:.1}, mean {:.1} bits; noise beside the sine: std 2^-{:.2}, predicted 2^-{:.2}",
        bits(worst),
        bits(mean),
        bits(noise),
        bits(predicted)
    );
}
