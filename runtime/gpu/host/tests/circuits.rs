//! Matrices, polynomials and whole bootstraps, on the kernels and on the processor: the same ciphertexts.

mod common;

use common::Pair;
use sotto_ckks::engine::{Ct, Engine, Keep};
use sotto_ckks::{
    Bootstrapper, ChebyshevSeries, Ciphertext, Complex64, Encoder, Evaluator, KeyRequest,
    LinearTransform,
};
use sotto_gpu::Gpu;
use sotto_gpu_host::Any;
use sotto_params::bootstrap::{BootstrapSpec, Bsgs};
use sotto_params::{ParamSet, galois};
use std::collections::BTreeMap;

fn slots(n: usize, seed: usize) -> Vec<Complex64> {
    let at = |i: usize| ((i * 37 + seed * 101) % 199) as f64 / 99.5 - 1.0;
    (0..n)
        .map(|i| Complex64::new(at(i), at(3 * i + 1)))
        .collect()
}

fn encrypt(pair: &Pair, slots: &[Complex64], level: usize) -> Ciphertext {
    let encoder = Encoder::new(pair.cpu.context());
    let plain = encoder.encode(slots, level, 1).unwrap();
    pair.secret.encrypt(&plain).unwrap()
}

/// Both evaluators.
fn evaluators(pair: &Pair) -> (Evaluator<'_>, Evaluator<'_, Gpu<Any>>) {
    (
        Evaluator::new(pair.cpu.context(), &pair.keys),
        Evaluator::on(&pair.gpu, &pair.gpu_keys),
    )
}

fn same(pair: &Pair, what: &str, a: &Ciphertext, b: &Ct<Gpu<Any>>) {
    let ctx = pair.cpu.context();
    let b = evaluators(pair).1.download(b).unwrap();
    assert_eq!((a.level(), a.degree()), (b.level(), b.degree()), "{what}");
    assert!(a.to_bytes(ctx) == b.to_bytes(ctx), "{what} differs");
}

/// Rotations of the operand that a transform takes, none among them.
fn rotations_of(bsgs: &Bsgs) -> usize {
    bsgs.baby_steps().len() + 1
}

#[test]
fn matrices() {
    // diagonals in runs of 64 words, and in full; many giants, many babies, and many of both: more than one launch takes
    for (log_n, n, level, last, babies) in [
        (10, 256, 1, 90, 40),
        (10, 512, 1, 400, 36),
        (9, 256, 1, 190, 10),
        (10, 4, 9, 2, 3),
        (10, 512, 5, 4, 3),
        (12, 128, 3, 32, 3),
        (11, 1024, 1, 2, 3),
        (10, 256, 2, 40, 32),
    ] {
        let bsgs = Bsgs::regular(n, 1, -1, last, babies);
        let mut request = KeyRequest::default();
        for step in bsgs.rotations() {
            request.add_galois(galois::rotation(step as i64, log_n), level);
        }
        let pair = Pair::with_keys(ParamSet::insecure_test(log_n), &request);
        let diagonals: BTreeMap<usize, Vec<Complex64>> = bsgs
            .diagonals()
            .into_iter()
            .map(|s| (s, slots(n, s)))
            .collect();
        let ctx = pair.cpu.context();
        let on_cpu = LinearTransform::new(ctx, &bsgs, &diagonals, level).unwrap();
        let (ev, gev) = evaluators(&pair);
        let ct = encrypt(&pair, &slots(n, 7), level);
        let gct = gev.upload(ct.clone());
        let applied = on_cpu.apply(&ev, &ct).unwrap();
        let rescaled = on_cpu.apply_rescaled(&ev, &ct).unwrap();
        // all limbs at once, and five at a time
        let few = (2 * rotations_of(&bsgs) * 5) << log_n;
        let device = pair.gpu.device().clone();
        let in_steps = Gpu::with_rotated_words(device, ctx, few).unwrap();
        let keeps = [Keep::Ready, Keep::Compact, Keep::Beside];
        for (gpu, keep) in [&pair.gpu, &in_steps]
            .into_iter()
            .flat_map(|g| keeps.map(|k| (g, k)))
        {
            let gev = Evaluator::on(gpu, &pair.gpu_keys);
            let on_gpu = LinearTransform::on(gpu, &bsgs, &diagonals, level, keep).unwrap();
            let bytes = match keep {
                Keep::Ready => on_cpu.size_bytes(),
                Keep::Compact => 8 * 2 * n * diagonals.len(),
                Keep::Beside => 0,
            };
            assert_eq!(on_gpu.size_bytes(), bytes);
            let what = format!("a matrix of period {n}, {keep:?}");
            same(&pair, &what, &applied, &on_gpu.apply(&gev, &gct).unwrap());
            let found = on_gpu.apply_rescaled(&gev, &gct).unwrap();
            same(&pair, &what, &rescaled, &found);
        }
    }
}

