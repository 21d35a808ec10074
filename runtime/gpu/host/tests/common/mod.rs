//! The two engines, and words for them to work on.
#![allow(dead_code, reason = "each test file uses its part")]

use sotto_ckks::engine::{Cpu, Engine, Primes, RnsPoly, Tables};
use sotto_ckks::{Context, EvaluationKeys, KeyGenerator, KeyRequest, SecretKey};
use sotto_gpu::{Gpu, GpuPoly};
use sotto_gpu_host::Any;
use sotto_params::{ParamSet, galois};

/// One context on the processor and on the kernels, with keys.
pub struct Pair {
    pub secret: SecretKey,
    pub cpu: Cpu,
    pub gpu: Gpu<Any>,
    pub keys: EvaluationKeys,
    pub gpu_keys: EvaluationKeys<GpuPoly<Any>>,
}

impl Pair {
    /// Keys for products, the conjugation and some rotations at one level.
    pub fn new(params: ParamSet, level: usize, steps: &[i64]) -> Self {
        let log_n = params.log_n;
        let mut request = KeyRequest::default();
        request.add_relinearization(level);
        request.add_galois(galois::conjugation(log_n), level);
        for &step in steps {
            request.add_galois(galois::rotation(step, log_n), level);
        }
        Self::with_keys(params, &request)
    }

    pub fn with_keys(params: ParamSet, request: &KeyRequest) -> Self {
        let ctx = Context::new(params).unwrap();
        let secret = SecretKey::generate(&ctx).unwrap();
        let made = KeyGenerator::new(&secret).evaluation_keys(request, |_, _| ());
        let (keys, gpu) = (made.unwrap(), Gpu::new(Any::chosen(), &ctx).unwrap());
        Self {
            secret,
            cpu: Cpu::new(&ctx),
            gpu_keys: keys.clone().upload(&gpu).unwrap(),
            gpu,
            keys,
        }
    }

    pub fn primes(&self, level: usize) -> Primes {
        let levels = &self.cpu.context().params().levels;
        levels[level].primes.iter().copied().collect()
    }

    /// The primes of a level, then the special ones.
    pub fn wide(&self, level: usize) -> Primes {
        let special = Tables::new(self.cpu.context()).special().clone();
        let own = self.primes(level);
        own.iter().chain(special.iter()).copied().collect()
    }

    /// Fails where a residue differs.
    pub fn same(&self, what: &str, a: &RnsPoly, b: &GpuPoly<Any>) {
        let b = self.gpu.download(b);
        assert_eq!(a.primes(), b.primes(), "{what}");
        let n = self.cpu.context().params().n();
        let differs = a.words().iter().zip(b.words()).position(|(a, b)| a != b);
        if let Some(i) = differs {
            panic!(
                "{what}, N = {n}: limb {} of {}, word {}: {} and {}",
                i / n,
                a.primes().len(),
                i % n,
                a.words()[i],
                b.words()[i]
            );
        }
    }
}

/// Reproducible residues, the extreme ones often.
pub struct Words(u64);

impl Words {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }

    fn residue(&mut self, p: u32, extreme: bool) -> u32 {
        let word = self.next();
        match (extreme, word % 8) {
            (true, 0) => 0,
            (true, 1) => 1,
            (true, 2..6) => p - 1,
            _ => ((word >> 3) % u64::from(p)) as u32,
        }
    }

    /// Every third polynomial is mostly of the largest residues.
    pub fn poly(&mut self, pair: &Pair, primes: &Primes) -> RnsPoly {
        let (moduli, n) = (
            Tables::new(pair.cpu.context()).moduli(),
            pair.cpu.context().params().n(),
        );
        let extreme = self.next().is_multiple_of(3);
        let mut words = Vec::with_capacity(primes.len() * n);
        for &prime in primes.iter() {
            let p = moduli[usize::from(prime)].p;
            words.extend((0..n).map(|_| self.residue(p, extreme)));
        }
        RnsPoly::from_words(pair.cpu.context(), primes, &words)
    }

    /// Two residues of a prime.
    pub fn two(&mut self, pair: &Pair, prime: u16) -> [u32; 2] {
        let p = Tables::new(pair.cpu.context()).moduli()[usize::from(prime)].p;
        [self.residue(p, true), self.residue(p, true)]
    }
}
