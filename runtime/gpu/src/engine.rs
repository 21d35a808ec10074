//! The engine: every operation as launches.

use crate::args::{self, MOST_COMBINED, MOST_LIMBS, MOST_TERMS, NONE};
use crate::device::{Device, Kernel};
use crate::keyswitch::Carried;
use crate::launch::{Pick, limbs_in, limbs_of};
use crate::poly::{Diagonal, GpuBeside, GpuDiagonal, GpuDigits, GpuPoly};
use crate::profile::Profile;
use crate::tables::{Resident, resident};
use bytemuck::Zeroable;
use sotto_ckks::engine::{
    Babies, Carry, Coefficients, Decomposed, Division, Engine, Giant, Keep, Primes, RnsPoly,
    Switch, Tables, Uses,
};
use sotto_ckks::{CkksError, Context, SwitchingKey, Yardstick};
use sotto_params::galois;
use std::fmt;
use std::sync::Arc;

/// Computes on a device.
pub struct Gpu<D: Device> {
    inner: Arc<Inner<D>>,
}

struct Inner<D: Device> {
    device: D,
    ctx: Context,
    resident: Resident<D>,
    rotated_words: usize,
    listener: Profile<D>,
}

/// Words that the rotated ciphertexts and expanded diagonals of a linear transform take at a time.
const ROTATED_WORDS: usize = 1 << 27;

impl<D: Device> Clone for Gpu<D> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<D: Device> fmt::Debug for Gpu<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({})", self.device().name())
    }
}

impl<D: Device> Gpu<D> {
    /// The engine of a context on a device.
    ///
    /// # Errors
    /// If the ring is larger or has more primes than kernels take, or the device fails.
    pub fn new(device: D, ctx: &Context) -> Result<Self, CkksError> {
        Self::with_rotated_words(device, ctx, ROTATED_WORDS)
    }

    /// The same, where the rotated ciphertexts and expanded diagonals of a linear transform take no more than so many words at a time, but for one limb of each.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    pub fn with_rotated_words(
        device: D,
        ctx: &Context,
        rotated_words: usize,
    ) -> Result<Self, CkksError> {
        let resident = Resident::new(&device, ctx)?;
        let ctx = ctx.clone();
        Ok(Self {
            inner: Arc::new(Inner {
                device,
                ctx,
                resident,
                rotated_words,
                listener: Profile::default(),
            }),
        })
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.inner.device
    }

    pub(crate) fn rotated_words(&self) -> usize {
        self.inner.rotated_words
    }

    pub(crate) fn listener(&self) -> &Profile<D> {
        &self.inner.listener
    }

    pub(crate) fn resident(&self) -> &Resident<D> {
        &self.inner.resident
    }

    pub(crate) fn context_of(&self) -> &Context {
        &self.inner.ctx
    }

    pub(crate) fn log_n(&self) -> u32 {
        self.inner.ctx.params().log_n
    }

    /// Memory of a polynomial that may be written to: its own, or a copy.
    fn own<'a>(&self, a: &'a mut GpuPoly<D>) -> &'a D::Memory {
        if Arc::get_mut(&mut a.memory).is_none() {
            *a = self.mapped(Kernel::Copy, &a.primes.clone(), a, None);
        }
        &a.memory
    }

    /// What a map writes that changes `a`, its other operand being limbs of `b`.
    fn change(&self, a: &mut GpuPoly<D>, b: &GpuPoly<D>) -> args::Map {
        let out = self.address(self.own(a));
        let mut args = self.map(out, &a.primes);
        args.a = self.address(&b.memory);
        args.a_limb = limbs_in(b, &a.primes);
        args
    }

    /// Per limb constants in Montgomery form.
    fn montgomery(
        &self,
        primes: &Primes,
        constants: impl Iterator<Item = u32>,
    ) -> [u32; MOST_LIMBS] {
        let mut out = [0; MOST_LIMBS];
        for ((out, &prime), c) in out.iter_mut().zip(primes.iter()).zip(constants) {
            *out = self.modulus(prime).to_mont(c);
        }
        out
    }
}

impl<D: Device> Engine for Gpu<D> {
    type Poly = GpuPoly<D>;
    type Digits = GpuDigits<D>;
    type Diagonal = GpuDiagonal<D>;
    type Beside = GpuBeside<D>;

    fn context(&self) -> &Context {
        &self.inner.ctx
    }

    fn describe(&self) -> String {
        self.device().name()
    }

    fn check(&self) -> Result<(), CkksError> {
        self.device().check().map_err(|why| CkksError::Device {
            device: self.device().name(),
            why,
        })
    }

    fn wait(&self) {
        self.device().wait();
    }