#[test]
fn coefficients_of_any_size_expand_to_what_they_are_reduced_to() {
    // slots up to 2^21 make coefficients up to 2^61.9; beyond they stay ready, and that is as right
    let (n, level) = (256, 6);
    let bsgs = Bsgs::regular(n, 1, 0, 0, 1);
    let pair = Pair::with_keys(ParamSet::insecure_test(10), &KeyRequest::default());
    let ctx = pair.cpu.context();
    let (ev, gev) = evaluators(&pair);
    let ct = encrypt(&pair, &slots(n, 7), level);
    let gct = gev.upload(ct.clone());
    let sign = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
    let shapes = [
        ("zero", vec![0.0; n]),
        ("constant", vec![-1.0; n]),
        ("one", (0..n).map(|i| f64::from(i == 0)).collect()),
        ("alternating", (0..n).map(sign).collect()),
    ];
    for log in [0, 20, 21, 25] {
        for (name, shape) in &shapes {
            let values = |i: usize| Complex64::from(shape[i] * f64::from(1u32 << log));
            let diagonals = BTreeMap::from([(0, (0..n).map(values).collect())]);
            let on_cpu = LinearTransform::new(ctx, &bsgs, &diagonals, level).unwrap();
            let keep = Keep::Compact;
            let on_gpu = LinearTransform::on(&pair.gpu, &bsgs, &diagonals, level, keep).unwrap();
            let found = on_gpu.apply(&gev, &gct).unwrap();
            let what = format!("{name} of 2^{log}");
            same(&pair, &what, &on_cpu.apply(&ev, &ct).unwrap(), &found);
        }
    }
}

#[test]
fn a_matrix_may_have_diagonals_of_both_forms() {
    // one with coefficients beyond 2^62, which stays ready, among others that are expanded
    let (n, level) = (128, 4);
    let bsgs = Bsgs::regular(n, 1, 0, 8, 3);
    let mut request = KeyRequest::default();
    for step in bsgs.rotations() {
        request.add_galois(galois::rotation(step as i64, 10), level);
    }
    let pair = Pair::with_keys(ParamSet::insecure_test(10), &request);
    let ctx = pair.cpu.context();
    let (ev, gev) = evaluators(&pair);
    let ct = encrypt(&pair, &slots(n, 7), level);
    let gct = gev.upload(ct.clone());
    for large in [0, 4, 8] {
        let factor = |step| {
            if step == large {
                f64::from(1 << 26)
            } else {
                1.0
            }
        };
        let diagonal = |step| slots(n, step).iter().map(|x| x * factor(step)).collect();
        let diagonals = bsgs.diagonals().into_iter().map(|s| (s, diagonal(s)));
        let diagonals: BTreeMap<usize, Vec<Complex64>> = diagonals.collect();
        let on_cpu = LinearTransform::new(ctx, &bsgs, &diagonals, level).unwrap();
        let expected = on_cpu.apply(&ev, &ct).unwrap();
        // all limbs at once, and seven at a time
        let few = (diagonals.len() * 7) << 10;
        let in_steps = Gpu::with_rotated_words(pair.gpu.device().clone(), ctx, few).unwrap();
        for gpu in [&pair.gpu, &in_steps] {
            let on_gpu = LinearTransform::on(gpu, &bsgs, &diagonals, level, Keep::Compact);
            let on_gpu = on_gpu.unwrap();
            assert!(on_gpu.size_bytes() > 8 * 2 * n * diagonals.len());
            let gev = Evaluator::on(gpu, &pair.gpu_keys);
            let found = on_gpu.apply(&gev, &gct).unwrap();
            let what = format!("diagonal {large} ready among small ones");
            same(&pair, &what, &expected, &found);
        }
    }
}

