//! Every operation against float64 on INSECURE test rings.

mod common;

use common::*;
use sotto_ckks::{CkksError, Complex64, Evaluator, KeyGenerator};
use sotto_params::ParamSet;

/// Far above the noise of the test rings (about 2^-29 after a product), far below any wrong result.
const TOLERANCE: f64 = 1e-6;

fn bench(log_n: u32, level: usize) -> Bench {
    Bench::new(ParamSet::insecure_test(log_n), level, &[1, 5, -3, 100])
}

#[test]
fn encode_decode() {
    let b = bench(11, 0);
    for len in [1, 2, 64, 1024] {
        let slots = random_slots(len, 1);
        for level in [0, 2, 16, 27] {
            let plain = b.encoder.encode(&slots, level, 1).unwrap();
            let all = b.encoder.decode(&plain);
            let periodic: Vec<Complex64> = slots.iter().copied().cycle().take(1024).collect();
            assert!(
                max_error(&all, &periodic) < 1e-9,
                "{len} slots at level {level}"
            );
            assert!(max_error(&b.encoder.decode_periodic(&plain, len).unwrap(), &slots) < 1e-9);
        }
        let wide = b.encoder.encode(&slots, 2, 2).unwrap();
        assert!(max_error(&b.encoder.decode_periodic(&wide, len).unwrap(), &slots) < 1e-12);
    }
}

#[test]
fn encryption_with_either_key() {
    let b = bench(10, 0);
    let public = KeyGenerator::new(&b.secret).public_key(16).unwrap();
    let slots = random_slots(512, 2);
    for level in 0..=16 {
        let plain = b.encoder.encode(&slots, level, 1).unwrap();
        for ct in [
            b.secret.encrypt(&plain).unwrap(),
            public.encrypt(&plain).unwrap(),
        ] {
            assert!(
                max_error(&b.decrypt(&ct), &slots) < TOLERANCE,
                "level {level}"
            );
        }
    }
    let high = b.encoder.encode(&slots, 17, 1).unwrap();
    assert!(matches!(
        public.encrypt(&high),
        Err(CkksError::Level {
            level: 17,
            highest: 16,
            ..
        })
    ));
}

#[test]
fn additions() {
    let b = bench(10, 0);
    let e = Evaluator::new(&b.ctx, &b.keys);
    let (x, y) = (random_slots(512, 3), random_slots(512, 4));
    let (cx, cy) = (b.encrypt(&x, 5), b.encrypt(&y, 5));
    let py = b.encoder.encode(&y, 5, 1).unwrap();
    let sum = zip_with(&x, &y, |a, b| a + b);
    let difference = zip_with(&x, &y, |a, b| a - b);
    assert!(max_error(&b.decrypt(&e.add(&cx, &cy).unwrap()), &sum) < TOLERANCE);
    assert!(max_error(&b.decrypt(&e.sub(&cx, &cy).unwrap()), &difference) < TOLERANCE);
    assert!(max_error(&b.decrypt(&e.add_plain(&cx, &py).unwrap()), &sum) < TOLERANCE);
    assert!(max_error(&b.decrypt(&e.sub_plain(&cx, &py).unwrap()), &difference) < TOLERANCE);
    let negated: Vec<Complex64> = x.iter().map(|a| -a).collect();
    assert!(max_error(&b.decrypt(&e.negate(&cx)), &negated) < TOLERANCE);
    let mut acc = cx.clone();
    e.add_assign(&mut acc, &cy).unwrap();
    assert!(max_error(&b.decrypt(&acc), &sum) < TOLERANCE);
}

