//! Linear transforms, polynomials and bootstrapping against float64, on INSECURE test rings.

mod common;

use common::*;
use sotto_ckks::{
    Bootstrapper, ChebyshevSeries, CkksError, Complex64, Context, Encoder, Evaluator, KeyGenerator,
    KeyRequest, LinearTransform, SecretKey,
};
use sotto_params::bootstrap::{BootstrapSpec, Bsgs, Giant};
use sotto_params::poly::clenshaw;
use sotto_params::{ParamSet, galois};
use std::collections::BTreeMap;

fn bench_for(log_n: u32, fill: impl Fn(&mut KeyRequest, &ParamSet)) -> Bench {
    let ctx = Context::new(ParamSet::insecure_test(log_n)).unwrap();
    let secret = SecretKey::generate(&ctx).unwrap();
    let mut request = KeyRequest::default();
    fill(&mut request, ctx.params());
    let keys = KeyGenerator::new(&secret)
        .evaluation_keys(&request, |_, _| ())
        .unwrap();
    let encoder = Encoder::new(&ctx);
    Bench {
        ctx,
        secret,
        keys,
        encoder,
    }
}

fn periodic(values: &[Complex64], slots: usize) -> Vec<Complex64> {
    values.iter().copied().cycle().take(slots).collect()
}

/// Largest and root-mean-square error of a part (real or imaginary).
fn part_errors(a: &[Complex64], b: &[Complex64]) -> (f64, f64) {
    let parts = || a.iter().zip(b).flat_map(|(x, y)| [(x - y).re, (x - y).im]);
    let worst = parts().fold(0.0, |m: f64, e| m.max(e.abs()));
    (
        worst,
        (parts().map(|e| e * e).sum::<f64>() / (2 * a.len()) as f64).sqrt(),
    )
}

/// Primes of QP at a level.
fn wide(ctx: &Context, level: usize) -> usize {
    ctx.params().levels[level].primes.len() + ctx.params().p_primes.len()
}

#[test]
fn linear_transforms() {
    // Period 4 takes the short form of the plaintexts (runs of 64 values), period 512 the full one.
    let splits = [(4, 16), (512, 9), (512, 1), (64, 27)]
        .map(|(n, level)| (Bsgs::regular(n, 1, -1, 2, 2), level));
    // diagonals that repeat within the period are kept once: 8 values for 512 slots
    let repeating = [(Bsgs::regular(512, 2, -3, 3, 4), 7)].map(|(b, level)| (b, level, 8));
    // chains in both directions, in one, of one giant, and of all diagonals there are
    let chains = [
        (Bsgs::regular(64, 1, -7, 9, 2).with_chains(), 9),
        (Bsgs::regular(512, 4, 0, 11, 4).with_chains(), 3),
        (Bsgs::regular(128, 1, -4, 3, 4).with_chains(), 5),
        (Bsgs::regular(16, 1, 0, 15, 4).with_chains(), 4),
    ];
    let whole = splits.into_iter().chain(chains);
    let whole = whole.map(|(bsgs, level)| (bsgs.clone(), level, bsgs.slots));
    for (bsgs, level, period) in whole.chain(repeating) {
        let n = bsgs.slots;
        let b = bench_for(10, |request, _| {
            for step in bsgs.rotations() {
                request.add_galois(galois::rotation(step as i64, 10), level);
            }
        });
        let ev = Evaluator::new(&b.ctx, &b.keys);
        let diagonals: BTreeMap<usize, Vec<Complex64>> = bsgs
            .diagonals()
            .into_iter()
            .map(|s| (s, periodic(&random_slots(period, s as u64), n)))
            .collect();
        let x = random_slots(n, 99);
        let want: Vec<Complex64> = (0..n)
            .map(|j| diagonals.iter().map(|(s, d)| d[j] * x[(j + s) % n]).sum())
            .collect();
        let transform = LinearTransform::new(&b.ctx, &bsgs, &diagonals, level).unwrap();
        let words = diagonals.len() * wide(&b.ctx, level) * 2 * period;
        assert_eq!(transform.size_bytes(), 4 * words, "{n} slots of {period}");
        let ct = b.encrypt(&x, level);
        let product = transform.apply(&ev, &ct).unwrap();
        assert_eq!((product.level(), product.degree()), (level, 2));
        let rescaled = transform.apply_rescaled(&ev, &ct).unwrap();
        assert_eq!((rescaled.level(), rescaled.degree()), (level - 1, 1));
        for out in [ev.rescale(&product).unwrap(), rescaled] {
            let error = max_error(&b.decrypt(&out), &periodic(&want, 512));
            assert!(error < 1e-6, "{n} slots at level {level}: {error:e}");
        }
        let low = b.encrypt(&x, level - 1);
        assert!(matches!(
            transform.apply(&ev, &low),
            Err(CkksError::Mismatch { .. })
        ));
    }
}

