//! The noise that the cleartext backend adds, against what the scheme adds at secure-128: within a factor of two, per operation.

use sotto_ckks::linear::LinearTransform;
use sotto_ckks::poly::ChebyshevSeries;
use sotto_ckks::{
    Bootstrapper, Ciphertext, Complex64, Context, Encoder, Evaluator, KeyGenerator, KeyRequest,
    SecretKey,
};
use sotto_ir::exec::{Backend, Clear, ClearCt, Diagonals, NoiseModel};
use sotto_ir::params::bootstrap::{BootstrapSpec, Bsgs};
use sotto_ir::params::{ParamSet, galois};
use sotto_ir::slot::{At, BootstrapKind, Slots};

/// Slots with both parts, or the real part alone, uniform in [-1, 1]; reproducible.
fn random(n: usize, seed: u64, complex: bool) -> Vec<Complex64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as f64 / f64::from(1u32 << 30) - 1.0
    };
    let imaginary = |x: f64| if complex { x } else { 0.0 };
    (0..n)
        .map(|_| Complex64::new(next(), imaginary(next())))
        .collect()
}

/// Standard deviation of one part of the difference.
fn deviation(a: &[Complex64], b: &Slots) -> f64 {
    let squares = a.iter().enumerate().map(|(p, x)| (x - b.at(p)).norm_sqr());
    (squares.sum::<f64>() / (2 * a.len()) as f64).sqrt()
}

/// Errors of both sides, each against the exact function of its own operands.
struct Comparison {
    rows: Vec<(String, f64, f64)>,
}

impl Comparison {
    fn row(&mut self, name: &str, level: u32, scheme: f64, clear: f64) {
        self.rows
            .push((format!("{name} at {level}"), scheme, clear));
    }
}

struct Bench {
    context: Context,
    secret: SecretKey,
    encoder: Encoder,
}

impl Bench {
    fn open(&self, ct: &Ciphertext) -> Vec<Complex64> {
        self.encoder.decode(&self.secret.decrypt(ct).unwrap())
    }

    fn slots(&self, ct: &Ciphertext) -> Slots {
        Slots::new(self.open(ct)).unwrap()
    }
}

const BABY: u32 = 4;
const DIAGONALS: u32 = 16;

fn diagonals() -> Diagonals {
    let entry = |k: u32| (k, random(DIAGONALS as usize, u64::from(k) + 10, true));
    Diagonals {
        period: DIAGONALS,
        baby: BABY,
        stride: 1,
        entries: (0..DIAGONALS).map(entry).collect(),
    }
}

fn compare(b: &Bench, e: &Evaluator<'_>, clear: &Clear, level: u32, out: &mut Comparison) {
    let exact = Clear::new(b.context.params().clone(), vec![]);
    let ell = level as usize;
    let n = b.context.slots();
    let at = At { level, degree: 1 };
    let (x, y) = (random(n, 1, true), random(n, 2, true));
    let real = random(n, 3, false);
    let plain = |values: &[Complex64]| b.encoder.encode(values, ell, 1).unwrap();
    let encrypt = |values: &[Complex64]| b.secret.encrypt(&plain(values)).unwrap();
    let (cx, cy, cr) = (encrypt(&x), encrypt(&y), encrypt(&real));
    let ct = |slots: Slots| ClearCt { slots, at };
    let given = |values: &[Complex64]| ct(Slots::new(values.to_vec()).unwrap());
    let (sx, sy, sr) = (given(&x), given(&y), given(&real));
    let (ox, oy, or) = (ct(b.slots(&cx)), ct(b.slots(&cy)), ct(b.slots(&cr)));

    let fresh = clear.encrypt(sx.slots.clone(), level).unwrap();
    let fresh = deviation(fresh.slots.values(), &sx.slots);
    out.row(
        "encrypt",
        level,
        deviation(ox.slots.values(), &sx.slots),
        fresh,
    );

    // Each: the scheme's result, and the same function on each kind of cleartext operand.
    let mut both =
        |name: &str, scheme: Ciphertext, f: &dyn Fn(&Clear, [&ClearCt; 3]) -> ClearCt| {
            let truth = f(&exact, [&ox, &oy, &or]);
            let measured = deviation(&b.open(&scheme), &truth.slots);
            let noisy = f(clear, [&sx, &sy, &sr]);
            let modelled = deviation(&noisy.slots.tiled(n), &f(&exact, [&sx, &sy, &sr]).slots);
            out.row(name, level, measured, modelled);
        };
    both("rotate", e.rotate(&cx, 1).unwrap(), &|c, [x, ..]| {
        c.rotate(x, 1).unwrap()
    });
    both("conjugate", e.conjugate(&cx).unwrap(), &|c, [x, ..]| {
        c.conjugate(x).unwrap()
    });
    let mut folded = cx.clone();
    for step in [1, 2, 4] {
        folded = e.add(&folded, &e.rotate(&folded, step).unwrap()).unwrap();
    }
    both("fold", folded, &|c, [x, ..]| c.fold(x, 1, 8).unwrap());
    let product = e.rescale(&e.mul(&cx, &cy).unwrap()).unwrap();
    both("multiply", product, &|c, [x, y, _]| {
        c.rescale(&c.mul(x, y).unwrap()).unwrap()
    });
    let product = e.rescale(&e.mul_plain(&cx, &plain(&y)).unwrap()).unwrap();
    both("multiply by plaintext", product, &|c, [x, ..]| {
        let plain = c.encode(&y, at).unwrap();
        c.rescale(&c.mul_plain(x, &plain).unwrap()).unwrap()
    });
    let lower = e.drop_to_level(&cx, ell - 1).unwrap();
    both("drop", lower, &|c, [x, ..]| {
        c.drop_to(x, level - 1).unwrap()
    });

    let diagonals = diagonals();
    let steps = diagonals
        .entries
        .iter()
        .map(|(k, d)| (*k as usize, d.clone()))
        .collect();
    let bsgs = Bsgs::regular(
        DIAGONALS as usize,
        1,
        0,
        i64::from(DIAGONALS) - 1,
        BABY as usize,
    );
    let matrix = LinearTransform::new(&b.context, &bsgs, &steps, ell).unwrap();
    let applied = e.rescale(&matrix.apply(e, &cx).unwrap()).unwrap();
    both("matrix", applied, &|c, [x, ..]| {
        let matrix = c.encode_linear(&diagonals, level).unwrap();
        c.rescale(&c.linear(x, &matrix).unwrap()).unwrap()
    });

    for degree in [3usize, 7] {
        if level > 3 || degree == 7 {
            let coefficients: Vec<f64> = (0..=degree).map(|k| 0.9f64.powi(k as i32)).collect();
            let series = ChebyshevSeries::new(&coefficients).unwrap();
            let value = series.evaluate(e, &cr).unwrap();
            let name = format!("polynomial of degree {degree}");
            both(&name, value, &|c, [_, _, x]| {
                c.poly(x, &coefficients).unwrap()
            });
        }
    }
}