    fn yardstick(&self) -> Yardstick {
        let gpu = self.clone();
        Yardstick::new(move |count| gpu.transform_seconds(count))
    }

    fn upload(&self, poly: RnsPoly) -> GpuPoly<D> {
        GpuPoly::new(resident(self.device(), poly.words()), poly.primes())
    }

    fn download(&self, poly: &GpuPoly<D>) -> RnsPoly {
        let mut words = vec![0; poly.primes.len() << self.log_n()];
        self.device().read(&poly.memory, &mut words);
        RnsPoly::from_words(self.context(), &poly.primes, &words)
    }

    fn diagonal(&self, coefficients: &Coefficients, primes: &Primes, keep: Keep) -> GpuDiagonal<D> {
        match (coefficients.words(), keep) {
            (Some(words), Keep::Compact) => self.compact(words),
            (Some(words), Keep::Beside) => self.compact_beside(words),
            _ => {
                let words = coefficients.diagonal(self.context(), primes);
                let limb = words.len() / primes.len();
                GpuDiagonal(Diagonal::Ready {
                    memory: resident(self.device(), &words),
                    words: words.len(),
                    run: self.log_n() - limb.trailing_zeros(),
                })
            }
        }
    }

    fn put_beside(&self, poly: &GpuPoly<D>) -> GpuBeside<D> {
        let words = poly.primes.len() << self.log_n();
        GpuBeside {
            words: Arc::new(self.device().put_beside(&poly.memory, words)),
            primes: poly.primes.clone(),
        }
    }

    fn fetch(&self, beside: &GpuBeside<D>) -> GpuPoly<D> {
        GpuPoly::new(self.device().fetch(&[&beside.words]), &beside.primes)
    }

