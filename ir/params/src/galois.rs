//! Rotations as Galois elements.
//!
//! The slots of a ciphertext are the values of its polynomial at the powers ζ^(5^j) of a primitive 2N-th root of unity ζ, so rotating the
//! slot vector left by `k` (slot j receives what slot j + k held) is the automorphism X → X^(5^k), and complex conjugation is X → X^(-1).

/// The Galois element `5^step mod 2N` of a left rotation by `step` slots (negative steps rotate right).
/// Steps are taken modulo the number of slots N/2.
pub fn rotation(step: i64, log_n: u32) -> u32 {
    let slots = 1i64 << (log_n - 1);
    let mask = (2u64 << log_n) - 1;
    let mut exp = step.rem_euclid(slots);
    let (mut base, mut acc) = (5u64, 1u64);
    while exp > 0 {
        if exp & 1 == 1 {
            acc = (acc * base) & mask;
        }
        base = (base * base) & mask;
        exp >>= 1;
    }
    acc as u32
}

/// The Galois element `2N - 1` of complex conjugation.
pub fn conjugation(log_n: u32) -> u32 {
    ((2u64 << log_n) - 1) as u32
}

/// The inverse of an odd `element` modulo 2N.
pub fn inverse(element: u32, log_n: u32) -> u32 {
    let mask = (2u64 << log_n) - 1;
    let e = u64::from(element);
    // Newton's iteration doubles the number of correct low bits; e is its own inverse modulo 8.
    let mut inv = e;
    for _ in 0..5 {
        inv = inv.wrapping_mul(2u64.wrapping_sub(e.wrapping_mul(inv)));
    }
    (inv & mask) as u32
}

/// The rotation step in `0..N/2` whose element is `element`, or `None` if the element conjugates.
/// Takes time proportional to N; meant for error messages and listings.
pub fn step_of(element: u32, log_n: u32) -> Option<i64> {
    let mask = (2u64 << log_n) - 1;
    let mut power = 1u64;
    for step in 0..1i64 << (log_n - 1) {
        if power == u64::from(element) {
            return Some(step);
        }
        power = (power * 5) & mask;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_inverses() {
        for log_n in [9, 16] {
            let modulus = 2u64 << log_n;
            for step in [0, 1, 2, 77, -1, -128] {
                let g = rotation(step, log_n);
                assert_eq!(step_of(g, log_n), Some(step.rem_euclid(1 << (log_n - 1))));
                assert_eq!(u64::from(g) * u64::from(inverse(g, log_n)) % modulus, 1);
                assert_eq!(inverse(g, log_n), rotation(-step, log_n));
            }
            assert_eq!(step_of(conjugation(log_n), log_n), None);
            assert_eq!(inverse(conjugation(log_n), log_n), conjugation(log_n));
        }
    }
}
