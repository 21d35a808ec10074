//! A whole bootstrap on a model: slots and coefficients of a tiny ring in floating point, the multiples of q_0 added by hand.

use num_complex::Complex64;
use sotto_params::ParamSet;
use sotto_params::bootstrap::{BootstrapError, BootstrapSpec, Bsgs, FactorSpec};
use std::collections::BTreeMap;
use std::f64::consts::PI;

/// A small deterministic generator; quality does not matter here.
struct Lcg(u64);

impl Lcg {
    fn uniform(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0
    }
}

/// Powers of 5 modulo 4·slots: slot j is the value at ζ^(5^j).
fn orbit(slots: usize) -> Vec<usize> {
    std::iter::successors(Some(1), |g| Some(g * 5 % (4 * slots)))
        .take(slots)
        .collect()
}

fn root(slots: usize, power: usize) -> Complex64 {
    Complex64::cis(PI * (power % (4 * slots)) as f64 / (2 * slots) as f64)
}

/// Coefficients of the real polynomial of degree < 2·slots with these slots.
fn to_coefficients(z: &[Complex64]) -> Vec<f64> {
    let s = z.len();
    let at = |k: usize| {
        orbit(s)
            .iter()
            .zip(z)
            .map(|(g, z)| (z * root(s, g * k).conj()).re)
            .sum::<f64>()
    };
    (0..2 * s).map(|k| at(k) / s as f64).collect()
}

fn to_slots(m: &[f64]) -> Vec<Complex64> {
    let s = m.len() / 2;
    let at = |g: &usize| m.iter().enumerate().map(|(k, m)| m * root(s, g * k)).sum();
    orbit(s).iter().map(at).collect()
}

fn rotate(z: &[Complex64], step: usize) -> Vec<Complex64> {
    (0..z.len()).map(|j| z[(j + step) % z.len()]).collect()
}

/// Applies a factor the way a ciphertext would: babies, inner sums with pre-rotated diagonals, giants.
fn apply(factor: &FactorSpec, gain: f64, z: &[Complex64]) -> Vec<Complex64> {
    let (diagonals, n) = (factor.diagonals(gain), factor.bsgs.slots);
    assert_eq!(
        diagonals.keys().copied().collect::<Vec<_>>(),
        factor.bsgs.diagonals(),
        "{factor:?}"
    );
    let mut out = vec![Complex64::ZERO; z.len()];
    for giant in &factor.bsgs.giants {
        let mut inner = vec![Complex64::ZERO; z.len()];
        for &baby in &giant.babies {
            let diagonal = &diagonals[&((giant.step + baby) % n)];
            let rotated = rotate(z, baby);
            for (j, sum) in inner.iter_mut().enumerate() {
                *sum += diagonal[(j + n - giant.step) % n] * rotated[j];
            }
        }
        for (o, v) in out.iter_mut().zip(rotate(&inner, giant.step)) {
            *o += v;
        }
    }
    out
}

/// Runs `spec` on slots in [-1, 1]² and returns the worst error of the parts it keeps.
fn model_error(set: &ParamSet, spec: &BootstrapSpec, seed: u64) -> f64 {
    let (slots, n) = (set.slots(), spec.slots);
    let mut rng = Lcg(seed);
    let message: Vec<Complex64> = (0..n)
        .map(|_| Complex64::new(rng.uniform(), rng.uniform()))
        .collect();
    let mut z: Vec<Complex64> = (0..slots).map(|j| message[j % n]).collect();
    for factor in &spec.stc {
        z = apply(factor, 1.0, &z);
    }
    // The level-0 ciphertext: integer coefficients, of the message's own size.
    let q0: f64 = set.level_primes(0).map(f64::from).product();
    let mut m = to_coefficients(&z);
    assert!(
        m.iter().all(|c| c.abs() < 1.0 + 1e-9),
        "a coefficient is a slot's real or imaginary part"
    );
    for c in &mut m {
        *c = (*c * set.scale(0)).round()
            + q0 * (rng.uniform() * f64::from(spec.evalmod.bound)).round();
    }
    let mut z: Vec<Complex64> = to_slots(&m)
        .iter()
        .map(|z| z / set.scale(spec.raised_level))
        .collect();
    for group in &spec.trace {
        let rotations: Vec<_> = group.iter().map(|&step| rotate(&z, step)).collect();
        for (j, z) in z.iter_mut().enumerate() {
            *z += rotations.iter().map(|r| r[j]).sum::<Complex64>();
        }
    }
    for factor in &spec.cts {
        z = apply(factor, spec.cts_gain(set), &z);
    }
    let constants = spec.evalmod.constants(set);
    let top = spec.output_level;
    let gain = set.scale(top + 1).powi(2) / (set.ratio(top + 1, top) * set.scale(top));
    let error = |(j, t): (usize, &Complex64)| {
        let (sum, difference) = (t + t.conj(), Complex64::I * (t.conj() - t));
        assert!(
            sum.re.abs() <= 1.0 && difference.re.abs() <= 1.0,
            "outside the interval"
        );
        let re = (constants.interpret(sum.re) * gain - message[j % n].re).abs();
        let im = (constants.interpret(difference.re) * gain - message[j % n].im).abs();
        if spec.complex { re.max(im) } else { re }
    };
    z.iter().enumerate().map(error).fold(0.0, f64::max)
}

