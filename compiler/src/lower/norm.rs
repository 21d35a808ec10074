//! RMSNorm: x · p(Σ x²), with p an inverse square root.
//!
//! The fold of x² needs an affine map to [-1, 1]. Its factor costs no level: it is a power of two, made by additions, and the
//! residual stream's unit is chosen so that this power of two is nearly right. What is left over widens the window upwards.

use crate::approx::{Fit, Function, Window, cheapest};
use sotto_ir::slot::{Layout, Op};

use super::LowerError;
use super::builder::{Builder, Val, real};

/// How Σ x², in stored units, becomes the polynomial's argument t = factor · 2^doublings · Σ x² - offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormMap {
    /// Additions of the sum to itself.
    pub doublings: u32,
    /// A factor that costs a level, if there is one.
    pub factor: Option<f64>,
    /// Subtracted after.
    pub offset: f64,
    /// Mean squares that t ∈ [-1, 1] stands for.
    pub window: Window,
}

/// Most additions worth making before the sum's noise would show.
const DOUBLINGS: i32 = 12;

impl NormMap {
    /// The map for `count` features of unit `unit` whose mean square lies in `calibrated`; None where the window is longer than
    /// [-1, 1] in stored units, so that the unit is too small.
    pub fn doubled(count: usize, unit: f64, calibrated: Window) -> Option<NormMap> {
        let stored = count as f64 / (unit * unit);
        let room = (1.0 / (stored * calibrated.half())).log2();
        // rounding must not refuse the unit that just fits
        let doublings = (room + 1e-9).floor().min(f64::from(DOUBLINGS));
        if doublings < 0.0 {
            return None;
        }
        let factor = stored * doublings.exp2();
        Some(NormMap {
            doublings: doublings as u32,
            factor: None,
            offset: factor * calibrated.lo + 1.0,
            window: Window {
                lo: calibrated.lo,
                hi: calibrated.lo + 2.0 / factor,
            },
        })
    }

    /// The map that makes the window exactly the calibrated one, at the price of a level.
    pub fn scaled(count: usize, unit: f64, calibrated: Window) -> NormMap {
        let factor = unit * unit / (count as f64 * calibrated.half());
        NormMap {
            doublings: 0,
            factor: Some(factor),
            offset: calibrated.mid() / calibrated.half(),
            window: calibrated,
        }
    }
}

/// A residual-stream unit of at least `least` for which every norm, given as (features, window), has a map: the one, within a
/// factor of two, whose windows end up narrowest.
pub fn residual_unit(least: f64, norms: &[(usize, Window)]) -> f64 {
    const STEPS: u32 = 32;
    let fits = |&(count, window): &(usize, Window)| (count as f64 * window.half()).sqrt();
    let least = norms.iter().map(fits).fold(least, f64::max);
    let spread = |unit: f64| -> f64 {
        let ratio = |&(count, window): &(usize, Window)| {
            NormMap::doubled(count, unit, window)
                .map_or(f64::INFINITY, |map| (map.window.hi / map.window.lo).ln())
        };
        norms.iter().map(ratio).sum()
    };
    (0..STEPS)
        .map(|step| least * (f64::from(step) / f64::from(STEPS)).exp2())
        .min_by(|a, b| spread(*a).total_cmp(&spread(*b)))
        .unwrap_or(least)
}

/// What a norm needs to know.
pub struct Norm<'a> {
    /// Its site.
    pub site: &'a str,
    /// Features that carry data.
    pub count: usize,
    /// Calibrated mean squares, with margin.
    pub window: Window,
    /// Added to the mean square.
    pub eps: f64,
    /// Unit of the result.
    pub unit: f64,
    /// Relative error allowed.
    pub tolerance: f64,
    /// Whether a level is spent on the exact map.
    pub scaled: bool,
}

impl Norm<'_> {
    /// The argument's map and the polynomial, for a residual stream of unit `unit`.
    pub fn fit(&self, unit: f64) -> Result<(NormMap, Fit), LowerError> {
        let map = match self.scaled {
            true => Some(NormMap::scaled(self.count, unit, self.window)),
            false => NormMap::doubled(self.count, unit, self.window),
        };
        let map = map.ok_or_else(|| LowerError::Unsupported {
            site: self.site.into(),
            what: "a residual stream whose unit is too small for the norm's window".into(),
        })?;
        let function = Function::InverseSqrt {
            window: map.window,
            eps: self.eps,
            scale: unit / self.unit,
        };
        let fit = cheapest(&function, self.tolerance).map_err(|source| LowerError::Fit {
            site: self.site.into(),
            source,
        })?;
        Ok((map, fit))
    }
}

/// Emits a norm without its gain.
pub fn lower(b: &mut Builder<'_>, x: &Val, norm: &Norm<'_>) -> Result<Val, LowerError> {
    let site = norm.site;
    let (map, fit) = norm.fit(x.unit())?;
    // each feature once
    let (step, width) = match *x.ty.layout.each() {
        Layout::Strided { width, stride, .. } => (stride, width),
        ref tiled => (1, tiled.period()),
    };
    let square = b.mul(&format!("{site}.square"), x, x);
    let scalar = match step {
        1 => Layout::Scalar,
        period => Layout::Partial { period },
    };
    let all = &format!("{site}.sum");
    let mut sum = b.fold(all, &square, step as i32, width, scalar.clone());
    sum = b.double(&format!("{site}.window"), &sum, map.doublings);
    if let Some(c) = map.factor {
        let ty = real(scalar, sum.unit() / c);
        sum = b.emit(&format!("{site}.window"), Op::MulConst { v: sum.id, c }, ty);
    }
    let argument = b.add_const(&format!("{site}.window"), &sum, -map.offset);
    let inverse = b.poly(&format!("{site}.rsqrt"), &argument, &fit, 1.0);
    let ty = real(x.ty.layout.clone(), norm.unit);
    let op = Op::Mul {
        a: x.id,
        b: inverse.id,
    };
    Ok(b.emit(site, op, ty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_sends_the_window_into_minus_one_to_one() {
        let calibrated = Window::new(0.2, 1.4).unwrap();
        let exact = NormMap::scaled(64, 9.0, calibrated);
        let t = |ms: f64| 64.0 * ms / 81.0 * exact.factor.unwrap() - exact.offset;
        assert!((t(0.2) + 1.0).abs() < 1e-12 && (t(1.4) - 1.0).abs() < 1e-12);
        let map = NormMap::doubled(64, 9.0, calibrated).unwrap();
        let t = |ms: f64| 64.0 * ms / 81.0 * f64::from(1 << map.doublings) - map.offset;
        assert!((t(0.2) + 1.0).abs() < 1e-12);
        assert!(t(1.4) <= 1.0 && t(1.4) > -0.01);
        assert!((t(map.window.hi) - 1.0).abs() < 1e-12);
        assert!(
            NormMap::doubled(64, 3.0, calibrated).is_none(),
            "the window is too long for this unit"
        );
    }

    #[test]
    fn the_unit_leaves_the_decisive_window_as_calibrated() {
        let window = Window::new(0.2, 1.4).unwrap();
        for least in [1.0, 5.0, 7.0, 20.0] {
            let unit = residual_unit(least, &[(64, window)]);
            let map = NormMap::doubled(64, unit, window).unwrap();
            assert!(unit >= least);
            assert!(map.window.hi / window.hi < 1.05, "{least}: {map:?}");
        }
    }
}
