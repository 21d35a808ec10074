//! The inner sums of a linear transform.

use super::{Cpu, keyswitch};
use crate::context::Context;
use crate::engine::{Babies, Giant};
use crate::ring::{Form, Modulus, RnsPoly, kernels, permute, sums};
use keyswitch::Matched;

/// See [`super::Engine::inner_sums`]. All work on one prime is done before the next prime's, so the rotated babies stay in cache.
pub(super) fn inner_sums(
    ctx: &Context,
    babies: &Babies<'_, Cpu>,
    giants: &[Giant<Cpu>],
) -> Vec<[RnsPoly; 2]> {
    let ring = ctx.ring();
    let rotations: Vec<_> = babies
        .rotations
        .iter()
        .map(|r| r.map(|(element, key)| (ring.permutation(element), Matched::new(&babies.c1, key))))
        .collect();
    let dirty = || RnsPoly::dirty(ring, &babies.wide, Form::Transformed);
    let mut inner: Vec<RnsPoly> = (0..2 * giants.len()).map(|_| dirty()).collect();
    RnsPoly::par_columns(&mut inner, |at, prime, sums| {
        // Two limbs per baby, then two of scratch.
        let mut store = RnsPoly::room(ring, prime, 2 * rotations.len() + 2);
        let mut parts: Vec<&mut [u32]> = store.limbs_mut().collect();
        let (rotated, scratch) = parts.split_at_mut(2 * rotations.len());
        let [x, y] = scratch else { return };
        for (rotation, out) in rotations.iter().zip(rotated.chunks_exact_mut(2)) {
            match rotation {
                None => {
                    for (o, c) in out.iter_mut().zip([babies.c0, babies.c1.source]) {
                        o.fill(0);
                        keyswitch::add_times_p(ctx, o, c, prime);
                    }
                }
                Some((table, matched)) => {
                    matched.limb(ring, prime, &mut [], x, y);
                    keyswitch::add_times_p(ctx, x, babies.c0, prime);
                    permute::permute(out[0], x, table);
                    permute::permute(out[1], y, table);
                }
            }
        }
        for (giant, out) in giants.iter().zip(sums.chunks_exact_mut(2)) {
            for (half, o) in out.iter_mut().enumerate() {
                let pairs: Vec<(&[u32], &[u32])> = giant
                    .iter()
                    .map(|(baby, diagonal)| (&*rotated[2 * baby + half], diagonal.limb(at)))
                    .collect();
                dot(o, x, &pairs, ring.modulus(prime));
            }
        }
    });
    let mut inner = inner.into_iter();
    std::iter::from_fn(|| Some([inner.next()?, inner.next()?])).collect()
}

/// out = Σ a·b over any number of pairs, the second members in Montgomery form and possibly in runs.
fn dot(out: &mut [u32], scratch: &mut [u32], pairs: &[(&[u32], &[u32])], m: Modulus) {
    if pairs.is_empty() {
        return out.fill(0);
    }
    for (i, chunk) in pairs.chunks(kernels::MAX_TERMS).enumerate() {
        let target = if i == 0 { &mut *out } else { &mut *scratch };
        sums::dot_mont_in_runs(target, chunk, m);
        if i > 0 {
            kernels::add_assign(out, scratch, m);
        }
    }
}
