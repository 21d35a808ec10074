//! The parameter set and what follows from it.

use serde::{Deserialize, Serialize};

/// A parameter set: ring, primes, levels, digits, secrets. All fields are data; [`ParamSet::validate`] checks them.
///
/// A *prime index* below `q_primes.len()` names a Q-prime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParamSet {
    /// Name of the set; test rings start with `INSECURE`.
    pub name: String,
    /// log2 of the ring degree N.
    pub log_n: u32,
    /// All ciphertext primes, below 2^30 and ≡ 1 mod 2N.
    pub q_primes: Vec<u32>,
    /// The special primes P of key switching.
    pub p_primes: Vec<u32>,
    /// The levels, bottom first.
    pub levels: Vec<Level>,
    /// Partition of the Q-primes into key-switching digits: digit j at level ℓ is `digits[j]` ∩ `levels[ℓ].primes`.
    pub digits: Vec<Vec<u16>>,
    /// Distribution of the main secret.
    pub secret: SecretKind,
    /// The short-lived secret under which ModRaise happens, if the set can bootstrap.
    pub ephemeral: Option<Ephemeral>,
    /// Standard deviation of the discrete Gaussian error.
    pub error_std: f64,
    /// Whether the set makes no claim of security. Contexts made from it print INSECURE.
    pub insecure: bool,
}

/// One level: the primes whose product is the modulus, and the scale at which values live there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Indices into `q_primes`, ascending. Going down a level may drop primes and bring others back.
    pub primes: Vec<u16>,
    /// Canonical scale Δ_ℓ of a value (degree 1); a product not yet rescaled (degree 2) has Δ_ℓ².
    ///
    /// Δ_ℓ = sqrt(Δ_{ℓ-1}·Q_ℓ/Q_{ℓ-1}), so that a rescaled product is canonical at the level below. From the lowest EvalMod level up
    /// the recurrence starts again from Δ·Q_0/Δ_0, where Δ is the top app level's scale: EvalMod computes on values divided by Q_0, and what it leaves at
    /// the top app level is then canonical there, with no correction.
    pub scale: f64,
    /// What the level is for.
    pub kind: LevelKind,
}

/// What a level is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LevelKind {
    /// Left to programs (StC also happens here).
    App,
    /// Consumed by the modular reduction of a bootstrap.
    EvalMod,
    /// Consumed by the coefficients-to-slots transform of a bootstrap.
    CtS,
}

/// Distribution of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretKind {
    /// Each coefficient uniform in {-1, 0, 1}.
    UniformTernary,
}

/// The ephemeral sparse secret of ModRaise (Bossuat, Troncoso-Pastoriza, Hubaux, ACNS 2022).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ephemeral {
    /// Hamming weight of the secret.
    pub h: u32,
    /// Special primes of its one key switch; its keys live under the level-0 modulus times their product.
    pub p_primes: Vec<u32>,
}

/// Digest of a parameter set: serialized objects carry it.
pub type Digest = [u8; 32];

impl ParamSet {
    /// Ring degree N.
    pub fn n(&self) -> usize {
        1 << self.log_n
    }

    /// Number of complex slots, N/2.
    pub fn slots(&self) -> usize {
        self.n() / 2
    }

    /// The highest level of all.
    pub fn top_level(&self) -> usize {
        self.levels.len() - 1
    }

    /// The highest level programs use, where bootstrapping ends.
    pub fn top_app_level(&self) -> usize {
        self.levels
            .iter()
            .rposition(|l| l.kind == LevelKind::App)
            .unwrap_or(0)
    }

    /// Canonical scale Δ_ℓ.
    pub fn scale(&self, level: usize) -> f64 {
        self.levels[level].scale
    }

