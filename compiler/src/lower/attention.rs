//! Rotary embedding, the KV state, and softmax attention over it.
//!
//! One group template does per group: products q·k summed over lanes, one mask that keeps lane 0 and carries every factor
//! before the exponential, a broadcast back to all lanes, the exponential, one mask that drops empty tokens and carries the
//! factor 1/count and each head's normalisation, then the sums over tokens with and without V, as imaginary and real part of one
//! product. Because 1/count is in the masked exponentials, numerator and denominator stay in [-1, 1] at every position. The division
//! comes once, after the loop.
//!
//! Tokens of a group lie either outside the features (tiled vectors: token r in slots r·width + f) or inside (spread vectors: f·tokens
//! + r, Cachemir's layout, arXiv 2602.11470); steps and masks follow from [`Geometry::stride`] and [`Geometry::token_stride`].

use crate::approx::{Fit, FitError, Function, Window, cheapest};
use sotto_ir::slot::{DataDecl, Layout, Op, PlainFactor, Recipe, StateId, ValueType};

use super::LowerError;
use super::builder::{Builder, Draft, Val, real};
use super::linear;
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
        group_layout(self.geometry)
    }

    /// The mask of the current token.
    fn current(&self) -> PlainFactor {
        PlainFactor::CurrentToken {
            tokens: self.geometry.tokens,
            width: self.geometry.token_stride(),
        }
    }
}

/// Which slots of a rotary embedding are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All: the vector is tiled.
    All,
    /// The first slot of each feature of a spread vector.
    First,
    /// The current token's slots in a KV group.
    Current,
}

/// Rotary embedding, with a mask that joins it at no price.
pub fn rope(b: &mut Builder<'_>, place: &Place<'_>, site: &str, x: &Val, keep: Keep) -> Val {
    let geometry = place.geometry;
    let (width, stride) = (geometry.width(), geometry.stride());
    // every head turns alike, so keys and queries share the tables
    let map = geometry.queries();
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
    let (mask, suffix) = match keep {
        Keep::All => (None, ""),
        Keep::First => {
            let (width, first) = (stride, 1);
            (Some(PlainFactor::FirstOf { width, first }), ".first")
        }
        Keep::Current => (Some(place.current()), ".current"),
    };
    let plain = |b: &mut Builder<'_>, name: &str, data| {
        let mut factors = vec![PlainFactor::PositionRow { data, stride }];
        factors.extend(mask.clone());
        b.plain(name, factors)
    };
    let cos = plain(b, &format!("rope.cos{suffix}"), cos);
    let sin = plain(b, &format!("rope.sin{suffix}"), sin);
    let layout = match keep {
        Keep::Current => place.tokens(),
        Keep::All | Keep::First => x.ty.layout.clone(),
    };
    let period = width * stride;
    let other = Op::Rotate {
        v: x.id,
        by: period as i32 / 2,
    };
    let other = b.emit(site, other, real(Layout::Partial { period }, x.unit()));
    let a = b.mul_plain(site, x, cos, layout.clone(), x.unit());
    let c = b.mul_plain(site, &other, sin, layout, x.unit());
    b.add(site, &a, &c)
}

/// A head vector in the current token's slots only.
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
    let geometry = place.geometry;
    let queries = geometry.queries();
    // half of half the denominator + i·numerator
    let ty = ValueType {
        complex: true,
        ..real(summed(geometry), v.1)
    };
    let sums = b.sum_groups(site, group, &[k.0, v.0], &[q], vec![ty]);
    let sums = match geometry.interleaved {
        true => linear::clean(b, site, &sums[0], &queries),
        false => sums[0].clone(),
    };
    let name = format!("{site}.inverse");
    let (denominator, numerator) = b.split((&name, site), &sums, (2.0, v.1));

    let fit = softmax.inverse().map_err(fail)?;
    let argument = b.double(&name, &denominator, 2);
    let argument = b.add_const(&name, &argument, -2.0 * softmax.least() - 1.0);
    let inverse = b.poly(&name, &argument, &fit, 1.0);
    Ok(b.mul(site, &numerator, &inverse))
}

