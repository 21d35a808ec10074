//! Checks of a parameter set.

use crate::arith::is_prime;
use crate::set::{Ephemeral, ParamSet, log2_product};
use miette::Diagnostic;

/// Why a parameter set is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Diagnostic)]
pub enum ParamError {
    /// The ring degree is out of range.
    #[error("log_n = {0}: ring degrees from 2^5 to 2^16 are supported")]
    #[diagnostic(code(params::ring_degree))]
    RingDegree(u32),
    /// A prime is not prime, too large, or lacks the root of unity.
    #[error("modulus {0}: need a prime below 2^30 that is 1 modulo 2N")]
    #[diagnostic(code(params::prime))]
    Prime(u32),
    /// A prime occurs twice.
    #[error("prime {0} occurs twice")]
    #[diagnostic(code(params::duplicate))]
    Duplicate(u32),
    /// A level's prime list is empty, unsorted or out of range.
    #[error("level {0}: its primes must be a nonempty ascending list of indices into q_primes")]
    #[diagnostic(code(params::level))]
    Level(usize),
    /// There are no levels, no special primes, or too many primes.
    #[error("the set needs at least one level and one special prime, and at most 65535 primes")]
    #[diagnostic(code(params::empty))]
    Empty,
    /// A level's modulus does not grow.
    #[error("level {0}: its modulus must exceed that of the level below")]
    #[diagnostic(code(params::shrinking))]
    Shrinking(usize),
    /// A level's scale is not what the recurrence gives.
    #[error(
        "level {level}: scale 2^{found:.6}, but the level below and the moduli make it 2^{expected:.6}"
    )]
    #[diagnostic(code(params::scale))]
    Scale {
        /// The level.
        level: usize,
        /// log2 of the scale stated.
        found: f64,
        /// log2 of the scale computed.
        expected: f64,
    },
    /// The digits do not partition the Q-primes.
    #[error("the digits must hold each Q-prime exactly once")]
    #[diagnostic(code(params::digits))]
    Digits,
    /// A digit is too large for the special primes: key-switching noise would exceed the rounding noise.
    #[error(
        "level {level}, digit {digit}: {primes} primes of {bits:.1} bits, but the special primes have {special_bits:.1} bits (and a digit at most 12 primes)"
    )]
    #[diagnostic(code(params::digit_too_large))]
    DigitTooLarge {
        /// The level.
        level: usize,
        /// Number of the digit.
        digit: usize,
        /// How many primes it has there.
        primes: usize,
        /// log2 of its product.
        bits: f64,
        /// log2 of P.
        special_bits: f64,
    },
    /// More primes to divide by at a time, or more digits, than sums of products hold.
    #[error(
        "{what}: {found}, at most {most}: lazily reduced sums would overflow; shorten the chain's steps"
    )]
    #[diagnostic(code(params::sums))]
    Sums {
        /// `special primes`, `digits`, or `primes dropped from level 9`.
        what: String,
        /// How many.
        found: usize,
        /// How many fit.
        most: usize,
    },
    /// The ephemeral secret's data is inconsistent.
    #[error(
        "ephemeral secret: Hamming weight {0} and special primes must fit the ring and come from p_primes"
    )]
    #[diagnostic(code(params::ephemeral))]
    Ephemeral(u32),
    /// The set does not reach 128 bits and is not marked insecure.
    #[error(
        "{secret}: its keys live under a modulus of {modulus_bits:.1} bits, {bound}; shorten the chain or mark the set insecure (tests only). Source: {source_name}"
    )]
    #[diagnostic(code(params::insecure))]
    Insecure {
        /// Which secret.
        secret: &'static str,
        /// log2 of the modulus.
        modulus_bits: f64,
        /// The bound in words.
        bound: String,
        /// Where the bound comes from.
        source_name: &'static str,
    },
    /// The error distribution is too narrow or not a number.
    #[error(
        "error standard deviation {0}: must be at least 3.19 (the guidelines assume 8/sqrt(2π)) and below 64"
    )]
    #[diagnostic(code(params::error_std))]
    ErrorStd(f64),
    /// An insecure set whose name does not say so.
    #[error("set `{0}` is marked insecure, so its name must start with INSECURE")]
    #[diagnostic(code(params::name))]
    Name(String),
}

/// A word holds sixteen 60-bit products. A digit, and the special primes, may have twelve primes: a key switch may divide by the
/// special primes and rescale at once, and the conversion adds a term for the overflow.
const MAX_DIGIT_PRIMES: usize = 12;
/// Primes that one step down may drop: the terms left beside the special primes.
const MAX_DROPPED: usize = 3;
/// Digits of a key switch, which are summed before they are reduced.
const MAX_DIGITS: usize = 16;

