//! The noise that the cleartext backend adds, against what the scheme adds at secure-128: within a factor of two, per operation.

use sotto_ckks::linear::LinearTransform;
use sotto_ckks::poly::ChebyshevSeries;
use sotto_ckks::{
    Ciphertext, Complex64, Context, Encoder, Evaluator, KeyGenerator, KeyRequest, SecretKey,
};
use sotto_ir::exec::{Backend, Clear, ClearCt, Diagonals, NoiseModel};
use sotto_ir::params::bootstrap::Bsgs;
use sotto_ir::params::{ParamSet, galois};
use sotto_ir::slot::{At, Slots};

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
        entries: (0..DIAGONALS).map(entry).collect(),
    }
}

fn compare(b: &Bench, e: &Evaluator<'_>, clear: &Clear, level: u32, out: &mut Comparison) {
    let exact = Clear::new(16, vec![]);
    let ell = level as usize;
    let n = b.context.slots();
    let at = At { level, degree: 1 };
    let public = KeyGenerator::new(&b.secret).public_key(ell).unwrap();
    let (x, y) = (random(n, 1, true), random(n, 2, true));
    let real = random(n, 3, false);
    let plain = |values: &[Complex64]| b.encoder.encode(values, ell, 1).unwrap();
    let encrypt = |values: &[Complex64]| public.encrypt(&plain(values)).unwrap();
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
    let generator = KeyGenerator::new(&secret);
    let keys = generator.evaluation_keys(&request, |_, _| ()).unwrap();
    let encoder = Encoder::new(&context);
    let b = Bench {
        context,
        secret,
        encoder,
    };
    let evaluator = Evaluator::new(&b.context, &keys);
    let model = NoiseModel::of(&params, vec![]);
    let clear = Clear::new(16, vec![]).with_noise(model, params.slots() as u32, 1);
    let mut comparison = Comparison { rows: vec![] };
    for level in [3, 10, 16] {
        compare(&b, &evaluator, &clear, level, &mut comparison);
    }
    for (name, scheme, clear) in &comparison.rows {
        println!(
            "{name:28} scheme 2^{:6.2}  clear 2^{:6.2}",
            scheme.log2(),
            clear.log2()
        );
    }
    for (name, scheme, clear) in &comparison.rows {
        let ratio = clear / scheme;
        assert!((0.5..2.0).contains(&ratio), "{name}: ratio {ratio:.2}");
    }
}
