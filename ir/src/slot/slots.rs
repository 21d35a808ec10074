//! Slot vectors in the clear: what a ciphertext holds, at float64.

use num_complex::Complex64;

/// The slots of one value. Only one period is stored: the content of slot p is entry p mod `period`.
///
/// Operations work on one period and return the longest period among their operands, so a vector of width 128 costs 128
/// multiplications whatever S is.
#[derive(Clone, Debug, PartialEq)]
pub struct Slots {
    values: Vec<Complex64>,
}

impl Slots {
    /// From one period; None unless its length is a power of two.
    pub fn new(values: Vec<Complex64>) -> Option<Self> {
        values.len().is_power_of_two().then_some(Self { values })
    }

    /// From one period of reals; None unless its length is a power of two.
    pub fn real(values: &[f64]) -> Option<Self> {
        Self::new(values.iter().map(|&x| x.into()).collect())
    }

    /// The same content in every slot.
    pub fn splat(value: Complex64) -> Self {
        Self {
            values: vec![value],
        }
    }

    /// Slots after which the stored content repeats.
    pub fn period(&self) -> usize {
        self.values.len()
    }

    /// One period.
    pub fn values(&self) -> &[Complex64] {
        &self.values
    }

    /// The content of a slot.
    pub fn at(&self, slot: usize) -> Complex64 {
        self.values[slot & (self.values.len() - 1)]
    }

    /// All slots of a ciphertext (or any power-of-two count that the period divides).
    pub fn tiled(&self, slots: usize) -> Vec<Complex64> {
        (0..slots.max(self.period())).map(|p| self.at(p)).collect()
    }

    /// The same content stored at a period at least `slots`.
    pub fn expanded(self, slots: usize) -> Self {
        if self.period() >= slots {
            return self;
        }
        Self {
            values: self.tiled(slots),
        }
    }

    /// Slot-wise function of two values.
    pub fn zip(&self, other: &Self, f: impl Fn(Complex64, Complex64) -> Complex64) -> Self {
        let period = self.period().max(other.period());
        let values = if self.period() == other.period() {
            let pairs = self.values.iter().zip(&other.values);
            pairs.map(|(&a, &b)| f(a, b)).collect()
        } else {
            (0..period).map(|p| f(self.at(p), other.at(p))).collect()
        };
        Self { values }
    }

    /// Slot-wise function of one value.
    pub fn map(&self, f: impl Fn(Complex64) -> Complex64) -> Self {
        Self {
            values: self.values.iter().map(|&v| f(v)).collect(),
        }
    }

    /// Left rotation: slot p receives slot p + by.
    pub fn rotate(&self, by: i32) -> Self {
        let shift = by.rem_euclid(self.period() as i32) as usize;
        let mut values = self.values.clone();
        values.rotate_left(shift);
        Self { values }
    }

    /// Σ over i < count of self rotated left by i·step; `count` is a power of two.
    ///
    /// A fold over a whole orbit has period `step`, and only that much is kept.
    pub fn fold(&self, step: i32, count: u32) -> Self {
        let mut sum = self.clone();
        let mut done = 1i64;
        while done < i64::from(count) {
            let by = (i64::from(step) * done).rem_euclid(self.period() as i64);
            sum = sum.zip(&sum.rotate(by as i32), |a, b| a + b);
            done *= 2;
        }
        let width = step.unsigned_abs() as usize;
        let whole_orbit = width.is_power_of_two()
            && width < self.period()
            && width * count as usize >= self.period();
        if whole_orbit {
            sum.values.truncate(width);
        }
        sum
    }

    /// Chebyshev series Σ c_k T_k(x) in every slot, by Clenshaw's recurrence.
    pub fn chebyshev(&self, coefficients: &[f64]) -> Self {
        self.map(|x| {
            let (mut b1, mut b2) = (Complex64::ZERO, Complex64::ZERO);
            for &c in coefficients.iter().skip(1).rev() {
                (b1, b2) = (2.0 * x * b1 - b2 + c, b1);
            }
            x * b1 - b2 + coefficients.first().copied().unwrap_or(0.0)
        })
    }

    /// Largest |re| or |im| over all slots.
    pub fn max_part(&self) -> f64 {
        let part = |v: &Complex64| v.re.abs().max(v.im.abs());
        // NaN must not pass for a small value.
        self.values.iter().map(part).fold(
            0.0,
            |m, x| if x.is_nan() { f64::INFINITY } else { m.max(x) },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(n: usize) -> Slots {
        Slots::real(&(0..n).map(|i| i as f64).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn rotation_is_to_the_left_and_wraps() {
        assert_eq!(ramp(8).rotate(3).at(0).re, 3.0);
        assert_eq!(ramp(8).rotate(-1).at(0).re, 7.0);
        assert_eq!(ramp(8).rotate(11), ramp(8).rotate(3));
    }

    #[test]
    fn fold_is_the_sum_of_rotations_and_keeps_one_period() {
        for (step, count) in [(1, 4), (2, 4), (4, 2), (-2, 4), (8, 4), (3, 2), (2, 2)] {
            let v = ramp(16).map(|x| x * x);
            let mut sum = Slots::splat(Complex64::ZERO);
            for i in 0..count {
                sum = sum.zip(&v.rotate(step * i), |a, b| a + b);
            }
            let folded = v.fold(step, count as u32);
            assert_eq!(folded.tiled(16), sum.tiled(16), "step {step} count {count}");
        }
        assert_eq!(ramp(16).fold(4, 4).period(), 4);
    }

    #[test]
    fn chebyshev_series_is_cosines() {
        let x = Slots::real(&[0.3, -0.8]).unwrap();
        let y = x.chebyshev(&[0.5, -1.0, 2.0, 0.25]);
        for p in 0..2 {
            let t = x.at(p).re.acos();
            let expected = 0.5 - t.cos() + 2.0 * (2.0 * t).cos() + 0.25 * (3.0 * t).cos();
            assert!((y.at(p).re - expected).abs() < 1e-14);
        }
    }
}