    fn primes<'a>(&self, poly: &'a GpuPoly<D>) -> &'a Primes {
        &poly.primes
    }

    fn diagonal_bytes(&self, diagonal: &GpuDiagonal<D>) -> usize {
        match &diagonal.0 {
            Diagonal::Ready { words, .. } | Diagonal::Compact { words, .. } => {
                size_of::<u32>() * words
            }
            Diagonal::Beside { .. } => 0,
        }
    }

    fn zero(&self, primes: &Primes) -> GpuPoly<D> {
        let out = self.alloc_limbs(primes.len());
        let mut args = self.map(self.address(&out), primes);
        args.a_limb = [NONE; MOST_LIMBS];
        self.launch(Kernel::Copy, self.each_word(primes.len()), &args);
        GpuPoly::new(out, primes)
    }

    fn restrict(&self, a: &GpuPoly<D>, primes: &Primes) -> GpuPoly<D> {
        self.mapped(Kernel::Copy, primes, a, None)
    }

    fn add(&self, a: &GpuPoly<D>, b: &GpuPoly<D>) -> GpuPoly<D> {
        self.mapped(Kernel::Add, &a.primes, a, Some(b))
    }

    fn add_assign(&self, a: &mut GpuPoly<D>, b: &GpuPoly<D>) {
        let mut args = self.change(a, b);
        args.b = args.out;
        self.launch(Kernel::Add, self.each_word(a.primes.len()), &args);
    }

    fn sub(&self, a: &GpuPoly<D>, b: &GpuPoly<D>) -> GpuPoly<D> {
        self.mapped(Kernel::Sub, &a.primes, a, Some(b))
    }

    fn negate(&self, a: &GpuPoly<D>) -> GpuPoly<D> {
        self.mapped(Kernel::Negate, &a.primes, a, None)
    }

    fn mul(&self, a: &GpuPoly<D>, b: &GpuPoly<D>) -> GpuPoly<D> {
        self.mapped(Kernel::Mul, &a.primes, a, Some(b))
    }

    fn mul_add_assign(&self, acc: &mut GpuPoly<D>, a: &GpuPoly<D>, b: &GpuPoly<D>) {
        let mut args = self.change(acc, a);
        args.b = self.address(&b.memory);
        args.b_limb = limbs_in(b, &acc.primes);
        self.launch(Kernel::MulAdd, self.each_word(acc.primes.len()), &args);
    }

    fn scale(&self, a: &GpuPoly<D>, c: &[[u32; 2]]) -> GpuPoly<D> {
        let out = self.alloc_limbs(a.primes.len());
        let mut args = self.map(self.address(&out), &a.primes);
        args.a = self.address(&a.memory);
        args.low = self.montgomery(&a.primes, c.iter().map(|c| c[0]));
        args.high = self.montgomery(&a.primes, c.iter().map(|c| c[1]));
        self.launch(Kernel::Scale, self.each_word(a.primes.len()), &args);
        GpuPoly::new(out, &a.primes)
    }

    fn add_constant(&self, a: &mut GpuPoly<D>, c: &[[u32; 2]]) {
        let out = self.address(self.own(a));
        let mut args = self.map(out, &a.primes);
        args.a = out;
        for (i, &[low, high]) in c.iter().enumerate() {
            (args.low[i], args.high[i]) = (low, high);
        }
        self.launch(Kernel::AddConstant, self.each_word(a.primes.len()), &args);
    }

    fn combine(&self, terms: &[(&GpuPoly<D>, Vec<u32>)]) -> GpuPoly<D> {
        let primes = &terms[0].0.primes;
        let out = self.alloc_limbs(primes.len());
        let mut args = args::Combination::zeroed();
        args.out = self.address(&out);
        args.primes = self.address(&self.resident().primes);
        args.log_n = self.log_n();
        args.prime[..primes.len()].copy_from_slice(primes);
        for chunk in terms.chunks(MOST_COMBINED) {
            for (j, (a, c)) in chunk.iter().enumerate() {
                args.a[j] = self.address(&a.memory);
                args.factor[j] = self.montgomery(primes, c.iter().copied());
            }
            args.terms = chunk.len() as u32;
            self.launch(Kernel::Combine, self.each_word(primes.len()), &args);
            args.more = 1;
        }
        GpuPoly::new(out, primes)
    }

    fn add_multiple(&self, a: &mut GpuPoly<D>, b: &GpuPoly<D>, c: &[u32]) {
        let mut args = self.change(a, b);
        args.low = self.montgomery(&a.primes, c.iter().copied());
        args.high = args.low;
        self.launch(Kernel::ScaleAdd, self.each_word(a.primes.len()), &args);
    }

    fn products(&self, pairs: &[[[&GpuPoly<D>; 2]; 2]]) -> [GpuPoly<D>; 3] {
        let primes = &pairs[0][0][0].primes;
        let out = [(); 3].map(|()| self.alloc_limbs(primes.len()));
        let mut args = args::Products::zeroed();
        args.out = out.each_ref().map(|part| self.address(part));
        args.primes = self.address(&self.resident().primes);
        args.log_n = self.log_n();
        args.prime[..primes.len()].copy_from_slice(primes);
        for chunk in pairs.chunks(MOST_TERMS) {
            for (to, [[a0, a1], [b0, b1]]) in args.pair.iter_mut().zip(chunk) {
                *to = [a0, a1, b0, b1].map(|poly| self.address(&poly.memory));
            }
            args.pairs = chunk.len() as u32;
            self.launch(Kernel::Products, self.each_word(primes.len()), &args);
            args.more = 1;
        }
        out.map(|part| GpuPoly::new(part, primes))
    }

    fn decompose(&self, c: &GpuPoly<D>, special: &Primes, _uses: Uses) -> GpuDigits<D> {
        self.digits(c, special)
    }

    fn key_product(
        &self,
        decomposed: &Decomposed<'_, Self>,
        key: &SwitchingKey<GpuPoly<D>>,
        halves: [Option<&GpuPoly<D>>; 2],
    ) -> [GpuPoly<D>; 2] {
        let all = &decomposed.digits.primes;
        let special = &all[decomposed.source.primes.len()..];
        let out = [(); 2].map(|()| self.alloc_limbs(all.len()));
        let to = out.each_ref().map(|half| self.address(half));
        let factor = self.times_special(special, all);
        let carried = Carried { halves, factor };
        self.key_product_to(to, all, decomposed, key, &carried, (1, false));
        out.map(|half| GpuPoly::new(half, all))
    }

    fn add_switched(
        &self,
        sum: &mut [GpuPoly<D>; 2],
        switches: &[Switch<'_, Self>],
        carry: Carry<'_, GpuPoly<D>>,
    ) {
        let all = sum[0].primes.clone();
        let to = sum.each_mut().map(|half| self.address(self.own(half)));
        let (carry, factor) = match carry {
            Carry::TimesP(c) => {
                let special = Tables::new(self.context()).special();
                (c, self.times_special(special, &all))
            }
            Carry::Wide(c) => (c, self.montgomery(&all, all.iter().map(|_| 1))),
        };
        let carried = Carried {
            halves: [Some(carry), None],
            factor,
        };
        for s in switches {
            self.key_product_to(to, &all, s.decomposed, s.key, &carried, (s.element, true));
        }
    }

    fn times_p(&self, a: &GpuPoly<D>, wide: &Primes) -> GpuPoly<D> {
        let out = self.alloc_limbs(wide.len());
        let mut args = self.map(self.address(&out), wide);
        args.a = self.address(&a.memory);
        args.a_limb = limbs_of(a, wide);
        let special = Tables::new(self.context()).special();
        args.low = self.times_special(special, wide);
        args.high = args.low;
        self.launch(Kernel::Scale, self.each_word(wide.len()), &args);
        GpuPoly::new(out, wide)
    }

    fn inner_sums(
        &self,
        babies: &Babies<'_, Self>,
        giants: &[Giant<Self>],
    ) -> Vec<[GpuPoly<D>; 2]> {
        self.giant_sums(babies, giants)
    }

    fn divide<const K: usize>(
        &self,
        polys: [&GpuPoly<D>; K],
        division: &Division<'_>,
        to: &Primes,
        element: u32,
    ) -> [GpuPoly<D>; K] {
        let Some(first) = polys.first() else {
            return polys.map(Clone::clone);
        };
        assert!(
            polys.iter().all(|p| p.primes == first.primes),
            "a batch has one list of primes"
        );
        let tables = Tables::new(self.context());
        // k·ΠU modulo a prime
        let multiplier = |prime: u16| {
            let m = self.modulus(prime);
            let k = (division.factor % u128::from(m.p)) as u32;
            m.mul(k, tables.product_mod(division.bring, m))
        };
        let table = self
            .resident()
            .conversion(self.device(), self.context(), division.drop, to);
        let pick = |(&prime, &factor): (&u16, &u32)| Pick {
            limb: first
                .limb_of(prime)
                .expect("primes dropped are the input's"),
            prime,
            factor: self.modulus(prime).mul(factor, multiplier(prime)),
        };
        let picks: Vec<Pick> = division.drop.iter().zip(&table.factors).map(pick).collect();
        let sources = self.coefficients(polys.map(|x| &*x.memory), &picks);
        let rest = sources.map(|from| self.convert(self.address(&from), division.drop, to));
        let out = polys.map(|_| self.alloc_limbs(to.len()));

        let mut args = self.transform(to.iter().copied(), false);
        // entries go where the inverse automorphism fetches them from
        args.element = galois::inverse(element, self.log_n());
        args.dividend_limb = limbs_of(first, to);
        for (i, &prime) in to.iter().enumerate() {
            let m = self.modulus(prime);
            args.factor[i] = m.to_mont(multiplier(prime));
            args.inverse[i] = m.to_mont(m.inv(tables.product_mod(division.drop, m)));
            if division.bring.contains(&prime) {
                args.dividend_limb[i] = NONE;
            } else {
                let kept = args.dividend_limb[i] != NONE;
                assert!(
                    kept,
                    "output primes come from the input or are brought back"
                );
            }
        }
        for (k, (rest, x)) in rest.iter().zip(polys).enumerate() {
            (args.from[k], args.to[k]) = (self.address(rest), self.address(rest));
            args.dividend[k] = self.address(&x.memory);
        }
        self.launch(Kernel::ForwardColumns, self.columns(to.len(), K), &args);
        for (to, out) in args.to.iter_mut().zip(&out) {
            *to = self.address(out);
        }
        self.launch(Kernel::ForwardRowsDivide, self.rows(to.len(), K), &args);
        out.map(|out| GpuPoly::new(out, to))
    }

    fn raise(&self, c: &GpuPoly<D>, to: &Primes) -> GpuPoly<D> {
        let others: Primes = to
            .iter()
            .copied()
            .filter(|p| !c.primes.contains(p))
            .collect();
        let table = self
            .resident()
            .conversion(self.device(), self.context(), &c.primes, &others);
        let pick = |(limb, (&prime, &factor)): (usize, (&u16, &u32))| Pick {
            limb,
            prime,
            factor,
        };
        let picks = c.primes.iter().zip(&table.factors).enumerate();
        let picks: Vec<Pick> = picks.map(pick).collect();
        let [coefficients] = self.coefficients([&*c.memory], &picks);
        let rest = self.convert(self.address(&coefficients), &c.primes, &others);
        self.forward(&rest, &others);
        let rest = GpuPoly::<D>::new(rest, &others);
        let raised = GpuPoly::new(self.alloc_limbs(to.len()), to);
        let mut args = self.map(self.address(&raised.memory), to);
        // limbs that one lacks are zero there
        args.a = self.address(&c.memory);
        args.a_limb = limbs_of(c, to);
        self.launch(Kernel::Copy, self.each_word(to.len()), &args);
        args.a = self.address(&rest.memory);
        args.a_limb = limbs_of(&rest, to);
        args.low = self.montgomery(to, to.iter().map(|_| 1));
        args.high = args.low;
        for (i, prime) in to.iter().enumerate() {
            if c.primes.contains(prime) {
                (args.a_limb[i], args.low[i], args.high[i]) = (0, 0, 0);
            }
        }
        self.launch(Kernel::ScaleAdd, self.each_word(to.len()), &args);
        raised
    }
}
