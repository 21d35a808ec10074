//! The parameters meant for use: a few operations at secure-128, with the noise theory predicts.

mod common;

use common::*;
use sotto_ckks::{Evaluator, KeyGenerator};
use sotto_params::ParamSet;

/// Whether a standard deviation is within 20 % of a prediction.
fn close(measured: f64, predicted: f64) -> bool {
    (measured / predicted - 1.0).abs() < 0.2
}

#[test]
fn products_and_rotations_have_the_predicted_noise() {
    let level = 3;
    let b = Bench::new(ParamSet::secure_128(), level, &[1000]);
    let e = Evaluator::new(&b.ctx, &b.keys);
    let n = b.ctx.params().n() as f64;
    // A coefficient error of deviation d has deviation d·sqrt(N/2) in each component of a slot.
    let in_slots = |coefficient: f64, level: usize| {
        coefficient * (n / 2.0).sqrt() / b.ctx.params().scale(level)
    };
    // Rounding both components: sqrt((1 + 2N/3)/12), since two thirds of the secret's coefficients are ±1.
    let rounding = ((1.0 + 2.0 * n / 3.0) / 12.0).sqrt();

    let (x, y) = (
        random_slots(b.ctx.slots(), 1),
        random_slots(b.ctx.slots(), 2),
    );
    let (cx, cy) = (b.encrypt(&x, level), b.encrypt(&y, level));
    let (dx, dy) = (b.decrypt(&cx), b.decrypt(&cy));
    let fresh = std_error(&dx, &x);
    assert!(
        close(fresh, in_slots(b.ctx.params().error_std, level)),
        "fresh: 2^{}",
        fresh.log2()
    );

    let public = KeyGenerator::new(&b.secret).public_key(level).unwrap();
    let plain = b.encoder.encode(&x, level, 1).unwrap();
    let fresh = std_error(&b.decrypt(&public.encrypt(&plain).unwrap()), &x);
    assert!(
        close(fresh, in_slots(rounding, level)),
        "public key: 2^{}",
        fresh.log2()
    );

    let product = e.rescale(&e.mul(&cx, &cy).unwrap()).unwrap();
    let error = std_error(&b.decrypt(&product), &zip_with(&dx, &dy, |a, b| a * b));
    assert!(
        close(error, in_slots(rounding, level - 1)),
        "rescaled product: 2^{}",
        error.log2()
    );

    let turned = e.rotate(&cx, 1000).unwrap();
    let error = std_error(&b.decrypt(&turned), &rotated(&dx, 1000));
    assert!(
        close(error, in_slots(rounding, level)),
        "rotation: 2^{}",
        error.log2()
    );
    assert!(max_error(&b.decrypt(&turned), &rotated(&x, 1000)) < 2f64.powi(-22));
}