#[test]
fn model_bootstrap_returns_the_message() {
    // 256 slots; the error is that of the scaled sine, 2^-19.1.
    let set = ParamSet::insecure_test(9);
    for log_slots in 0..=8 {
        for complex in [false, true] {
            let spec = BootstrapSpec::new(&set, 1 << log_slots, complex).expect("fits");
            let error = model_error(&set, &spec, 1 + log_slots);
            assert!(
                error < f64::exp2(-19.0),
                "{} slots: error 2^{:.2}",
                spec.slots,
                error.log2()
            );
        }
    }
}

#[test]
fn every_number_of_factors_is_the_same_transform() {
    let set = ParamSet::insecure_test(9);
    for (stc, cts) in [(1, 3), (2, 2), (3, 1), (4, 3), (7, 2)] {
        let spec = BootstrapSpec::with_factors(&set, 128, true, stc, cts).expect("fits");
        assert_eq!(
            (spec.input_level, spec.stc.len(), spec.cts.len()),
            (stc, stc, cts)
        );
        assert_eq!(
            spec.stc.iter().map(|f| f.level).collect::<Vec<_>>(),
            (1..=stc).rev().collect::<Vec<_>>()
        );
        assert_eq!(
            spec.cts.last().map(|f| f.level),
            Some(spec.evalmod.level + 1)
        );
        assert!(model_error(&set, &spec, 7) < f64::exp2(-19.0));
    }
}

#[test]
fn the_dense_bootstrap_of_the_secure_set() {
    let set = ParamSet::secure_128();
    let spec = BootstrapSpec::new(&set, 1 << 15, true).expect("fits");
    assert_eq!(
        (spec.input_level, spec.raised_level, spec.output_level),
        (3, 27, 16)
    );
    assert_eq!(spec.evalmod.level, 24);
    let counts: Vec<usize> = spec.cts.iter().map(|f| f.bsgs.diagonals().len()).collect();
    assert_eq!(counts, [32, 63, 63]);
    assert!(spec.trace.is_empty());
    let failure = spec.failure_log2_probability(&set);
    assert!(
        (-58.6..-58.2).contains(&failure),
        "a bootstrap fails with probability 2^{failure:.1}"
    );
    // StC uses the rotations of CtS: one key each, at the higher level.
    let cts: Vec<usize> = spec.cts.iter().flat_map(|f| f.bsgs.rotations()).collect();
    assert!(
        spec.rotations()
            .iter()
            .all(|(step, level)| cts.contains(step) && *level >= 25)
    );
    let mut merged = spec.keys();
    merged.merge(&BootstrapSpec::new(&set, 128, false).expect("fits").keys());
    assert_eq!((spec.keys().rotations[&8], merged.rotations[&8]), (25, 26));
    assert_eq!(merged.ephemeral, 27);
}

#[test]
fn sparse_structures() {
    let set = ParamSet::secure_128();
    let spec = |n| BootstrapSpec::new(&set, n, false).expect("fits");
    let one = spec(1);
    assert_eq!(
        (one.input_level, one.raised_level, one.trace.len()),
        (0, 25, 8)
    );
    assert!(one.cts[0].bsgs.rotations().is_empty());
    let few = spec(128);
    assert_eq!((few.input_level, few.raised_level), (1, 26));
    assert_eq!(
        few.trace,
        vec![
            vec![128, 256, 384],
            vec![512, 1024, 1536],
            vec![2048, 4096, 6144],
            vec![8192, 16384, 24576]
        ]
    );
    assert_eq!(spec(1024).trace[1..], few.trace[2..]);
    assert!(few.failure_log2_probability(&set) < spec(1 << 15).failure_log2_probability(&set));
}

