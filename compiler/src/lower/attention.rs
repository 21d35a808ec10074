//! Rotary embedding, the KV state, and softmax attention over it.
//!
//! One group template does per group: products q·k summed over lanes, one mask that keeps lane 0 and carries every factor
//! before the exponential, a broadcast back to all lanes, the exponential, one mask that drops empty tokens and carries the
//! factor 1/count and each head's normalisation, then the sums over tokens with and without V. Because 1/count is in the
//! masked exponentials, numerator and denominator stay in [-1, 1] at every position. The division comes once, after the loop.

use crate::approx::{Fit, FitError, Function, Window, cheapest};
use sotto_ir::slot::{DataDecl, Layout, Op, PlainFactor, Recipe, StateId, ValueType};

use super::LowerError;
use super::builder::{Builder, Draft, Val, real};
use super::linear::periodic;
use super::options::Geometry;

/// What softmax needs to know.
#[derive(Clone, Debug)]
pub struct Softmax {
    /// Scaled scores, zero included, with margin.
    pub scores: Window,
    /// Multiplies q·k.
    pub scale: f64,
    /// Per head, ln of the mean exponential: its middle, calibrated; one entry per layer of the model, then per padded head.
    pub centres: Vec<Vec<f64>>,
    /// Largest distance from its middle that any head's logarithm reaches, with margin.
    pub spread: f64,
    /// Least logarithm of a mean exponential, with margin.
    pub lowest: f64,
    /// Squarings after the exponential's polynomial.
    pub squarings: u32,
    /// Error allowed: relative, of a softmax weight.
    pub tolerance: f64,
}

impl Softmax {
    /// exp(score - highest score), before squarings.
    pub fn exponential(&self) -> Result<Fit, FitError> {
        let exp = Function::Exp {
            window: self.scores,
            root: f64::from(1u32 << self.squarings),
            lowest: self.lowest,
        };
        cheapest(&exp, self.tolerance)
    }

    /// Least value of the stored denominator; its largest is 1.
    pub fn least(&self) -> f64 {
        (-2.0 * self.spread).exp()
    }

    /// 1 / denominator on [least, least + 1]: doubling makes that window fill [-1, 1].
    pub fn inverse(&self) -> Result<Fit, FitError> {
        let window = Window {
            lo: self.least(),
            hi: self.least() + 1.0,
        };
        cheapest(&Function::Inverse { window, scale: 1.0 }, self.tolerance)
    }
}

/// Where attention happens.
pub struct Place<'a> {
    /// Site.
    pub site: &'a str,
    /// Distinguishes the tables of several layer templates; empty if there is one.
    pub tag: &'a str,
    /// How features lie.
    pub geometry: &'a Geometry,
    /// Positions that tables cover.
    pub capacity: u32,
}

impl Place<'_> {
    fn tokens(&self) -> Layout {
        Layout::Tokens {
            tokens: self.geometry.tokens,
            width: self.geometry.width(),
        }
    }

    fn query(&self) -> Layout {
        periodic(&self.geometry.queries())
    }

    /// The mask of the current token.
    fn current(&self) -> PlainFactor {
        PlainFactor::CurrentToken {
            tokens: self.geometry.tokens,
            width: self.geometry.width(),
        }
    }
}

/// Rotary embedding; masked to the current token's slots when `masked`.
pub fn rope(b: &mut Builder<'_>, place: &Place<'_>, site: &str, x: &Val, masked: bool) -> Val {
    let width = place.geometry.width();
    // every head turns alike, so keys and queries share the tables
    let map = place.geometry.queries();
    let table = |name: &str, recipe| DataDecl {
        name: name.into(),
        per_layer: false,
        shape: vec![place.capacity, width],
        recipe,
    };
    let (map, scale) = (map, 1.0);
    let cos = b.data(table(
        "rope.cos",
        Recipe::RopeCos {
            map: map.clone(),
            scale,
        },
    ));
    let sin = b.data(table("rope.sin", Recipe::RopeSin { map, scale }));
    let plain = |b: &mut Builder<'_>, name: &str, table| {
        let mut factors = vec![PlainFactor::PositionRow(table)];
        factors.extend(masked.then(|| place.current()));
        b.plain(name, factors)
    };
    let suffix = if masked { ".current" } else { "" };
    let cos = plain(b, &format!("rope.cos{suffix}"), cos);
    let sin = plain(b, &format!("rope.sin{suffix}"), sin);
    let layout = if masked {
        place.tokens()
    } else {
        place.query()
    };
    let other = Op::Rotate {
        v: x.id,
        by: width as i32 / 2,
    };
    let other = b.emit(
        site,
        other,
        real(Layout::Partial { period: width }, x.unit()),
    );
    let a = b.mul_plain(site, x, cos, layout.clone(), x.unit());
    let c = b.mul_plain(site, &other, sin, layout, x.unit());
    b.add(site, &a, &c)
}

/// A periodic vector in the current token's slots only.
pub fn at_current(b: &mut Builder<'_>, place: &Place<'_>, site: &str, x: &Val) -> Val {
    let mask = b.plain("current", vec![place.current()]);
    b.mul_plain(site, x, mask, place.tokens(), x.unit())
}