impl ParamSet {
    /// Checks everything a scheme built on the set relies on, security included (unless the set is marked insecure).
    pub fn validate(&self) -> Result<(), ParamError> {
        if !(5..=16).contains(&self.log_n) {
            return Err(ParamError::RingDegree(self.log_n));
        }
        if self.levels.is_empty()
            || self.p_primes.is_empty()
            || self.q_primes.len() + self.p_primes.len() > 65535
        {
            return Err(ParamError::Empty);
        }
        if !(3.19..64.0).contains(&self.error_std) {
            return Err(ParamError::ErrorStd(self.error_std));
        }
        if self.insecure && !self.name.starts_with("INSECURE") {
            return Err(ParamError::Name(self.name.clone()));
        }
        self.check_primes()?;
        self.check_levels()?;
        self.check_digits()?;
        self.check_sums()?;
        if let Some(ephemeral) = &self.ephemeral {
            self.check_ephemeral(ephemeral)?;
        }
        if self.insecure {
            Ok(())
        } else {
            self.check_security()
        }
    }

    fn check_primes(&self) -> Result<(), ParamError> {
        let mut all: Vec<u32> = self
            .q_primes
            .iter()
            .chain(&self.p_primes)
            .copied()
            .collect();
        for &p in &all {
            if p >= 1 << 30 || !is_prime(p) || u64::from(p) % (2 << self.log_n) != 1 {
                return Err(ParamError::Prime(p));
            }
        }
        all.sort_unstable();
        match all.windows(2).find(|w| w[0] == w[1]) {
            Some(w) => Err(ParamError::Duplicate(w[0])),
            None => Ok(()),
        }
    }

    fn check_levels(&self) -> Result<(), ParamError> {
        for (i, level) in self.levels.iter().enumerate() {
            let ascending = level.primes.windows(2).all(|w| w[0] < w[1]);
            let last = level.primes.last().map(|&p| usize::from(p));
            if !ascending || last.is_none_or(|p| p >= self.q_primes.len()) {
                return Err(ParamError::Level(i));
            }
        }
        for i in 1..self.levels.len() {
            if self.log_q(i) <= self.log_q(i - 1) {
                return Err(ParamError::Shrinking(i));
            }
            let (found, expected) = (self.levels[i].scale, self.expected_scale(i));
            if ((found / expected) - 1.0).abs() > 1e-12 || !found.is_finite() {
                return Err(ParamError::Scale {
                    level: i,
                    found: found.log2(),
                    expected: expected.log2(),
                });
            }
        }
        let base = self.levels[0].scale;
        if !(base.is_finite() && base > 1.0 && base.log2() < self.log_q(0)) {
            return Err(ParamError::Scale {
                level: 0,
                found: base.log2(),
                expected: self.log_q(0),
            });
        }
        Ok(())
    }

    fn check_digits(&self) -> Result<(), ParamError> {
        let mut seen: Vec<u16> = self.digits.concat();
        seen.sort_unstable();
        if seen.len() != self.q_primes.len()
            || seen.iter().enumerate().any(|(i, &p)| usize::from(p) != i)
        {
            return Err(ParamError::Digits);
        }
        let special_bits = log2_product(self.p_primes.iter().copied());
        for (level, l) in self.levels.iter().enumerate() {
            for (digit, primes) in self.digits_of(&l.primes) {
                let bits = log2_product(primes.iter().map(|&i| self.q_primes[usize::from(i)]));
                if bits > special_bits || primes.len() > MAX_DIGIT_PRIMES {
                    return Err(ParamError::DigitTooLarge {
                        level,
                        digit,
                        primes: primes.len(),
                        bits,
                        special_bits,
                    });
                }
            }
        }
        Ok(())
    }

    fn check_sums(&self) -> Result<(), ParamError> {
        let mut counts = vec![
            (
                "special primes".into(),
                self.p_primes.len(),
                MAX_DIGIT_PRIMES,
            ),
            ("digits".into(), self.digits.len(), MAX_DIGITS),
        ];
        for (i, pair) in self.levels.windows(2).enumerate() {
            let kept = |p: &&u16| !pair[0].primes.contains(p);
            let dropped = pair[1].primes.iter().filter(kept).count();
            counts.push((
                format!("primes dropped from level {}", i + 1),
                dropped,
                MAX_DROPPED,
            ));
        }
        let over = counts.into_iter().find(|(_, found, most)| found > most);
        over.map_or(Ok(()), |(what, found, most)| {
            Err(ParamError::Sums { what, found, most })
        })
    }

    fn check_ephemeral(&self, e: &Ephemeral) -> Result<(), ParamError> {
        let known = e.p_primes.iter().all(|p| self.p_primes.contains(p)) && !e.p_primes.is_empty();
        // One digit: the level-0 modulus must not exceed the special primes'.
        let covers = log2_product(e.p_primes.iter().copied()) >= self.log_q(0);
        if known && covers && e.h > 0 && (e.h as usize) <= self.n() {
            Ok(())
        } else {
            Err(ParamError::Ephemeral(e.h))
        }
    }

