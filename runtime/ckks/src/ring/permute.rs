//! Automorphisms on transformed polynomials.
//!
//! Entry i of a transformed limb is the value at ψ^(2·rev(i)+1), where rev reverses log N bits. The automorphism X → X^g carries the
//! value at ψ^(g·e) to the place of ψ^e, so it only permutes entries, and the permutation does not depend on the prime.

use std::sync::Arc;

/// `table[i]` is the index from which entry i is taken under X → X^element.
pub(crate) fn table(element: u32, log_n: u32) -> Arc<[u32]> {
    let n = 1u32 << log_n;
    let reverse = |i: u32| i.reverse_bits() >> (32 - log_n);
    (0..n)
        .map(|i| {
            let exponent = u64::from(2 * reverse(i) + 1) * u64::from(element) % (2 * u64::from(n));
            reverse((exponent as u32 - 1) / 2)
        })
        .collect()
}

/// out[i] = input[table[i]].
pub(crate) fn permute(out: &mut [u32], input: &[u32], table: &[u32]) {
    // Every index is below the power-of-two length; the mask tells the compiler.
    let mask = input.len() - 1;
    assert!(input.len().is_power_of_two());
    for (o, &i) in out.iter_mut().zip(table) {
        *o = input[i as usize & mask];
    }
}
