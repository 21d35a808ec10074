//! Every operation of the engine, on the kernels and on the processor: the same residues, from random and from extreme ones.

mod common;

use common::{Pair, Words};
use sotto_ckks::KeyKind;
use sotto_ckks::engine::{Carry, Decomposed, Division, Engine, Primes, Switch, Tables, Uses};
use sotto_params::{ParamSet, galois};

/// The engine's operations at one level of a parameter set.
fn operations(params: ParamSet, level: usize) {
    let pair = Pair::new(params, level, &[1, 5]);
    let mut words = Words::new(level as u64);
    let (cpu, gpu) = (&pair.cpu, &pair.gpu);
    let primes = pair.primes(level);
    let polys: Vec<_> = (0..20).map(|_| words.poly(&pair, &primes)).collect();
    let on_gpu: Vec<_> = polys.iter().map(|p| gpu.upload(p.clone())).collect();
    let same = |what: &str, a: &_, b: &_| pair.same(&format!("{what} at level {level}"), a, b);
    let (a, b, c) = (&polys[0], &polys[1], &polys[2]);
    let (ga, gb, gc) = (&on_gpu[0], &on_gpu[1], &on_gpu[2]);

    same("add", &cpu.add(a, b), &gpu.add(ga, gb));
    same("sub", &cpu.sub(a, b), &gpu.sub(ga, gb));
    same("negate", &cpu.negate(a), &gpu.negate(ga));
    same("mul", &cpu.mul(a, b), &gpu.mul(ga, gb));
    same("zero", &cpu.zero(&primes), &gpu.zero(&primes));
    let few: Primes = primes[..primes.len().div_ceil(2)].into();
    let (short, gshort) = (cpu.restrict(a, &few), gpu.restrict(ga, &few));
    same("restrict", &short, &gshort);
    same(
        "mul of fewer primes",
        &cpu.mul(&short, b),
        &gpu.mul(&gshort, gb),
    );

    let (mut x, mut gx) = (c.clone(), gc.clone());
    cpu.add_assign(&mut x, a);
    gpu.add_assign(&mut gx, ga);
    same("add_assign", &x, &gx);
    cpu.mul_add_assign(&mut x, a, b);
    gpu.mul_add_assign(&mut gx, ga, gb);
    same("mul_add_assign", &x, &gx);
    let halves: Vec<[u32; 2]> = primes.iter().map(|&p| words.two(&pair, p)).collect();
    cpu.add_constant(&mut x, &halves);
    gpu.add_constant(&mut gx, &halves);
    same("add_constant", &x, &gx);
    let integer: Vec<u32> = halves.iter().map(|h| h[0]).collect();
    cpu.add_multiple(&mut x, b, &integer);
    gpu.add_multiple(&mut gx, gb, &integer);
    same("add_multiple", &x, &gx);
    same("what was copied and not changed", c, gc);
    let beside = gpu.put_beside(&gx);
    drop(gx);
    same("fetched", &x, &gpu.fetch(&beside));
    same("fetched again", &x, &gpu.fetch(&beside.clone()));
    same("scale", &cpu.scale(a, &halves), &gpu.scale(ga, &halves));

    for terms in [1, 8, 9, 20] {
        let weights: Vec<Vec<u32>> = (0..terms)
            .map(|_| primes.iter().map(|&p| words.two(&pair, p)[0]).collect())
            .collect();
        let of = |polys: &[_]| polys.len();
        assert!(of(&polys) >= terms);
        let on_cpu: Vec<_> = polys.iter().zip(weights.iter().cloned()).collect();
        let gpu_terms: Vec<_> = on_gpu.iter().zip(weights.iter().cloned()).collect();
        same("combine", &cpu.combine(&on_cpu), &gpu.combine(&gpu_terms));
    }
    for pairs in [1, 3, 17] {
        let at = |i: usize| [[i, i + 1], [(i + 2) % 20, (i + 3) % 20]];
        let on_cpu: Vec<_> = (0..pairs)
            .map(|i| at(i).map(|h| h.map(|k| &polys[k])))
            .collect();
        let gpu_pairs: Vec<_> = (0..pairs)
            .map(|i| at(i).map(|h| h.map(|k| &on_gpu[k])))
            .collect();
        let parts = cpu
            .products(&on_cpu)
            .into_iter()
            .zip(gpu.products(&gpu_pairs));
        parts.for_each(|(x, y)| same("products", &x, &y));
    }
    divisions(&pair, level, &mut words);
    switches(&pair, level, &mut words);
}

fn divisions(pair: &Pair, level: usize, words: &mut Words) {
    let (cpu, gpu) = (&pair.cpu, &pair.gpu);
    let same = |what: &str, a: &_, b: &_| pair.same(&format!("{what} at level {level}"), a, b);
    let special = Tables::new(cpu.context()).special().clone();
    let (from, wide) = (pair.primes(level), pair.wide(level));
    let x: Vec<_> = (0..2).map(|_| words.poly(pair, &wide)).collect();
    let gx: Vec<_> = x.iter().map(|p| gpu.upload(p.clone())).collect();
    let low = [0, level.saturating_sub(1), level];
    for (to, factor, with_special) in [
        (low[2], 1, true),
        (low[1], 1, true),
        (low[1], 1 << 70, false),
        (low[0], 12345, false),
    ] {
        let to = pair.primes(to);
        let only = |a: &Primes, b: &Primes| -> Vec<u16> {
            a.iter().copied().filter(|p| !b.contains(p)).collect()
        };
        let mut drop = only(&from, &to);
        // a conversion takes no more sources; a rescale on the way from QP is the most there is
        drop.truncate(15 - if with_special { special.len() } else { 0 });
        if with_special {
            drop.extend(special.iter());
        }
        if drop.is_empty() {
            continue;
        }
        let division = Division {
            drop: &drop,
            bring: &only(&to, &from),
            factor,
        };
        for element in [1, 5, galois::conjugation(cpu.context().params().log_n)] {
            let quotients = cpu.divide([&x[0], &x[1]], &division, &to, element);
            let on_gpu = gpu.divide([&gx[0], &gx[1]], &division, &to, element);
            for (q, gq) in quotients.iter().zip(&on_gpu) {
                same("divide", q, gq);
            }
        }
    }
    if level > 0 {
        let bottom = words.poly(pair, &pair.primes(0));
        let raised = gpu.raise(&gpu.upload(bottom.clone()), &from);
        same("raise", &cpu.raise(&bottom, &from), &raised);
    }
    let narrow = words.poly(pair, &from);
    let times = gpu.times_p(&gpu.upload(narrow.clone()), &wide);
    same("times_p", &cpu.times_p(&narrow, &wide), &times);
}

