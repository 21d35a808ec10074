//! Bootstrapping at secure-128: precision, and levels that are really there to be used. Takes about 10 GiB of memory.

mod common;

use common::*;
use sotto_ckks::bootstrap::StageTimes;
use sotto_ckks::{
    Bootstrapper, Ciphertext, Complex64, Context, Encoder, Evaluator, KeyGenerator, KeyRequest,
    SecretKey,
};
use sotto_params::ParamSet;
use sotto_params::bootstrap::BootstrapSpec;
use std::time::Instant;

/// Bits of precision, worst and mean, over the real (and, for complex values, imaginary) parts.
fn precision(got: &[Complex64], want: &[Complex64], complex: bool) -> (f64, f64) {
    let parts = |(g, w): (&Complex64, &Complex64)| {
        let e = g - w;
        std::iter::once(e.re.abs()).chain(complex.then_some(e.im.abs()))
    };
    let errors: Vec<f64> = got.iter().zip(want).flat_map(parts).collect();
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    (
        -errors.iter().fold(0.0, |m: f64, &e| m.max(e)).log2(),
        -mean.log2(),
    )
}

/// Noise beside the sine, in units of what the specification predicts.
fn noise_ratio(set: &ParamSet, spec: &BootstrapSpec, got: &[Complex64], want: &[Complex64]) -> f64 {
    let part = |x| spec.evalmod.transfer(set, x);
    let bent: Vec<Complex64> = want
        .iter()
        .map(|z| Complex64::new(part(z.re), part(z.im)))
        .collect();
    std_error(got, &bent) / spec.noise_std(set)
}

fn print_times(title: &str, times: &StageTimes) {
    let stages: Vec<String> = times
        .iter()
        .map(|(s, t)| format!("{s:?} {:.2} s", t.as_secs_f64()))
        .collect();
    println!("{title}: {}", stages.join(", "));
}

/// Multiplies by slots of modulus one, a level a time, from the value's level down to `lowest`.
fn turn_down_to(
    bench: &Bench,
    ev: &Evaluator<'_>,
    value: &Ciphertext,
    lowest: usize,
) -> (Ciphertext, Vec<Complex64>) {
    let turns: Vec<Complex64> = (0..bench.ctx.slots())
        .map(|j| Complex64::cis((j * j % 9973) as f64 / 997.0))
        .collect();
    let turn = bench.encrypt(&turns, value.level());
    let (mut out, mut total) = (value.clone(), vec![Complex64::ONE; turns.len()]);
    while out.level() > lowest {
        out = ev
            .mul_rescaled(&out, &ev.drop_to_level(&turn, out.level()).unwrap())
            .unwrap();
        total = zip_with(&total, &turns, |a, b| a * b);
    }
    (out, total)
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes of work: run in release")]
fn dense_and_sparse_bootstraps() {
    let set = ParamSet::secure_128();
    let dense = BootstrapSpec::new(&set, 1 << 15, true).unwrap();
    let sparse = BootstrapSpec::new(&set, 128, false).unwrap();
    assert!(dense.failure_log2_probability(&set) < -55.0);
    let ctx = Context::new(set).unwrap();
    let secret = SecretKey::generate(&ctx).unwrap();
    let mut request = KeyRequest::default();
    for spec in [&dense, &sparse] {
        request.add_bootstrap(spec, 16);
    }
    let start = Instant::now();
    let keys = KeyGenerator::new(&secret)
        .evaluation_keys(&request, |_, _| ())
        .unwrap();
    println!(
        "key generation {:.1} s, {} MiB",
        start.elapsed().as_secs_f64(),
        keys.size_bytes() >> 20
    );
    let bench = Bench {
        encoder: Encoder::new(&ctx),
        ctx,
        secret,
        keys,
    };
    let ev = Evaluator::new(&bench.ctx, &bench.keys);

    let bootstrapper = Bootstrapper::new(&bench.ctx, &dense).unwrap();
    let x = random_slots(1 << 15, 11);
    let input = bench.encrypt(&x, dense.input_level);
    let (out, times) = bootstrapper.apply_timed(&ev, &input).unwrap();
    print_times("2^15 slots, complex", &times);
    let params = bench.ctx.params();
    let decrypted = bench.decrypt(&out);
    let (worst, mean) = precision(&decrypted, &x, true);
    println!("precision worst {worst:.1}, mean {mean:.1} bits");
    assert!(worst >= 14.0 && mean >= 18.0, "worst {worst}, mean {mean}");

    let noise = noise_ratio(params, &dense, &decrypted, &x);
    println!("noise beside the sine: {noise:.2} times the predicted");
    assert!(
        (0.7..1.4).contains(&noise),
        "noise {noise} times the predicted"
    );

    // Use the levels up, down to where the next bootstrap starts.
    let (low, total) = turn_down_to(&bench, &ev, &out, dense.input_level);
    let bits = params.log_q(out.level()) - params.log_q(low.level());
    let turned = zip_with(&x, &total, |a, b| a * b);
    let (worst, mean) = precision(&bench.decrypt(&low), &turned, true);
    println!(
        "{} products, {bits:.0} bits consumed: precision worst {worst:.1}, mean {mean:.1} bits",
        out.level() - low.level()
    );
    assert!(bits >= 480.0 && worst >= 14.0 && mean >= 18.0);

    // And again from there. The turned parts reach √2, where the sine bends more.
    let again = bootstrapper.apply(&ev, &low).unwrap();
    assert_eq!((again.level(), again.degree()), (out.level(), 1));
    let (worst, mean) = precision(&bench.decrypt(&again), &turned, true);
    println!("bootstrapped again: precision worst {worst:.1}, mean {mean:.1} bits");
    assert!(worst >= 14.0 && mean >= 18.0);
    drop(bootstrapper);

    let bootstrapper = Bootstrapper::new(&bench.ctx, &sparse).unwrap();
    let x: Vec<Complex64> = random_slots(128, 12).iter().map(|z| z.re.into()).collect();
    let (out, times) = bootstrapper
        .apply_timed(&ev, &bench.encrypt(&x, sparse.input_level))
        .unwrap();
    print_times("128 slots, real", &times);
    let periodic: Vec<Complex64> = x.iter().copied().cycle().take(1 << 15).collect();
    let (worst, mean) = precision(&bench.decrypt(&out), &periodic, false);
    println!("precision worst {worst:.1}, mean {mean:.1} bits");
    assert!(worst >= 14.0 && mean >= 18.0, "worst {worst}, mean {mean}");
}
