//! The error each operation adds at secure-128: standard deviation of one real component of a slot.
//!
//!     cargo run --release -p sotto-ckks --example noise
//!
//! Each figure compares the decryption of a result with the same function of the decrypted operands, so it holds what the operation
//! itself adds. Slots are uniform in [-1, 1]²; errors that scale with the operands are so for such slots.

use sotto_ckks::{
    Ciphertext, Complex64, Context, Encoder, Evaluator, KeyGenerator, KeyRequest, Result, SecretKey,
};
use sotto_params::{ParamSet, galois};

const LEVELS: [usize; 6] = [1, 2, 3, 8, 12, 16];

/// Slots uniform in [-1, 1]², reproducible.
fn random_slots(n: usize, seed: u64) -> Vec<Complex64> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as f64 / f64::from(1u32 << 30) - 1.0
    };
    (0..n).map(|_| Complex64::new(next(), next())).collect()
}

fn deviation(a: &[Complex64], b: impl Iterator<Item = Complex64>) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(x, y)| (x - y).norm_sqr()).sum();
    (sum / (2 * a.len()) as f64).sqrt()
}

fn main() -> Result<()> {
    let ctx = Context::new(ParamSet::secure_128())?;
    let log_n = ctx.params().log_n;
    let secret = SecretKey::generate(&ctx)?;
    let encoder = Encoder::new(&ctx);
    let generator = KeyGenerator::new(&secret);
    let mut request = KeyRequest::default();
    request.add_relinearization(16);
    request.add_galois(galois::rotation(1, log_n), 16);
    let keys = generator.evaluation_keys(&request, |_, _| ())?;
    let public = generator.public_key(16)?;
    let e = Evaluator::new(&ctx, &keys);
    let open =
        |ct: &Ciphertext| -> Result<Vec<Complex64>> { Ok(encoder.decode(&secret.decrypt(ct)?)) };
    let (x, y) = (random_slots(ctx.slots(), 1), random_slots(ctx.slots(), 2));

    println!(
        "log2 of the standard deviation of the error in one real component of a slot; {}",
        ctx.params().name
    );
    print!("{:28}", "level");
    LEVELS.iter().for_each(|l| print!("{l:9}"));
    print!("\n{:28}", "log2 scale");
    LEVELS
        .iter()
        .for_each(|&l| print!("{:9.2}", ctx.params().scale(l).log2()));
    let mut rows: Vec<(&str, Vec<f64>)> = Vec::new();
    for level in LEVELS {
        let mut column: Vec<(&str, f64)> = Vec::new();
        let (px, py) = (encoder.encode(&x, level, 1)?, encoder.encode(&y, level, 1)?);
        column.push(("encode", deviation(&encoder.decode(&px), x.iter().copied())));
        let (cx, cy) = (secret.encrypt(&px)?, secret.encrypt(&py)?);
        let (dx, dy) = (open(&cx)?, open(&cy)?);
        column.push((
            "encode + encrypt, secret key",
            deviation(&dx, x.iter().copied()),
        ));
        column.push((
            "encode + encrypt, public key",
            deviation(&open(&public.encrypt(&px)?)?, x.iter().copied()),
        ));
        let plain = e.mul_plain(&cx, &py)?;
        column.push((
            "mul_plain (degree 2)",
            deviation(&open(&plain)?, dx.iter().zip(&y).map(|(a, b)| a * b)),
        ));
        let product = e.mul(&cx, &cy)?;
        let opened = open(&product)?;
        column.push((
            "mul (degree 2)",
            deviation(&opened, dx.iter().zip(&dy).map(|(a, b)| a * b)),
        ));
        column.push((
            "rescale",
            deviation(&open(&e.rescale(&product)?)?, opened.iter().copied()),
        ));
        column.push((
            "drop one level",
            deviation(
                &open(&e.drop_to_level(&cx, level - 1)?)?,
                dx.iter().copied(),
            ),
        ));
        let turned = dx.iter().cycle().skip(1).copied();
        column.push(("rotate", deviation(&open(&e.rotate(&cx, 1)?)?, turned)));
        for (i, (name, value)) in column.into_iter().enumerate() {
            if rows.len() <= i {
                rows.push((name, Vec::new()));
            }
            rows[i].1.push(value.log2());
        }
    }
    println!();
    for (name, values) in rows {
        print!("{name:28}");
        values.iter().for_each(|v| print!("{v:9.2}"));
        println!();
    }
    Ok(())
}