#[test]
fn products_with_encrypted_diagonals() {
    const SLOTS: usize = 512;
    // one giant step and several, the last one not full; babies alone; giants alone
    for (count, baby, step, level) in [(8, 4, 8i64, 12), (7, 3, 1, 5), (4, 4, 2, 1), (3, 1, -5, 27)]
    {
        let turns = |k: usize| (k as i64 * step).rem_euclid(SLOTS as i64);
        let b = bench_for(10, |request, _| {
            request.add_relinearization(level);
            let giants = (0..count).step_by(baby);
            for k in (1..baby).chain(giants.skip(1)) {
                request.add_galois(galois::rotation(turns(k), 10), level);
            }
        });
        let ev = Evaluator::new(&b.ctx, &b.keys);
        let diagonals: Vec<_> = (0..count).map(|k| random_slots(SLOTS, k as u64)).collect();
        let x = random_slots(SLOTS, 99);
        let at = |v: &[Complex64], p: usize, by: i64| v[(p + by as usize) % SLOTS];
        let term = |p, k: usize| {
            let giant = turns(k - k % baby);
            at(&diagonals[k], p, giant) * at(&x, p, giant + turns(k % baby))
        };
        let want: Vec<Complex64> = (0..SLOTS)
            .map(|p| (0..count).map(|k| term(p, k)).sum())
            .collect();
        let encrypted: Vec<_> = diagonals.iter().map(|d| b.encrypt(d, level)).collect();
        let refs: Vec<_> = encrypted.iter().collect();
        let v = b.encrypt(&x, level);
        let product = ev.apply_diagonals(&refs, &v, baby, step).unwrap();
        assert_eq!((product.level(), product.degree()), (level, 2));
        let error = max_error(&b.decrypt(&ev.rescale(&product).unwrap()), &want);
        assert!(
            error < 1e-6,
            "{count} in steps of {baby}, level {level}: {error:e}"
        );
        // what cannot be multiplied is refused
        let low = b.encrypt(&x, level - 1);
        let refused = ev.apply_diagonals(&refs, &low, baby, step);
        assert!(
            matches!(refused, Err(CkksError::Mismatch { .. })),
            "{refused:?}"
        );
        for (none, baby) in [(&refs[..0], baby), (&refs[..], 0)] {
            let refused = ev.apply_diagonals(none, &v, baby, step);
            assert!(
                matches!(refused, Err(CkksError::Diagonals { .. })),
                "{refused:?}"
            );
        }
    }
}

#[test]
fn a_linear_transform_names_the_missing_rotation() {
    let bsgs = Bsgs::regular(8, 1, 0, 3, 4);
    let b = bench_for(9, |request, _| {
        request.add_galois(galois::rotation(1, 9), 3)
    });
    let diagonals = (0..4).map(|s| (s, random_slots(8, s as u64))).collect();
    let transform = LinearTransform::new(&b.ctx, &bsgs, &diagonals, 3).unwrap();
    let error = transform
        .apply(
            &Evaluator::new(&b.ctx, &b.keys),
            &b.encrypt(&[Complex64::ONE], 3),
        )
        .unwrap_err();
    assert!(
        error.to_string().contains("rotation key for step 2"),
        "{error}"
    );
    let few = (0..3).map(|s| (s, random_slots(8, s as u64))).collect();
    assert!(matches!(
        LinearTransform::new(&b.ctx, &bsgs, &few, 3),
        Err(CkksError::Diagonals { given: 3, split: 4 })
    ));
}

#[test]
fn odd_splits_are_errors_or_right() {
    let b = bench_for(9, |_, _| ());
    let transform = |bsgs: &Bsgs, steps: &[usize]| {
        let diagonals = steps
            .iter()
            .map(|&s| (s, random_slots(8, s as u64)))
            .collect();
        LinearTransform::new(&b.ctx, bsgs, &diagonals, 3)
    };
    for slots in [0, 7, 512] {
        let bsgs = Bsgs {
            slots,
            giants: Vec::new(),
            chained: false,
        };
        assert!(matches!(
            transform(&bsgs, &[]),
            Err(CkksError::Slots { .. })
        ));
    }
    let mut bsgs = Bsgs {
        slots: 8,
        giants: Vec::new(),
        chained: false,
    };
    assert!(matches!(
        transform(&bsgs, &[]),
        Err(CkksError::Diagonals { .. })
    ));
    // A giant without babies adds nothing.
    bsgs.giants = vec![
        Giant {
            step: 0,
            babies: Vec::new(),
        },
        Giant {
            step: 0,
            babies: vec![0],
        },
    ];
    let x = random_slots(8, 4);
    let ev = Evaluator::new(&b.ctx, &b.keys);
    let out = transform(&bsgs, &[0])
        .unwrap()
        .apply_rescaled(&ev, &b.encrypt(&x, 3))
        .unwrap();
    let want = periodic(&zip_with(&x, &random_slots(8, 0), |a, b| a * b), 256);
    assert!(max_error(&b.decrypt(&out), &want) < 1e-6);
}

