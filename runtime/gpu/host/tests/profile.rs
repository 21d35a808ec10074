//! What a card is told to have done, and what it can do at best: counted and computed by the kernels on the processor.

mod common;

use common::{Pair, Words};
use num_complex::Complex64;
use sotto_ckks::engine::{Decomposed, Engine, Keep, Tables, Uses};
use sotto_ckks::linear::LinearTransform;
use sotto_ckks::{Encoder, Evaluator};
use sotto_gpu::{Kernel, Work};
use sotto_params::ParamSet;
use sotto_params::bootstrap::Bsgs;

fn work(words: usize, products: usize) -> Work {
    Work {
        bytes: 4 * words as u64,
        products: products as u64,
    }
}

#[test]
fn launches_are_counted_by_kernel_while_somebody_listens() {
    let (log_n, level) = (10, 6);
    let pair = Pair::new(ParamSet::insecure_test(log_n), level, &[1]);
    let (gpu, n, primes) = (&pair.gpu, 1 << log_n, pair.primes(level));
    let limbs = primes.len();
    let mut words = Words::new(1);
    let [a, b] = [(); 2].map(|()| gpu.upload(words.poly(&pair, &primes)));
    gpu.add(&a, &b);
    let (sum, figures) = gpu.profile(false, || {
        let product = gpu.mul(&a, &b);
        gpu.add(&gpu.add(&a, &b), &product)
    });
    let (ca, cb) = (gpu.download(&a), gpu.download(&b));
    let expected = pair
        .cpu
        .add(&pair.cpu.add(&ca, &cb), &pair.cpu.mul(&ca, &cb));
    pair.same("what was listened to", &expected, &sum);
    let mut found: Vec<_> = figures
        .iter()
        .map(|f| (f.kernel, f.launches, f.work))
        .collect();
    found.sort_by_key(|(kernel, ..)| *kernel);
    let each = limbs * n;
    let expected = [
        (Kernel::Add, 2, work(6 * each, 0)),
        (Kernel::Mul, 1, work(3 * each, 3 * each)),
    ];
    assert_eq!(found, expected);
    assert!(figures.iter().all(|f| f.seconds > 0.0));
    assert!(figures.is_sorted_by(|a, b| a.seconds >= b.seconds));
    let ((), none) = gpu.profile(false, || ());
    assert!(none.is_empty());
}

#[test]
fn work_is_what_a_key_switch_reads_writes_and_multiplies() {
    let (log_n, level) = (10, 6);
    let pair = Pair::new(ParamSet::insecure_test(log_n), level, &[]);
    let (gpu, n, primes) = (&pair.gpu, 1usize << log_n, pair.primes(level));
    let special = Tables::new(pair.cpu.context()).special().clone();
    let (limbs, all) = (primes.len(), primes.len() + special.len());
    let source = gpu.upload(Words::new(1).poly(&pair, &primes));
    let members = Tables::new(pair.cpu.context()).digits_of(&primes);
    let (digits, figures) = gpu.profile(false, || gpu.decompose(&source, &special, Uses::Once));
    let of = |kernel: Kernel| {
        let found = figures.iter().find(|f| f.kernel == kernel);
        found.map(|f| (f.launches as usize, f.work)).unwrap()
    };
    // the source's limbs go down once: 8 stages on rows, 2 on columns, each butterfly one product modulo a prime; and of the four rows and
    // what they share roots are made, 15 for 16 entries in each of two passes
    let butterflies = |stages: usize| 3 * stages * n / 2;
    let (roots, made) = (8 * 4 + 256, 3 * 2 * 15 * n / 16);
    let rows = work(limbs * (2 * n + roots), limbs * (butterflies(8) + made));
    assert_eq!(of(Kernel::InverseRows), (1, rows));
    let columns = work(limbs * (2 * n + 2 * 4), limbs * (butterflies(2) + 3 * n));
    assert_eq!(of(Kernel::InverseColumns), (1, columns));
    // and come up again modulo every prime but a digit's own
    let targets: usize = members.iter().map(|(_, own)| all - own.len()).sum();
    let up = work(targets * (2 * n + roots), targets * (butterflies(8) + made));
    assert_eq!(of(Kernel::ForwardRows), (members.len(), up));
    let conversion = |(_, own): &(usize, Vec<u16>)| {
        let (from, to) = (own.len(), all - own.len());
        let products = to * (from + 3) + to.div_ceil(8) * from;
        [(from + to) * n, products * n]
    };
    let sums = members.iter().map(conversion);
    let [moved, products] = sums.fold([0; 2], |s, w| [s[0] + w[0], s[1] + w[1]]);
    assert_eq!(of(Kernel::Convert), (members.len(), work(moved, products)));

    let key = pair.gpu_keys.get(sotto_ckks::KeyKind::Relinearization);
    let decomposed = Decomposed {
        source: &source,
        digits,
    };
    let (_, figures) = gpu.profile(false, || {
        gpu.key_product(&decomposed, key.unwrap(), [None; 2])
    });
    let digits = members.len();
    let expected = work(all * (3 * digits + 2) * n, all * 2 * (digits + 2) * n);
    let found: Vec<_> = figures.iter().map(|f| (f.kernel, f.work)).collect();
    assert_eq!(found, [(Kernel::KeyProduct, expected)]);
}

