//! Moduli, transforms and cached tables of one ring.

use super::Modulus;
use super::convert::BaseConversion;
use super::permute::Permutation;
use crate::error::{CkksError, Result};
use concrete_ntt::prime32::Plan;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

/// Primes of a polynomial, as indices into the ring's primes: the Q-primes of the parameter set first, then the special primes.
pub type Primes = Arc<[u16]>;

/// What a conversion table is filed under: source primes, target primes.
type ConversionKey = (Vec<u16>, Vec<u16>);

/// The ring's moduli and transforms, and tables made on first use.
pub(crate) struct Ring {
    pub(crate) n: usize,
    pub(crate) log_n: u32,
    moduli: Vec<Modulus>,
    plans: Vec<Plan>,
    n_inv_mont: Vec<u32>,
    imaginary: Vec<u32>,
    conversions: RwLock<HashMap<ConversionKey, Arc<BaseConversion>>>,
    permutations: RwLock<HashMap<u32, Arc<Permutation>>>,
    /// Transforms so far, of either direction.
    transforms: AtomicU64,
}

impl Ring {
    pub(crate) fn new(log_n: u32, primes: &[u32]) -> Result<Self> {
        let n = 1usize << log_n;
        let plans = primes
            .iter()
            .map(|&prime| Plan::try_new(n, prime).ok_or(CkksError::NoTransform { n, prime }))
            .collect::<Result<Vec<_>>>()?;
        let moduli: Vec<Modulus> = primes.iter().map(|&p| Modulus::new(p)).collect();
        let n_inv_mont = moduli
            .iter()
            .map(|m| m.to_mont(m.inv(m.reduce_u64(n as u64))))
            .collect();
        let imaginary = plans.iter().map(|plan| imaginary_unit(n, plan)).collect();
        Ok(Self {
            n,
            log_n,
            moduli,
            plans,
            n_inv_mont,
            imaginary,
            conversions: RwLock::default(),
            permutations: RwLock::default(),
            transforms: AtomicU64::new(0),
        })
    }

    pub(crate) fn modulus(&self, prime: u16) -> Modulus {
        self.moduli[usize::from(prime)]
    }

    /// Forward transform of one limb.
    pub(crate) fn forward(&self, prime: u16, limb: &mut [u32]) {
        self.transforms.fetch_add(1, Ordering::Relaxed);
        self.plans[usize::from(prime)].fwd(limb);
    }

    /// Inverse transform of one limb.
    pub(crate) fn inverse(&self, prime: u16, limb: &mut [u32]) {
        self.inverse_times_n(prime, limb);
        super::kernels::mul_scalar(
            limb,
            self.n_inv_mont[usize::from(prime)],
            self.modulus(prime),
        );
    }

    /// Inverse transform without the division by N, for callers that fold it into a constant.
    pub(crate) fn inverse_times_n(&self, prime: u16, limb: &mut [u32]) {
        self.transforms.fetch_add(1, Ordering::Relaxed);
        self.plans[usize::from(prime)].inv(limb);
    }

    /// Transforms so far, of either direction.
    pub(crate) fn transforms(&self) -> u64 {
        self.transforms.load(Ordering::Relaxed)
    }

    /// The conversion table from one prime set to another (see [`BaseConversion`]).
    pub(crate) fn conversion(&self, from: &[u16], to: &[u16]) -> Arc<BaseConversion> {
        cached(&self.conversions, (from.to_vec(), to.to_vec()), || {
            BaseConversion::new(self, from, to)
        })
    }

    /// Where each transformed value comes from under X → X^element.
    pub(crate) fn permutation(&self, element: u32) -> Arc<Permutation> {
        cached(&self.permutations, element, || {
            Permutation::new(element, self.log_n)
        })
    }

    /// The root of unity of order 2N behind the transforms: entry i of a transformed limb is the value at ψ^(2·rev(i)+1).
    pub(crate) fn root(&self, prime: u16) -> u32 {
        let mut monomial = vec![0; self.n];
        monomial[1] = 1;
        self.plans[usize::from(prime)].fwd(&mut monomial);
        monomial[0]
    }

    /// The square root of -1 that X^(N/2) takes in the first half of a transformed limb (it takes the other one in the second half).
    pub(crate) fn imaginary(&self, prime: u16) -> u32 {
        self.imaginary[usize::from(prime)]
    }

    /// Product of primes modulo another.
    pub(crate) fn product_mod(&self, primes: &[u16], modulus: Modulus) -> u32 {
        primes.iter().fold(1, |acc, &i| {
            modulus.mul(acc, modulus.reduce_u64(u64::from(self.modulus(i).p)))
        })
    }
}

/// Entry i of a transformed limb is the value at ψ^e with e = 2·rev(i) + 1, and e mod 4 depends on the highest bit of i only.
fn imaginary_unit(n: usize, plan: &Plan) -> u32 {
    let mut monomial = vec![0; n];
    monomial[n / 2] = 1;
    plan.fwd(&mut monomial);
    monomial[0]
}

fn cached<K: Hash + Eq, V>(
    map: &RwLock<HashMap<K, Arc<V>>>,
    key: K,
    make: impl FnOnce() -> V,
) -> Arc<V> {
    cached_arc(map, key, || Arc::new(make()))
}

fn cached_arc<K: Hash + Eq, V: ?Sized>(
    map: &RwLock<HashMap<K, Arc<V>>>,
    key: K,
    make: impl FnOnce() -> Arc<V>,
) -> Arc<V> {
    if let Some(found) = map.read().unwrap_or_else(|e| e.into_inner()).get(&key) {
        return found.clone();
    }
    let made = make();
    map.write()
        .unwrap_or_else(|e| e.into_inner())
        .entry(key)
        .or_insert(made)
        .clone()
}
