//! Two encrypted vectors, multiplied, rotated and decrypted at secure-128.
//!
//!     cargo run --release -p sotto-ckks --example vectors

use sotto_ckks::{
    Complex64, Context, Encoder, Evaluator, KeyGenerator, KeyRequest, Result, SecretKey,
};
use sotto_params::{ParamSet, galois};

/// The level of the inputs: one product, and one level left.
const LEVEL: usize = 2;
const STEP: i64 = 100;

fn report(what: &str, got: &[Complex64], expected: impl Fn(usize) -> Complex64) {
    let worst = got
        .iter()
        .enumerate()
        .map(|(j, z)| (z - expected(j)).norm())
        .fold(0.0, f64::max);
    println!(
        "{what:24} slot 0: {:.9}   largest error over {} slots: 2^{:.1}",
        got[0],
        got.len(),
        worst.log2()
    );
}

fn main() -> Result<()> {
    let ctx = Context::new(ParamSet::secure_128())?;
    let params = ctx.params();
    println!(
        "{}: N = 2^{}, log QP = {:.0}, {} slots",
        params.name,
        params.log_n,
        params.log_qp(),
        ctx.slots()
    );
    for s in params.security().secrets {
        let bound = s.bound_bits.unwrap_or(0.0);
        println!(
            "  {}: keys under {:.0} bits, bound {bound:.0} ({})",
            s.secret, s.modulus_bits, s.source
        );
    }

    let secret = SecretKey::generate(&ctx)?;
    let generator = KeyGenerator::new(&secret);
    let public = generator.public_key(LEVEL)?;
    let mut request = KeyRequest::default();
    request.add_relinearization(LEVEL);
    request.add_galois(galois::rotation(STEP, params.log_n), LEVEL - 1);
    let keys = generator.evaluation_keys(&request, |_, _| ())?;
    println!(
        "{} evaluation keys, {:.1} MiB",
        keys.iter().count(),
        keys.size_bytes() as f64 / f64::from(1 << 20)
    );

    let slots = ctx.slots();
    let wave = |frequency: f64| -> Vec<Complex64> {
        (0..slots)
            .map(|j| Complex64::from_polar(1.0, frequency * j as f64))
            .collect()
    };
    let (x, y) = (wave(0.001), wave(0.37));
    let encoder = Encoder::new(&ctx);
    let a = public.encrypt(&encoder.encode(&x, LEVEL, 1)?)?;
    let b = public.encrypt(&encoder.encode(&y, LEVEL, 1)?)?;

    let evaluator = Evaluator::new(&ctx, &keys);
    let product = evaluator.rescale(&evaluator.mul(&a, &b)?)?;
    let turned = evaluator.rotate(&product, STEP)?;

    report("x", &encoder.decode(&secret.decrypt(&a)?), |j| x[j]);
    report("x·y", &encoder.decode(&secret.decrypt(&product)?), |j| {
        x[j] * y[j]
    });
    report(
        "x·y rotated by 100",
        &encoder.decode(&secret.decrypt(&turned)?),
        |j| {
            let from = (j + STEP as usize) % slots;
            x[from] * y[from]
        },
    );
    Ok(())
}