/// The layout of sums over a group's tokens: tiled, or spread by the tokens.
fn summed(geometry: &Geometry) -> Layout {
    match geometry.interleaved {
        true => Layout::Partial {
            period: geometry.tokens * geometry.width(),
        },
        false => linear::periodic(&geometry.queries()),
    }
}

/// The group template: (q, K, V) to half of half the denominator + i·numerator.
fn group(
    draft: &mut Draft,
    place: &Place<'_>,
    softmax: &Softmax,
    q: &Val,
    units: (f64, f64),
) -> Result<usize, FitError> {
    let Place { site, geometry, .. } = place;
    let (heads, lanes, tokens) = (geometry.heads_padded, geometry.lanes, geometry.tokens);
    let (period, stride) = (tokens * geometry.width(), geometry.stride());
    let mut b = Builder::new(draft);
    let query = b.param(q.ty.clone());
    let keys = b.param(real(place.tokens(), units.0));
    let values = b.param(real(place.tokens(), units.1));

    let partial = Layout::Partial { period };
    let scores = &format!("{site}.scores");
    let products = b.mul(scores, &query, &keys);
    let lane = (heads * stride) as i32;
    let sums = b.fold(scores, &products, lane, lanes, partial.clone());
    let (mid, half) = (softmax.scores.mid(), softmax.scores.half());
    let factor = softmax.scale * q.unit() * units.0 / half;
    let first = PlainFactor::FirstOf {
        width: geometry.width() * stride,
        first: heads * stride,
    };
    let mask = b.plain(
        &format!("{site}.lane{}", place.tag),
        vec![first, PlainFactor::Const(factor)],
    );
    let kept = b.mul_plain(scores, &sums, mask, partial.clone(), half);
    let spread = b.fold(scores, &kept, -lane, lanes, place.tokens());
    let argument = b.add_const(scores, &spread, -mid / half);

    let fit = softmax.exponential()?;
    let exp = &format!("{site}.exp");
    let mut e = b.poly(exp, &argument, &fit, 1.0);
    for _ in 0..softmax.squarings {
        e = b.mul(exp, &e, &e);
    }
    let weights = weights_plain(&mut b, place, softmax);
    let e = b.mul_plain(exp, &e, weights, place.tokens(), 1.0);

    // e·(1/2 + i·V): one product and one fold for both sums; a half leaves noise room within the slots' range of 1
    let sum = &format!("{site}.sum");
    let imaginary = ValueType {
        complex: true,
        ..values.ty.clone()
    };
    let turned = b.emit(sum, Op::MulI { v: values.id }, imaginary);
    let both = b.add_const(sum, &turned, 0.5);
    let weighted = b.mul(sum, &e, &both);
    let step = geometry.token_stride() as i32;
    let z = b.fold(sum, &weighted, step, tokens, summed(geometry));
    Ok(b.finish(&format!("{}group{}", "attention.", place.tag), &[&z]))
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
            width: place.geometry.token_stride(),
        },
        PlainFactor::InverseCount,
        PlainFactor::Vector {
            data,
            stride: place.geometry.stride(),
        },
        PlainFactor::Const(0.5), // a split doubles
    ];
    b.plain(&format!("{}.weight{}", place.site, place.tag), factors)
}

/// The type of a state's group.
pub fn state_type(geometry: &Geometry, unit: f64) -> ValueType {
    real(group_layout(geometry), unit)
}

fn group_layout(geometry: &Geometry) -> Layout {
    let (tokens, width) = (geometry.tokens, geometry.width());
    match geometry.interleaved {
        true => Layout::Interleaved { tokens, width },
        false => Layout::Tokens { tokens, width },
    }
}
