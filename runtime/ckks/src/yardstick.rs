//! How fast the machine is right now.

use crate::ring::Buffer;
use concrete_ntt::prime32::Plan;
use sotto_params::ParamSet;
use std::hint::black_box;
use std::time::Instant;

const POINTS: usize = 1 << 16;

/// What figures of this scheme are normalized by: the seconds of one transform, on the processor of 2^16 points modulo a 30-bit prime, on
/// one thread. Machines change their speed from minute to minute; a measured time means something beside this one, taken in the same
/// minute.
pub struct Yardstick(Box<dyn FnMut(u32) -> f64 + Send>);

impl Yardstick {
    /// A yardstick that says the seconds of one transform, averaged over the count that it is given.
    pub fn new(look: impl FnMut(u32) -> f64 + Send + 'static) -> Self {
        Self(Box::new(look))
    }

    /// Seconds of one transform, averaged over `count` of them.
    pub fn seconds(&mut self, count: u32) -> f64 {
        (self.0)(count)
    }
}

impl Default for Yardstick {
    /// The processor's.
    fn default() -> Self {
        let prime = ParamSet::secure_128().q_primes[0];
        let plan =
            Plan::try_new(POINTS, prime).expect("the primes of shipped sets have transforms");
        let mut buffer = Buffer::zeroed(POINTS);
        Self::new(move |count| {
            let started = Instant::now();
            (0..count).for_each(|_| plan.fwd(black_box(buffer.words_mut())));
            started.elapsed().as_secs_f64() / f64::from(count.max(1))
        })
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
