//! How fast the machine is right now.

use crate::ring::Buffer;
use concrete_ntt::prime32::Plan;
use sotto_params::ParamSet;
use std::hint::black_box;
use std::time::Instant;

const POINTS: usize = 1 << 16;

/// What figures of this scheme are normalized by: one transform of 2^16 points modulo a 30-bit prime, on one thread. Machines change
/// their speed from minute to minute; a measured time means something beside this one, taken in the same minute.
pub struct Yardstick {
    plan: Plan,
    buffer: Buffer,
}

impl Yardstick {
    /// Seconds of one transform, averaged over `count` of them.
    pub fn seconds(&mut self, count: u32) -> f64 {
        let started = Instant::now();
        self.transform(count);
        started.elapsed().as_secs_f64() / f64::from(count.max(1))
    }

    /// Carries out `count` transforms, one after the other.
    pub fn transform(&mut self, count: u32) {
        (0..count).for_each(|_| self.plan.fwd(black_box(self.buffer.words_mut())));
    }
}

impl Default for Yardstick {
    fn default() -> Self {
        let prime = ParamSet::secure_128().q_primes[0];
        Self {
            plan: Plan::try_new(POINTS, prime).expect("the primes of shipped sets have transforms"),
            buffer: Buffer::zeroed(POINTS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transform_takes_time() {
        let seconds = Yardstick::default().seconds(4);
        assert!((1e-6..1.0).contains(&seconds), "{seconds}");
    }
}