fn switches(pair: &Pair, level: usize, words: &mut Words) {
    let (cpu, gpu) = (&pair.cpu, &pair.gpu);
    let same = |what: &str, a: &_, b: &_| pair.same(&format!("{what} at level {level}"), a, b);
    let special = Tables::new(cpu.context()).special().clone();
    let (primes, wide) = (pair.primes(level), pair.wide(level));
    let c: Vec<_> = (0..3).map(|_| words.poly(pair, &primes)).collect();
    let gc: Vec<_> = c.iter().map(|p| gpu.upload(p.clone())).collect();
    let log_n = cpu.context().params().log_n;
    let elements = [1, 5].map(|step| galois::rotation(step, log_n));
    let keys = elements.map(|e| pair.keys.get(KeyKind::Galois(e)).unwrap());
    let gkeys = elements.map(|e| pair.gpu_keys.get(KeyKind::Galois(e)).unwrap());

    let gdigits = &Decomposed {
        source: &gc[0],
        digits: gpu.decompose(&gc[0], &special, Uses::Many),
    };
    for uses in [Uses::Once, Uses::Many] {
        let digits = &Decomposed {
            source: &c[0],
            digits: cpu.decompose(&c[0], &special, uses),
        };
        for carry in [[None, None], [Some(1), None], [Some(1), Some(2)]] {
            let x = cpu.key_product(digits, keys[0], carry.map(|i| i.map(|i: usize| &c[i])));
            let y = gpu.key_product(gdigits, gkeys[0], carry.map(|i| i.map(|i: usize| &gc[i])));
            x.iter()
                .zip(&y)
                .for_each(|(x, y)| same("key_product", x, y));
        }
        let added = words.poly(pair, &wide);
        let gadded = gpu.upload(added.clone());
        for (carry, gcarry) in [
            (Carry::TimesP(&c[1]), Carry::TimesP(&gc[1])),
            (Carry::Wide(&added), Carry::Wide(&gadded)),
        ] {
            let start = [(); 2].map(|()| words.poly(pair, &wide));
            let mut gsum = start.clone().map(|half| gpu.upload(half));
            let mut sum = start;
            let on = |(element, key)| Switch {
                element,
                decomposed: digits,
                key,
            };
            let switches = [on((elements[0], &**keys[0])), on((elements[1], &**keys[1]))];
            cpu.add_switched(&mut sum, &switches, carry);
            let on = |(element, key)| Switch {
                element,
                decomposed: gdigits,
                key,
            };
            let switches = [
                on((elements[0], &**gkeys[0])),
                on((elements[1], &**gkeys[1])),
            ];
            gpu.add_switched(&mut gsum, &switches, gcarry);
            sum.iter()
                .zip(&gsum)
                .for_each(|(x, y)| same("add_switched", x, y));
        }
    }
}

#[test]
fn on_small_rings() {
    for log_n in 9..=14 {
        let params = ParamSet::insecure_test(log_n);
        let top = params.top_level();
        for level in [0, 1, 2, top / 2, top] {
            operations(params.clone(), level);
        }
    }
}

#[test]
fn on_the_ring_that_is_used() {
    let params = ParamSet::secure_128();
    let top = params.top_level();
    operations(params.clone(), top);
    operations(params, 4);
}

#[test]
fn what_lies_beside_is_what_was_put_there_however_often_places_are_used_again() {
    let pair = Pair::new(ParamSet::insecure_test(12), 16, &[]);
    let (gpu, primes) = (&pair.gpu, pair.primes(16));
    let mut words = Words::new(7);
    let first = words.poly(&pair, &primes);
    let (mut expected, mut sum) = (first.clone(), gpu.upload(first));
    let mut waiting = std::collections::VecDeque::new();
    for round in 0..60 {
        let one = words.poly(&pair, &primes);
        pair.cpu.add_assign(&mut expected, &one);
        // put there while it is still being computed, and its place in memory taken by others at once
        let twice = gpu.sub(&gpu.upload(one), &sum);
        waiting.push_back((gpu.put_beside(&twice), gpu.put_beside(&sum)));
        drop(twice);
        sum = gpu.zero(&primes);
        if waiting.len() > round % 3 {
            while let Some((difference, part)) = waiting.pop_front() {
                let [difference, part] = [difference, part].map(|b| gpu.fetch(&b));
                sum = gpu.add(&sum, &gpu.add(&difference, &gpu.add(&part, &part)));
            }
        }
    }
    for (difference, part) in waiting {
        let [difference, part] = [difference, part].map(|b| gpu.fetch(&b));
        sum = gpu.add(&sum, &gpu.add(&difference, &gpu.add(&part, &part)));
    }
    pair.same("a sum that was put beside again and again", &expected, &sum);
}