/// Emits attention of `q` over the states `k` and `v`, given their units; the result, a mean of
/// values, has the unit of `v`.
pub fn lower(
    b: &mut Builder<'_>,
    place: &Place<'_>,
    softmax: &Softmax,
    q: &Val,
    states: [(StateId, f64); 2],
) -> Result<Val, LowerError> {
    let site = place.site;
    let fail = |source| LowerError::Fit {
        site: site.into(),
        source,
    };
    let [k, v] = states;
    let group = group(b.draft, place, softmax, q, (k.1, v.1)).map_err(fail)?;
    let layout = place.query();
    let types = vec![real(layout.clone(), v.1), real(layout, 1.0)];
    let sums = b.sum_groups(site, group, &[k.0, v.0], &[q], types);
    let (numerator, denominator) = (&sums[0], &sums[1]);

    let fit = softmax.inverse().map_err(fail)?;
    let name = format!("{site}.inverse");
    let argument = b.double(&name, denominator, 1);
    let argument = b.add_const(&name, &argument, -2.0 * softmax.least() - 1.0);
    let inverse = b.poly(&name, &argument, &fit, 1.0);
    Ok(b.mul(site, numerator, &inverse))
}

/// The group template: (q, K, V) to (numerator, denominator).
fn group(
    draft: &mut Draft,
    place: &Place<'_>,
    softmax: &Softmax,
    q: &Val,
    units: (f64, f64),
) -> Result<usize, FitError> {
    let Place { site, geometry, .. } = place;
    let (width, heads, lanes) = (geometry.width(), geometry.heads_padded, geometry.lanes);
    let (tokens, period) = (geometry.tokens, geometry.tokens * width);
    let mut b = Builder::new(draft);
    let query = b.param(q.ty.clone());
    let keys = b.param(real(place.tokens(), units.0));
    let values = b.param(real(place.tokens(), units.1));

    let partial = Layout::Partial { period };
    let scores = &format!("{site}.scores");
    let products = b.mul(scores, &query, &keys);
    let sums = b.fold(scores, &products, heads as i32, lanes, partial.clone());
    let (mid, half) = (softmax.scores.mid(), softmax.scores.half());
    let factor = softmax.scale * q.unit() * units.0 / half;
    let first = PlainFactor::FirstOf {
        width,
        first: heads,
    };
    let mask = b.plain(
        &format!("{site}.lane{}", place.tag),
        vec![first, PlainFactor::Const(factor)],
    );
    let kept = b.mul_plain(scores, &sums, mask, partial, half);
    let spread = b.fold(scores, &kept, -(heads as i32), lanes, place.tokens());
    let argument = b.add_const(scores, &spread, -mid / half);

    let fit = softmax.exponential()?;
    let exp = &format!("{site}.exp");
    let mut e = b.poly(exp, &argument, &fit, 1.0);
    for _ in 0..softmax.squarings {
        e = b.mul(exp, &e, &e);
    }
    let weights = weights_plain(&mut b, place, softmax);
    let e = b.mul_plain(exp, &e, weights, place.tokens(), 1.0);

    let sum = &format!("{site}.sum");
    let weighted = b.mul(sum, &e, &values);
    let layout = periodic(&geometry.queries());
    let numerator = b.fold(sum, &weighted, width as i32, tokens, layout.clone());
    let denominator = b.fold(sum, &e, width as i32, tokens, layout);
    Ok(b.finish(
        &format!("{}group{}", "attention.", place.tag),
        &[&numerator, &denominator],
    ))
}

/// The mask on the exponentials: cached tokens only, 1/count, and each head's factor, which brings the mean exponential of
/// head h to exp(L_h - centre_h - spread) ∈ [exp(-2·spread), 1].
fn weights_plain(
    b: &mut Builder<'_>,
    place: &Place<'_>,
    softmax: &Softmax,
) -> sotto_ir::slot::PlainId {
    let heads = place.geometry.heads_padded;
    let factor = |centre: &f64| (softmax.scores.hi - centre - softmax.spread).exp();
    let factors = softmax.centres.iter();
    let values = factors
        .map(|layer| layer.iter().map(factor).collect())
        .collect();
    let name = format!("{}.head_factor{}", place.site, place.tag);
    let data = b.data(DataDecl {
        name,
        per_layer: true,
        shape: vec![heads],
        recipe: Recipe::Values(values),
    });
    let factors = vec![
        PlainFactor::CachedTokens {
            tokens: place.geometry.tokens,
            width: place.geometry.width(),
        },
        PlainFactor::InverseCount,
        PlainFactor::Vector(data),
    ];
    b.plain(&format!("{}.weight{}", place.site, place.tag), factors)
}

/// The type of a state's group.
pub fn state_type(geometry: &Geometry, unit: f64) -> ValueType {
    let layout = Layout::Tokens {
        tokens: geometry.tokens,
        width: geometry.width(),
    };
    real(layout, unit)
}
