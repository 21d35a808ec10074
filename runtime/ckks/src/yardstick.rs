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
pub struct Yardstick {
    look: Box<dyn FnMut(u32) -> f64 + Send>,
    processor: bool,
}

impl Yardstick {
    /// Another machine's yardstick: says the seconds of one transform there, averaged over the count that it is given.
    pub fn new(look: impl FnMut(u32) -> f64 + Send + 'static) -> Self {
        Self {
            look: Box::new(look),
            processor: false,
        }
    }

    /// Whether it is the processor's, which cost tables of the processor are normalized by.
    pub fn is_processors(&self) -> bool {
        self.processor
    }

    /// Seconds of one transform, averaged over `count` of them.
    pub fn seconds(&mut self, count: u32) -> f64 {
        (self.look)(count)
    }
}

impl Default for Yardstick {
    /// The processor's.
    fn default() -> Self {
        let prime = ParamSet::secure_128().q_primes[0];
        let plan =
            Plan::try_new(POINTS, prime).expect("the primes of shipped sets have transforms");
        let mut buffer = Buffer::zeroed(POINTS);
        let look = move |count: u32| {
            let started = Instant::now();
            (0..count).for_each(|_| plan.fwd(black_box(buffer.words_mut())));
            started.elapsed().as_secs_f64() / f64::from(count.max(1))
        };
        Self {
            look: Box::new(look),
            processor: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transform_takes_time() {
        let seconds = Yardstick::default().seconds(4);
        // at most is for a busy machine to say
        assert!(seconds > 1e-6 && seconds.is_finite(), "{seconds}");
    }
}