    /// The primes of a level, in the order of its limbs.
    pub fn level_primes(&self, level: usize) -> impl Iterator<Item = u32> + '_ {
        self.levels[level]
            .primes
            .iter()
            .map(|&i| self.q_primes[usize::from(i)])
    }

    /// log2 of the modulus Q_ℓ.
    pub fn log_q(&self, level: usize) -> f64 {
        log2_product(self.level_primes(level))
    }

    /// log2 of the product of every prime, special ones included: the modulus the largest key lives under.
    pub fn log_qp(&self) -> f64 {
        log2_product(self.q_primes.iter().chain(&self.p_primes).copied())
    }

    /// Q_upper / Q_lower, exact up to the rounding of a few floating-point products.
    pub fn ratio(&self, upper: usize, lower: usize) -> f64 {
        let (up, low) = (&self.levels[upper].primes, &self.levels[lower].primes);
        let only = |a: &[u16], b: &[u16]| -> f64 {
            a.iter()
                .filter(|i| !b.contains(i))
                .map(|&i| f64::from(self.q_primes[usize::from(i)]))
                .product()
        };
        only(up, low) / only(low, up)
    }

    /// Indices of the Q-primes a key for use at `level` and below must cover: the union of those levels' primes, ascending.
    pub fn key_primes(&self, level: usize) -> Vec<u16> {
        let mut primes: Vec<u16> = self.levels[..=level]
            .iter()
            .flat_map(|l| l.primes.iter().copied())
            .collect();
        primes.sort_unstable();
        primes.dedup();
        primes
    }

    /// The nonempty digits of a prime set: for each, the digit's number and its primes among `primes`.
    pub fn digits_of(&self, primes: &[u16]) -> Vec<(usize, Vec<u16>)> {
        let mut out = Vec::new();
        for (j, digit) in self.digits.iter().enumerate() {
            let part: Vec<u16> = primes
                .iter()
                .copied()
                .filter(|i| digit.contains(i))
                .collect();
            if !part.is_empty() {
                out.push((j, part));
            }
        }
        out
    }

    /// Digest over every field, the same on every machine.
    pub fn digest(&self) -> Digest {
        let mut h = blake3::Hasher::new();
        let mut word = |w: u64| {
            h.update(&w.to_le_bytes());
        };
        let list = |word: &mut dyn FnMut(u64), items: &mut dyn Iterator<Item = u64>, len: usize| {
            word(len as u64);
            items.for_each(word);
        };
        list(
            &mut word,
            &mut self.name.bytes().map(u64::from),
            self.name.len(),
        );
        word(u64::from(self.log_n));
        for primes in [&self.q_primes, &self.p_primes] {
            list(
                &mut word,
                &mut primes.iter().map(|&p| u64::from(p)),
                primes.len(),
            );
        }
        word(self.levels.len() as u64);
        for level in &self.levels {
            list(
                &mut word,
                &mut level.primes.iter().map(|&i| u64::from(i)),
                level.primes.len(),
            );
            word(level.scale.to_bits());
            word(level.kind as u64);
        }
        word(self.digits.len() as u64);
        for digit in &self.digits {
            list(
                &mut word,
                &mut digit.iter().map(|&i| u64::from(i)),
                digit.len(),
            );
        }
        word(self.secret as u64);
        if let Some(e) = &self.ephemeral {
            word(u64::from(e.h));
            list(
                &mut word,
                &mut e.p_primes.iter().map(|&p| u64::from(p)),
                e.p_primes.len(),
            );
        }
        word(self.error_std.to_bits());
        word(u64::from(self.insecure));
        *h.finalize().as_bytes()
    }

    /// Computes every level's scale from that of level 0 (see [`Level::scale`]).
    pub(crate) fn fill_scales(&mut self, base: f64) {
        self.levels[0].scale = base;
        for level in 1..self.levels.len() {
            self.levels[level].scale = self.expected_scale(level);
        }
    }

    /// What the recurrence of [`Level::scale`] gives for `level` ≥ 1 from the level below.
    pub(crate) fn expected_scale(&self, level: usize) -> f64 {
        let app_below = self.levels[level - 1].kind == LevelKind::App;
        let mut below = self.levels[level - 1].scale;
        if app_below && self.levels[level].kind != LevelKind::App {
            let q0: f64 = self.level_primes(0).map(f64::from).product();
            below *= q0 / self.levels[0].scale;
        }
        (below * self.ratio(level, level - 1)).sqrt()
    }
}

pub(crate) fn log2_product(primes: impl Iterator<Item = u32>) -> f64 {
    primes.map(|p| f64::from(p).log2()).sum()
}