#[test]
fn polynomials_of_every_shape() {
    let b = bench_for(10, |request, _| request.add_relinearization(24));
    let ev = Evaluator::new(&b.ctx, &b.keys);
    let x: Vec<Complex64> = random_slots(512, 5).iter().map(|z| z.re.into()).collect();
    for (degree, level) in [
        (1, 16),
        (2, 7),
        (3, 8),
        (5, 16),
        (8, 9),
        (15, 16),
        (27, 12),
        (31, 24),
        (63, 6),
        (127, 16),
    ] {
        for skip in [1, 2] {
            // Every coefficient, or those of the degree's parity only.
            let c: Vec<f64> = (0..=degree)
                .map(|i| {
                    if (degree - i) % skip == 0 {
                        1.0 / (1.0 + i as f64)
                    } else {
                        0.0
                    }
                })
                .collect();
            let series = ChebyshevSeries::new(&c).unwrap();
            let out = series.evaluate(&ev, &b.encrypt(&x, level)).unwrap();
            assert_eq!(
                (out.level(), out.degree()),
                (level - series.plan().depth, 1)
            );
            let want: Vec<Complex64> = x.iter().map(|z| clenshaw(&c, z.re).into()).collect();
            let error = max_error(&b.decrypt(&out), &want);
            assert!(
                error < 2e-6,
                "degree {degree} (every {skip}) at level {level}: {error:e}"
            );
        }
    }
    let deep = ChebyshevSeries::new(&[0.0, 0.0, 0.0, 1.0]).unwrap();
    assert!(matches!(
        deep.evaluate(&ev, &b.encrypt(&x, 1)),
        Err(CkksError::TooDeep { depth: 2, level: 1 })
    ));
}

/// What a bootstrap makes of a slot, noise apart.
fn transfer(set: &ParamSet, spec: &BootstrapSpec, z: Complex64) -> Complex64 {
    let part = |x| spec.evalmod.transfer(set, x);
    Complex64::new(part(z.re), part(z.im))
}

#[test]
fn bootstraps_dense_and_sparse_real_and_complex() {
    let log_n = 10;
    let set = ParamSet::insecure_test(log_n);
    let spec = |n, complex| BootstrapSpec::new(&set, n, complex).unwrap();
    let specs: Vec<BootstrapSpec> = [1, 2, 16, 128, 512]
        .into_iter()
        .flat_map(|n| [false, true].map(|complex| spec(n, complex)))
        .chain([spec(16, false).sparing(), spec(512, true).sparing()])
        .collect();
    let b = bench_for(log_n, |request, _| {
        specs.iter().for_each(|s| request.add_bootstrap(s, log_n))
    });
    let ev = Evaluator::new(&b.ctx, &b.keys);
    for spec in &specs {
        let bootstrapper = Bootstrapper::new(&b.ctx, spec).unwrap();
        let words = spec
            .cts
            .iter()
            .chain(&spec.stc)
            .map(|f| f.bsgs.diagonals().len() * wide(&b.ctx, f.level) * 2 * f.period());
        assert_eq!(bootstrapper.size_bytes(), 4 * words.sum::<usize>());
        let x = random_slots(spec.slots, 3);
        let kept: Vec<Complex64> = x
            .iter()
            .map(|z| if spec.complex { *z } else { z.re.into() })
            .collect();
        for level in [spec.input_level, spec.input_level + 1, 16] {
            let out = bootstrapper.apply(&ev, &b.encrypt(&x, level)).unwrap();
            assert_eq!((out.level(), out.degree()), (16, 1));
            let got = b.decrypt(&out);
            let name = format!(
                "{} slots (complex: {}) from level {level}",
                spec.slots, spec.complex
            );
            let (worst, _) = part_errors(&got, &periodic(&kept, 512));
            assert!(worst < f64::exp2(-19.0), "{name}: {worst:e}");
            // Beside the sine the error is the predicted noise; on a ring this small nearly all of it is the polynomial's error,
            // which few slots sample poorly.
            let bent: Vec<Complex64> = kept.iter().map(|z| transfer(&set, spec, *z)).collect();
            let (_, noise) = part_errors(&got, &periodic(&bent, 512));
            let ratio = noise / spec.noise_std(&set);
            println!(
                "{name}: worst 2^{:.1}, noise 2^{:.1}, {ratio:.2} times the predicted",
                worst.log2(),
                noise.log2()
            );
            assert!(
                spec.slots < 512 || (0.4..1.6).contains(&ratio),
                "{name}: {ratio}"
            );
        }
    }
    let dense = Bootstrapper::new(&b.ctx, &specs[9]).unwrap();
    let low = b.encrypt(&[Complex64::ONE], 1);
    assert!(matches!(
        dense.apply(&ev, &low),
        Err(CkksError::BelowInput {
            level: 1,
            needed: 2
        })
    ));
}