#[test]
fn splits_place_every_diagonal_once() {
    for (first, last) in [(0, 31), (-31, 31), (-1, 1), (0, 0), (-7, 7)] {
        for babies in [1, 2, 4, 8, 16, 64] {
            let split = Bsgs::regular(1 << 10, 4, first, last, babies);
            let want: BTreeMap<usize, ()> = (first..=last)
                .map(|k| ((4 * k).rem_euclid(1 << 10) as usize, ()))
                .collect();
            assert_eq!(split.diagonals(), want.into_keys().collect::<Vec<_>>());
        }
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let set = ParamSet::insecure_test(9);
    for slots in [0, 3, 512] {
        assert!(matches!(
            BootstrapSpec::new(&set, slots, true),
            Err(BootstrapError::Slots { .. })
        ));
    }
    assert!(matches!(
        BootstrapSpec::with_factors(&set, 16, true, 5, 1),
        Err(BootstrapError::Factors {
            transform: "StC",
            ..
        })
    ));
    assert!(matches!(
        BootstrapSpec::with_factors(&set, 16, true, 2, 0),
        Err(BootstrapError::Factors {
            transform: "CtS",
            ..
        })
    ));
    let mut bare = set.clone();
    bare.ephemeral = None;
    assert!(matches!(
        BootstrapSpec::new(&bare, 16, true),
        Err(BootstrapError::Unsupported { .. })
    ));
}

#[test]
fn a_damaged_specification_is_found() {
    let set = ParamSet::insecure_test(9);
    let spec = BootstrapSpec::with_factors(&set, 64, true, 2, 2).expect("fits");
    spec.check(&set).expect("our own");
    let mut split_otherwise = spec.clone();
    split_otherwise.cts[1].bsgs = Bsgs::regular(64, 1, -7, 7, 4);
    split_otherwise.check(&set).expect("the same diagonals");
    let damage: [fn(&mut BootstrapSpec); 7] = [
        |s| s.slots = 63,
        |s| s.stc[0].low = 0,
        |s| s.cts[0].level += 1,
        |s| s.cts[1].bsgs.giants[0].step += 1,
        |s| s.evalmod.bound = 1,
        |s| s.trace.clear(),
        |s| s.raised_level = 99,
    ];
    for (i, harm) in damage.into_iter().enumerate() {
        let mut bad = spec.clone();
        harm(&mut bad);
        assert!(bad.check(&set).is_err(), "damage {i}");
    }
}

#[test]
fn sparing_bootstraps_take_fewer_keys_and_are_the_same_otherwise() {
    let set = ParamSet::secure_128();
    for slots in [512, 4096, 32768] {
        let spec = BootstrapSpec::new(&set, slots, true).unwrap();
        let sparing = spec.clone().sparing();
        sparing.check(&set).unwrap();
        let at_the_top = |s: &BootstrapSpec| {
            let factors = s.cts.iter().map(|f| f.bsgs.rotations().len());
            factors.sum::<usize>()
        };
        let (few, many) = (at_the_top(&sparing), at_the_top(&spec));
        println!("{slots} slots: {few} of {many} keys of coefficients-to-slots");
        assert!(10 * few <= 7 * many, "{slots} slots: {few} of {many}");
        for (a, b) in spec.cts.iter().zip(&sparing.cts) {
            assert_eq!(a.bsgs.diagonals(), b.bsgs.diagonals());
        }
        // a chain that does not reach its giants is no such bootstrap
        let mut broken = sparing.clone().sparing();
        let shortest = |b: &Bsgs| b.chains().iter().map(|(_, chain)| chain.len()).min();
        let factors = broken.cts.iter_mut().map(|f| &mut f.bsgs);
        let bsgs = factors.max_by_key(|b| shortest(b)).unwrap();
        let last = bsgs.giants.len() - 1;
        assert!(shortest(bsgs) > Some(1));
        bsgs.giants[last].step += 1;
        let babies = &mut bsgs.giants[last].babies;
        babies
            .iter_mut()
            .for_each(|b| *b = b.wrapping_sub(1) % slots);
        assert!(broken.check(&set).is_err());
        // nor is one whose steps are out of range, which nothing falls over
        let mut wild = sparing.clone();
        wild.cts[0].bsgs.giants[0].step = usize::MAX;
        assert!(!wild.keys().rotations.is_empty() && wild.check(&set).is_err());
        assert_eq!(
            ron::from_str::<BootstrapSpec>(&ron::to_string(&sparing).unwrap()).unwrap(),
            sparing
        );
    }
}