#[test]
fn constants() {
    let b = bench(10, 0);
    let e = Evaluator::new(&b.ctx, &b.keys);
    let x = random_slots(512, 5);
    let ct = b.encrypt(&x, 4);
    let c = Complex64::new(0.75, -1.25);
    let check = |ct: &sotto_ckks::Ciphertext, f: &dyn Fn(Complex64) -> Complex64| {
        let expected: Vec<Complex64> = x.iter().map(|&a| f(a)).collect();
        assert!(max_error(&b.decrypt(ct), &expected) < TOLERANCE);
    };
    check(&e.add_const(&ct, c).unwrap(), &|a| a + c);
    check(&e.add_const(&ct, 0.5).unwrap(), &|a| a + 0.5);
    check(&e.mul_by_i(&ct), &|a| a * Complex64::i());
    check(&e.mul_integer(&ct, 3, -2), &|a| {
        a * Complex64::new(3.0, -2.0)
    });
    let product = e.mul_const(&ct, c).unwrap();
    check(&product, &|a| a * c);
    check(&e.add_const(&product, c).unwrap(), &|a| a * c + c);
    check(&e.rescale(&product).unwrap(), &|a| a * c);
    check(
        &e.rescale(&e.mul_const(&ct, 0.0).unwrap()).unwrap(),
        &|_| Complex64::ZERO,
    );
}

#[test]
fn products_at_every_level() {
    let b = bench(10, 27);
    let e = Evaluator::new(&b.ctx, &b.keys);
    let (x, y) = (random_slots(512, 6), random_slots(512, 7));
    let product = zip_with(&x, &y, |a, b| a * b);
    for level in 1..=27 {
        let (cx, cy) = (b.encrypt(&x, level), b.encrypt(&y, level));
        let py = b.encoder.encode(&y, level, 1).unwrap();
        for ct in [e.mul(&cx, &cy).unwrap(), e.mul_plain(&cx, &py).unwrap()] {
            assert_eq!((ct.level(), ct.degree()), (level, 2));
            assert!(
                max_error(&b.decrypt(&ct), &product) < TOLERANCE,
                "level {level}"
            );
            let ct = e.rescale(&ct).unwrap();
            assert_eq!((ct.level(), ct.degree()), (level - 1, 1));
            // EvalMod's levels start from another scale: the value at level 16 reads divided by it.
            let factor = b.ctx.params().scale(level).powi(2)
                / b.ctx.params().ratio(level, level - 1)
                / b.ctx.params().scale(level - 1);
            let scaled: Vec<Complex64> = product.iter().map(|z| z * factor).collect();
            assert!(
                max_error(&b.decrypt(&ct), &scaled) < TOLERANCE * factor,
                "level {level}"
            );
        }
        let mut acc = e.mul_plain(&cx, &py).unwrap();
        e.mul_plain_add(&mut acc, &cx, &py).unwrap();
        let twice: Vec<Complex64> = product.iter().map(|z| z * 2.0).collect();
        assert!(max_error(&b.decrypt(&acc), &twice) < TOLERANCE);
    }
}

#[test]
fn a_chain_of_products_to_the_bottom() {
    let b = bench(11, 16);
    let e = Evaluator::new(&b.ctx, &b.keys);
    let mut x: Vec<Complex64> = random_slots(1024, 8).iter().map(|z| z / z.norm()).collect();
    let mut ct = b.encrypt(&x, 16);
    while ct.level() > 0 {
        ct = e.rescale(&e.square(&ct).unwrap()).unwrap();
        x.iter_mut().for_each(|z| *z = *z * *z / (*z * *z).norm());
    }
    // Errors double at each of sixteen squarings of unit numbers.
    assert!(max_error(&b.decrypt(&ct), &x) < 65536.0 * 1e-7);
}

#[test]
fn drops_keep_the_value_at_the_canonical_scale() {
    let b = bench(10, 0);
    let e = Evaluator::new(&b.ctx, &b.keys);
    let x = random_slots(512, 9);
    for from in 0..=16 {
        let ct = b.encrypt(&x, from);
        for to in 0..=from {
            let dropped = e.drop_to_level(&ct, to).unwrap();
            assert_eq!((dropped.level(), dropped.degree()), (to, 1));
            assert!(
                max_error(&b.decrypt(&dropped), &x) < TOLERANCE,
                "{from} to {to}"
            );
        }
    }
    let product = e.mul_const(&b.encrypt(&x, 9), 1.0).unwrap();
    let dropped = e.drop_to_level(&product, 4).unwrap();
    assert_eq!((dropped.level(), dropped.degree()), (4, 2));
    assert!(max_error(&b.decrypt(&dropped), &x) < TOLERANCE);
}

