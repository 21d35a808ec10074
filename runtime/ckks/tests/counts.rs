//! What operations cost, in transforms: the regression check that does not trust the clock. The chain of the INSECURE ring is that of
//! secure-128, prime for prime, so counts are those of N = 2^16; only a bootstrap's factors differ, by its slots.

mod common;

use common::*;
use sotto_ckks::{Bootstrapper, Ciphertext, Evaluator, KeyGenerator, Result};
use sotto_params::ParamSet;
use sotto_params::bootstrap::BootstrapSpec;

const LEVEL: usize = 16;

/// Transforms of one run of `case`, after one that makes tables.
fn transforms<T>(bench: &Bench, case: impl Fn() -> Result<T>) -> u64 {
    case().unwrap();
    let before = bench.ctx.transforms();
    case().unwrap();
    bench.ctx.transforms() - before
}

#[test]
fn operations_take_no_more_transforms_than_they_did() {
    let bench = Bench::new(ParamSet::insecure_test(10), LEVEL, &[1, 2, 3, 4]);
    let ev = Evaluator::new(&bench.ctx, &bench.keys);
    let ct = bench.encrypt(&random_slots(512, 1), LEVEL);
    let product = ev.mul(&ct, &ct).unwrap();
    let primes = bench.ctx.params().levels[LEVEL].primes.len() as u64;
    let count = |case: &dyn Fn() -> Result<Ciphertext>| transforms(&bench, case);
    assert_eq!(count(&|| ev.add(&ct, &ct)), 0);
    let (rotate, multiply) = (count(&|| ev.rotate(&ct, 1)), count(&|| ev.mul(&ct, &ct)));
    let hoisted = transforms(&bench, || ev.rotate_many(&ct, &[1, 2, 3, 4]));
    let (rescale, drop) = (
        count(&|| ev.rescale(&product)),
        count(&|| ev.drop_to_level(&ct, LEVEL - 1)),
    );
    println!(
        "{primes} primes: rotate {rotate}, 4 hoisted {hoisted}, multiply {multiply}, rescale {rescale}, drop {drop}"
    );
    assert_eq!(
        (rotate, hoisted, multiply, rescale, drop),
        (140, 350, 140, 48, 48)
    );
}

#[test]
#[cfg_attr(debug_assertions, ignore = "a bootstrap: run in release")]
fn bootstraps_take_no_more_transforms_than_they_did() {
    let params = ParamSet::insecure_test(10);
    for (slots, complex, expected) in [(512, true, 8329), (128, false, 5247), (1, false, 5364)] {
        let spec = BootstrapSpec::new(&params, slots, complex).unwrap();
        let mut bench = Bench::new(params.clone(), LEVEL, &[]);
        let mut request = sotto_ckks::KeyRequest::default();
        request.add_bootstrap(&spec, params.log_n);
        bench.keys = KeyGenerator::new(&bench.secret)
            .evaluation_keys(&request, |_, _| ())
            .unwrap();
        let ev = Evaluator::new(&bench.ctx, &bench.keys);
        let bootstrapper = Bootstrapper::new(&bench.ctx, &spec).unwrap();
        let mut values = random_slots(slots, 2);
        if !complex {
            values.iter_mut().for_each(|z| z.im = 0.0);
        }
        let ct = bench.encrypt(&values, spec.input_level);
        let count = transforms(&bench, || bootstrapper.apply(&ev, &ct));
        println!("{slots} slots, complex {complex}: {count}");
        assert_eq!(count, expected, "{slots} slots, complex {complex}");
    }
}
