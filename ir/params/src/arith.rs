//! Small number theory on machine words.

fn pow_mod(mut base: u64, mut exp: u64, modulus: u64) -> u64 {
    let mut acc = 1;
    base %= modulus;
    while exp > 0 {
        if exp & 1 == 1 {
            acc = acc * base % modulus;
        }
        base = base * base % modulus;
        exp >>= 1;
    }
    acc
}

/// Whether `n` is prime. Miller-Rabin with the bases 2, 3, 5, 7, which is exact below 3,215,031,751 and so for every word below 2^31;
/// larger words also get 11, exact below 2,152,302,898,747.
pub fn is_prime(n: u32) -> bool {
    const BASES: [u64; 5] = [2, 3, 5, 7, 11];
    let n = u64::from(n);
    if n < 2 {
        return false;
    }
    for p in BASES {
        if n.is_multiple_of(p) {
            return n == p;
        }
    }
    let twos = (n - 1).trailing_zeros();
    let odd = (n - 1) >> twos;
    BASES.iter().all(|&base| {
        let mut x = pow_mod(base, odd, n);
        if x == 1 || x == n - 1 {
            return true;
        }
        for _ in 1..twos {
            x = x * x % n;
            if x == n - 1 {
                return true;
            }
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::is_prime;

    #[test]
    fn agrees_with_trial_division() {
        let slow = |n: u32| {
            n >= 2
                && (2..)
                    .take_while(|d| d * d <= n)
                    .all(|d| !n.is_multiple_of(d))
        };
        for n in 0..5000 {
            assert_eq!(is_prime(n), slow(n), "{n}");
        }
    }

    #[test]
    fn known_words() {
        assert!(is_prime(4_294_967_291));
        assert!(is_prime(786_433));
        // Strong pseudoprime to the bases 2, 3, 5, 7.
        assert!(!is_prime(3_215_031_751));
    }
}