#[test]
fn products_and_rotations() {
    let level = 6;
    let pair = Pair::new(ParamSet::insecure_test(10), level, &[1, 2, 3, 4, -7]);
    let (ev, gev) = evaluators(&pair);
    let cts: Vec<Ciphertext> = (0..7)
        .map(|i| encrypt(&pair, &slots(512, i), level))
        .collect();
    let gcts: Vec<_> = cts.iter().map(|ct| gev.upload(ct.clone())).collect();
    let check = |what: &str, a: Ciphertext, b: Ct<Gpu<Any>>| same(&pair, what, &a, &b);
    let (a, b, ga, gb) = (&cts[0], &cts[1], &gcts[0], &gcts[1]);
    check("mul", ev.mul(a, b).unwrap(), gev.mul(ga, gb).unwrap());
    let product = (
        ev.mul_rescaled(a, b).unwrap(),
        gev.mul_rescaled(ga, gb).unwrap(),
    );
    check("mul_rescaled", product.0, product.1);
    check(
        "rotate",
        ev.rotate(a, -7).unwrap(),
        gev.rotate(ga, -7).unwrap(),
    );
    check(
        "conjugate",
        ev.conjugate(a).unwrap(),
        gev.conjugate(ga).unwrap(),
    );
    check("negate", ev.negate(a), gev.negate(ga));
    check("mul_by_i", ev.mul_by_i(a), gev.mul_by_i(ga));
    let constant = Complex64::new(0.3, -0.7);
    check(
        "add_const",
        ev.add_const(a, constant).unwrap(),
        gev.add_const(ga, constant).unwrap(),
    );
    check(
        "mul_const",
        ev.mul_const(a, constant).unwrap(),
        gev.mul_const(ga, constant).unwrap(),
    );
    check(
        "drop",
        ev.drop_to_level(a, 2).unwrap(),
        gev.drop_to_level(ga, 2).unwrap(),
    );
    let many = ev.rotate_many(a, &[0, 1, 4]).unwrap();
    for (x, y) in many
        .into_iter()
        .zip(gev.rotate_many(ga, &[0, 1, 4]).unwrap())
    {
        check("rotate_many", x, y);
    }
    let diagonals: Vec<&Ciphertext> = cts[1..].iter().collect();
    let gdiagonals: Vec<_> = gcts[1..].iter().collect();
    check(
        "apply_diagonals",
        ev.apply_diagonals(&diagonals, a, 2, 1).unwrap(),
        gev.apply_diagonals(&gdiagonals, ga, 2, 1).unwrap(),
    );
    let x = encrypt(&pair, &vec![Complex64::new(0.4, 0.0); 512], level);
    let gx = gev.upload(x.clone());
    for coefficients in [
        &[0.1, 0.4, 0.0, -0.3, 0.2][..],
        &[0.0, 0.5, 0.0, 0.25, 0.0, 0.125, 0.0, -0.5],
    ] {
        let series = ChebyshevSeries::new(coefficients).unwrap();
        check(
            "polynomial",
            series.evaluate(&ev, &x).unwrap(),
            series.evaluate(&gev, &gx).unwrap(),
        );
    }
    assert!(gev.engine().check().is_ok());
}

#[test]
fn bootstraps() {
    for (log_n, period, complex) in [
        (9, 256, true),
        (10, 64, false),
        (11, 1024, true),
        (11, 16, true),
    ] {
        let params = ParamSet::insecure_test(log_n);
        let spec = BootstrapSpec::new(&params, period, complex).unwrap();
        // one of them with few keys
        let spec = if log_n == 10 { spec.sparing() } else { spec };
        let mut request = KeyRequest::default();
        request.add_bootstrap(&spec, log_n);
        let pair = Pair::with_keys(params, &request);
        let on_cpu = Bootstrapper::new(pair.cpu.context(), &spec).unwrap();
        let on_gpu = Bootstrapper::on(&pair.gpu, &spec).unwrap();
        let (ev, gev) = evaluators(&pair);
        let ct = encrypt(&pair, &slots(period, log_n as usize), spec.input_level);
        let fresh = on_cpu.apply(&ev, &ct).unwrap();
        let on_gpu = on_gpu.apply(&gev, &gev.upload(ct)).unwrap();
        same(
            &pair,
            &format!("a bootstrap of {period} slots, N = 2^{log_n}"),
            &fresh,
            &on_gpu,
        );
    }
}