/// A bootstrap's whole error, the sine's bend included, against its input: slots uniform in the unit square, repeated.
fn compare_bootstrap(
    b: &Bench,
    e: &Evaluator<'_>,
    clear: &Clear,
    spec: &BootstrapSpec,
    out: &mut Comparison,
) {
    let period = random(spec.slots, 4, spec.complex);
    let x: Vec<Complex64> = period
        .iter()
        .copied()
        .cycle()
        .take(b.context.slots())
        .collect();
    let plain = b.encoder.encode(&x, spec.input_level, 1).unwrap();
    let sealed = b.secret.encrypt(&plain).unwrap();
    let bootstrapper = Bootstrapper::new(&b.context, spec).unwrap();
    let scheme = b.open(&bootstrapper.apply(e, &sealed).unwrap());
    let slots = Slots::new(x.clone()).unwrap();
    let given = clear
        .encrypt(slots.clone(), spec.input_level as u32)
        .unwrap();
    let kind = BootstrapKind {
        slots: spec.slots as u32,
        complex: spec.complex,
    };
    let modelled = clear.bootstrap(&given, kind).unwrap();
    let name = format!(
        "bootstrap of {} slots, complex {}",
        spec.slots, spec.complex
    );
    let level = spec.output_level as u32;
    let modelled = deviation(&modelled.slots.tiled(x.len()), &slots);
    out.row(&name, level, deviation(&scheme, &slots), modelled);
    // What is left beside the bend is two orders smaller and must agree, too.
    let bend = |z: &Complex64| {
        let part = |x| spec.evalmod.transfer(b.context.params(), x);
        Complex64::new(part(z.re), part(z.im))
    };
    let bent = Slots::new(x.iter().map(bend).collect()).unwrap();
    let beside = clear.bootstrap(&given, kind).unwrap();
    let beside = deviation(&beside.slots.tiled(x.len()), &bent);
    out.row(
        &format!("{name}, beside the sine"),
        level,
        deviation(&scheme, &bent),
        beside,
    );
}

#[test]
fn modelled_noise_is_within_a_factor_of_two_of_the_schemes() {
    let params = ParamSet::secure_128();
    let context = Context::new(params.clone()).unwrap();
    let secret = SecretKey::generate(&context).unwrap();
    let mut request = KeyRequest::default();
    request.add_relinearization(16);
    for step in [1, 2, 3, 4, 8, 12] {
        request.add_galois(galois::rotation(step, params.log_n), 16);
    }
    let specs = [false, true].map(|complex| BootstrapSpec::new(&params, 128, complex).unwrap());
    specs
        .iter()
        .for_each(|spec| request.add_bootstrap(spec, params.log_n));
    request.add_galois(galois::conjugation(params.log_n), 16);
    let generator = KeyGenerator::new(&secret);
    let keys = generator.evaluation_keys(&request, |_, _| ()).unwrap();
    let encoder = Encoder::new(&context);
    let b = Bench {
        context,
        secret,
        encoder,
    };
    let evaluator = Evaluator::new(&b.context, &keys);
    let kind = |spec: &BootstrapSpec| BootstrapKind {
        slots: spec.slots as u32,
        complex: spec.complex,
    };
    let bootstraps = specs
        .iter()
        .map(|s| (kind(s), s.noise_std(&params)))
        .collect();
    let model = NoiseModel::of(&params, bootstraps);
    let clear = Clear::new(params.clone(), specs.to_vec());
    let clear = clear.with_noise(model, params.slots() as u32, 1);
    let mut comparison = Comparison { rows: vec![] };
    for level in [3, 10, 16] {
        compare(&b, &evaluator, &clear, level, &mut comparison);
    }
    for spec in &specs {
        compare_bootstrap(&b, &evaluator, &clear, spec, &mut comparison);
    }
    for (name, scheme, clear) in &comparison.rows {
        println!(
            "{name:48} scheme 2^{:6.2}  clear 2^{:6.2}",
            scheme.log2(),
            clear.log2()
        );
    }
    for (name, scheme, clear) in &comparison.rows {
        let ratio = clear / scheme;
        assert!((0.5..2.0).contains(&ratio), "{name}: ratio {ratio:.2}");
    }
}