    fn check_security(&self) -> Result<(), ParamError> {
        match self.security().secrets.iter().find(|s| !s.holds()) {
            None => Ok(()),
            Some(s) => Err(ParamError::Insecure {
                secret: s.secret,
                modulus_bits: s.modulus_bits,
                bound: match s.bound_bits {
                    Some(bound) => format!("above the bound of {bound} bits"),
                    None => "and no bound is known for it".into(),
                },
                source_name: s.source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_sets_are_valid() {
        ParamSet::secure_128().validate().unwrap();
        for log_n in 9..=14 {
            let set = ParamSet::insecure_test(log_n);
            set.validate().unwrap();
            assert_eq!(set.security().bits, 0);
        }
    }

    #[test]
    fn sums_that_would_overflow_are_refused() {
        let mut set = ParamSet::secure_128();
        set.levels.remove(10);
        set.levels.remove(9);
        for level in 9..set.levels.len() {
            set.levels[level].scale = set.expected_scale(level);
        }
        let error = set.validate().unwrap_err().to_string();
        assert!(error.contains("primes dropped from level 9: "), "{error}");
    }

    #[test]
    fn primes_serve_the_largest_ring() {
        let set = ParamSet::insecure_test(9);
        for &p in set.q_primes.iter().chain(&set.p_primes) {
            assert!(is_prime(p) && p < 1 << 30 && p % (1 << 17) == 1, "{p}");
        }
    }

    #[test]
    fn levels_step_by_forty_bits() {
        let set = ParamSet::secure_128();
        assert_eq!((set.top_app_level(), set.top_level()), (16, 27));
        for level in 0..=16 {
            let expected = 50.0 + 40.0 * level as f64;
            assert!(
                (set.log_q(level) - expected).abs() < 2.0,
                "level {level}: {}",
                set.log_q(level)
            );
            assert!(
                (set.scale(level).log2() - 40.0).abs() < 0.5,
                "level {level}: {}",
                set.scale(level).log2()
            );
        }
        assert!((set.log_q(0) - 50.0).abs() < 1e-3);
        for level in 17..=24 {
            assert!((set.ratio(level, level - 1).log2() - 58.0).abs() < 1e-3);
        }
        for level in 25..=27 {
            assert!((set.ratio(level, level - 1).log2() - 60.0).abs() < 0.1);
        }
    }

    #[test]
    fn two_digits_up_to_the_top_app_level() {
        let set = ParamSet::secure_128();
        let digits = |level: usize| set.digits_of(&set.levels[level].primes).len();
        assert!((0..=7).all(|l| digits(l) == 1));
        assert!((8..=16).all(|l| digits(l) == 2));
        assert_eq!(digits(27), 4);
        assert_eq!(set.key_primes(16).len(), 25);
        assert_eq!(set.key_primes(27).len(), 47);
    }

    #[test]
    fn every_secret_is_within_its_bound() {
        let report = ParamSet::secure_128().security();
        assert_eq!(report.bits, 128);
        assert_eq!(report.secrets[0].bound_bits, Some(1747.0));
        assert_eq!(report.secrets[1].bound_bits, Some(121.0));
        assert!(report.secrets[1].modulus_bits < 111.0);
    }

    #[test]
    fn a_longer_chain_or_denser_use_is_refused() {
        let mut set = ParamSet::secure_128();
        set.log_n = 15;
        assert!(matches!(set.validate(), Err(ParamError::Insecure { .. })));
        let mut set = ParamSet::secure_128();
        set.ephemeral.as_mut().unwrap().p_primes = set.p_primes[..3].to_vec();
        let refused = set.validate().unwrap_err().to_string();
        assert!(
            refused.contains("ephemeral") && refused.contains("121"),
            "{refused}"
        );
        let mut set = ParamSet::secure_128();
        set.error_std = 1.0;
        assert!(matches!(set.validate(), Err(ParamError::ErrorStd(_))));
    }

    #[test]
    fn damage_is_found() {
        type Damage = fn(&mut ParamSet);
        let cases: [(&str, Damage); 8] = [
            ("composite", |s| s.q_primes[3] += 1 << 18),
            ("duplicate", |s| s.q_primes[3] = s.q_primes[4]),
            ("unsorted", |s| s.levels[4].primes.swap(0, 1)),
            ("scale", |s| s.levels[5].scale *= 1.0001),
            ("digits", |s| s.digits[0].truncate(3)),
            ("shrinking", |s| s.levels.swap(3, 4)),
            ("empty", |s| s.levels.clear()),
            ("name", |s| s.insecure = true),
        ];
        for (name, damage) in cases {
            let mut set = ParamSet::secure_128();
            damage(&mut set);
            assert!(set.validate().is_err(), "{name}");
            assert_ne!(set.digest(), ParamSet::secure_128().digest(), "{name}");
        }
    }

    #[test]
    fn a_digit_beyond_the_special_primes_is_refused() {
        let mut set = ParamSet::secure_128();
        let moved = set.digits[1].remove(0);
        set.digits[0].push(moved);
        assert!(matches!(
            set.validate(),
            Err(ParamError::DigitTooLarge { .. })
        ));
    }
}