#[test]
fn rotations_at_every_level() {
    let b = bench(10, 27);
    let e = Evaluator::new(&b.ctx, &b.keys);
    let x = random_slots(512, 10);
    let steps = [1, 0, 5, -3, 100, 1 - 512];
    for level in 0..=27 {
        let ct = b.encrypt(&x, level);
        let hoisted = e.rotate_many(&ct, &steps).unwrap();
        for (&step, h) in steps.iter().zip(&hoisted) {
            assert!(
                max_error(&b.decrypt(h), &rotated(&x, step)) < TOLERANCE,
                "hoisted {step} at level {level}"
            );
            let single = e.rotate(&ct, step).unwrap();
            assert!(
                max_error(&b.decrypt(&single), &rotated(&x, step)) < TOLERANCE,
                "{step} at level {level}"
            );
        }
        let conjugates: Vec<Complex64> = x.iter().map(|z| z.conj()).collect();
        assert!(max_error(&b.decrypt(&e.conjugate(&ct).unwrap()), &conjugates) < TOLERANCE);
    }
}

#[test]
fn misuse_is_an_error() {
    let b = bench(10, 3);
    let e = Evaluator::new(&b.ctx, &b.keys);
    let x = random_slots(512, 11);
    let (low, high) = (b.encrypt(&x, 2), b.encrypt(&x, 3));
    assert!(matches!(
        e.add(&low, &high),
        Err(CkksError::Mismatch {
            left_level: 2,
            right_level: 3,
            ..
        })
    ));
    let product = e.mul(&low, &low).unwrap();
    assert!(matches!(
        e.mul(&product, &low),
        Err(CkksError::Degree {
            degree: 2,
            needed: 1,
            ..
        })
    ));
    assert!(matches!(
        e.rescale(&low),
        Err(CkksError::Degree {
            degree: 1,
            needed: 2,
            ..
        })
    ));
    assert!(matches!(
        e.drop_to_level(&low, 3),
        Err(CkksError::Level { .. })
    ));
    let missing = e.rotate(&low, 7).unwrap_err().to_string();
    assert!(
        missing.contains("step 7") && missing.contains("level 2"),
        "{missing}"
    );
    let above = e.rotate(&b.encrypt(&x, 4), 5).unwrap_err().to_string();
    assert!(
        above.contains("step 5") && above.contains("level 4"),
        "{above}"
    );
    assert!(matches!(
        e.add_const(&low, f64::NAN),
        Err(CkksError::Range { .. })
    ));
    assert!(matches!(
        e.mul_const(&low, 1e60),
        Err(CkksError::Range { .. })
    ));
    assert!(matches!(
        b.encoder.encode(&x[..3], 1, 1),
        Err(CkksError::Slots { len: 3, .. })
    ));
    assert!(matches!(
        b.encoder.encode_real(&[f64::INFINITY], 1, 1),
        Err(CkksError::Range { .. })
    ));
    assert!(matches!(
        b.encoder.encode_real(&[1e9], 0, 1),
        Err(CkksError::Range { .. })
    ));
    assert!(matches!(
        b.encoder.encode_real(&[1.0], 28, 1),
        Err(CkksError::Level { .. })
    ));
    let other = bench(10, 0);
    let foreign = other.encrypt(&x, 2);
    assert!(matches!(
        e.add(&low, &foreign),
        Err(CkksError::ForeignKey { .. })
    ));
    assert!(matches!(
        e.rotate(&foreign, 1),
        Err(CkksError::ForeignKey { .. })
    ));
    assert!(matches!(
        b.secret.decrypt(&foreign),
        Err(CkksError::ForeignKey { .. })
    ));
}