#[test]
fn a_sum_that_makes_its_rotations_reads_digits_once_and_keys_once() {
    // nine rotations, one of them by nothing, take two launches: of eight, and of one more
    let (log_n, level) = (10, 6);
    let bsgs = Bsgs::regular(512, 1, 0, 8, 9);
    let steps: Vec<i64> = bsgs.rotations().into_iter().map(|s| s as i64).collect();
    let pair = Pair::new(ParamSet::insecure_test(log_n), level, &steps);
    let (ctx, n) = (pair.cpu.context(), 1usize << log_n);
    let slots: Vec<Complex64> = (0..512).map(|i| Complex64::from(f64::from(i))).collect();
    let diagonals = bsgs.diagonals().into_iter().map(|d| (d, slots.clone()));
    let matrix = LinearTransform::on(&pair.gpu, &bsgs, &diagonals.collect(), level, Keep::Ready);
    let plain = Encoder::new(ctx).encode(&slots, level, 1).unwrap();
    let ev = Evaluator::on(&pair.gpu, &pair.gpu_keys);
    let ct = ev.upload(pair.secret.encrypt(&plain).unwrap());
    let (sum, figures) = pair.gpu.profile(false, || matrix.unwrap().apply(&ev, &ct));
    sum.unwrap();
    let found = figures.iter().find(|f| f.kernel == Kernel::RotatedSum);
    let found = found.map(|f| (f.launches, f.work)).unwrap();
    let (limbs, all) = (pair.primes(level).len(), pair.wide(level).len());
    let digits = Tables::new(ctx).digits_of(&pair.primes(level)).len();
    // digits, seven keys, eight diagonals, two halves of the sum; the first half
    let first = all * (digits + 2 * digits * 7 + 8 + 2) + limbs;
    // digits, one key, one diagonal, the sum read and written; the first half
    let second = all * (digits + 2 * digits + 1 + 4) + limbs;
    let sums = |keys: usize, diagonals: usize| {
        // keys, their reductions and the sum's two, diagonals by both halves
        all * (2 * digits * keys + 2 * 2 * (keys + 1) + 2 * diagonals)
    };
    // the first half of each, and the second of the one that is not rotated
    let products = sums(7, 8) + sums(1, 1) + 3 * limbs * (8 + 1 + 1);
    assert_eq!(found, (2, work((first + second) * n, products * n)));
}

#[test]
fn chains_multiply_what_they_say() {
    let pair = Pair::new(ParamSet::insecure_test(10), 2, &[]);
    let m = Tables::new(pair.cpu.context()).moduli()[0];
    let shrink = m.inv(m.to_mont(1));
    for rounds in [0, 1, 5] {
        let sums = pair.gpu.multiply_chains(3, rounds);
        assert_eq!(sums.len(), 3 * 256);
        for (i, sum) in (0..).zip(sums) {
            let chain = |x: u32| (0..rounds).fold(x, |x, _| m.mul(m.mul(x, x), shrink));
            let expected = (i..i + 8).map(chain).fold(0, |a, b| (a + b) % m.p);
            assert_eq!(sum, expected, "thread {i}, {rounds} rounds");
        }
    }
    let (_, figures) = pair.gpu.profile(false, || pair.gpu.multiply_chains(3, 5));
    assert_eq!(figures[0].work, work(3 * 256, 3 * 256 * 5 * 8 * 3));
}

#[test]
fn a_card_has_rates_and_a_yardstick() {
    let pair = Pair::new(ParamSet::insecure_test(10), 2, &[]);
    let rates = pair.gpu.rates(1 << 20, 16);
    assert!(rates.bytes > 1e6 && rates.products > 1e6, "{rates:?}");
    let yardstick = pair.gpu.yardstick().seconds(2);
    assert!(yardstick > 1e-9 && yardstick.is_finite(), "{yardstick}");
}
