//! The security table and the check of every secret against the modulus its keys live under.

use crate::set::{ParamSet, SecretKind, log2_product};

/// Largest log2 of the key modulus for a uniform ternary secret at 128 bits against classical attackers, by log2 N: the tables of
/// "Security Guidelines for Implementing Homomorphic Encryption" (Bossuat et al., IACR Communications in Cryptology 1(4), 2024).
pub const TERNARY_CLASSICAL_128: [(u32, f64); 7] = [
    (10, 26.0),
    (11, 53.0),
    (12, 106.0),
    (13, 214.0),
    (14, 430.0),
    (15, 868.0),
    (16, 1747.0),
];

/// Largest log2 of the key modulus for a ternary secret of Hamming weight 32 at N = 2^16 and 128 bits, as documented for the ephemeral
/// secret of Lattigo's bootstrapping (after Bossuat, Troncoso-Pastoriza, Hubaux, ACNS 2022).
const SPARSE_32_N16_BOUND: f64 = 121.0;

const GUIDELINES: &str = "Security Guidelines for Implementing Homomorphic Encryption (2024), uniform ternary secret, classical, 128 bits";
const LATTIGO: &str =
    "Lattigo's bootstrapping documentation, ephemeral secret with h = 32, N = 2^16, 128 bits";

/// What [`ParamSet::security`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct SecurityReport {
    /// 128 if every secret stays within its bound, 0 otherwise: there is no partial credit.
    pub bits: u32,
    /// Each secret with its figures.
    pub secrets: Vec<SecretSecurity>,
}

/// One secret, the modulus its keys live under, and the bound that applies.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretSecurity {
    /// Which secret, in words.
    pub secret: &'static str,
    /// log2 of the largest modulus under which anything encrypted by this secret is published.
    pub modulus_bits: f64,
    /// Largest log2 of the modulus at 128 bits; `None` if no source covers this ring and secret.
    pub bound_bits: Option<f64>,
    /// Where the bound comes from.
    pub source: &'static str,
}

impl SecretSecurity {
    /// Whether the modulus is within the bound.
    pub fn holds(&self) -> bool {
        self.bound_bits
            .is_some_and(|bound| self.modulus_bits <= bound)
    }
}

impl ParamSet {
    /// Checks every secret of the set against the modulus its keys live under.
    pub fn security(&self) -> SecurityReport {
        let SecretKind::UniformTernary = self.secret;
        let mut secrets = vec![SecretSecurity {
            secret: "main secret, uniform ternary",
            modulus_bits: self.log_qp(),
            bound_bits: TERNARY_CLASSICAL_128
                .iter()
                .find(|(log_n, _)| *log_n == self.log_n)
                .map(|(_, b)| *b),
            source: GUIDELINES,
        }];
        if let Some(e) = &self.ephemeral {
            secrets.push(SecretSecurity {
                secret: "ephemeral secret of ModRaise, sparse ternary",
                modulus_bits: self.log_q(0) + log2_product(e.p_primes.iter().copied()),
                bound_bits: (self.log_n == 16 && e.h >= 32).then_some(SPARSE_32_N16_BOUND),
                source: LATTIGO,
            });
        }
        let small_error = self.error_std < 3.19;
        let bits = if small_error || !secrets.iter().all(SecretSecurity::holds) {
            0
        } else {
            128
        };
        SecurityReport { bits, secrets }
    }
}
