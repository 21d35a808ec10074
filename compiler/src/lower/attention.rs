//! Rotary embedding, the KV state, and softmax attention over it.
//!
//! One group template does per group: products q·k summed over lanes, the exponential, one mask that drops empty tokens and carries
//! the factor 1/count and each head's normalisation, then the products with 1/2 + i·V, whose sum over all tokens, after the loop, is the
//! softmax's denominator and numerator as real and imaginary part. Because 1/count is in the masked exponentials, both stay in [-1, 1]
//! at every position. The division comes once, after the sum.
//!
//! Tokens of a group lie outside the features, inside them (all of them: Cachemir's layout, arXiv 2602.11470), or some inside and the
//! runs of those outside ([`Group`](sotto_ir::slot::Group)). Queries and keys are spread by as many slots as tokens lie inside, and so is
//! the result. With any outside, the sums over lanes wrap into other tokens: a mask keeps lane 0, carries every factor before the
//! exponential, and lane 0 is repeated. With all inside they wrap into the same token and repeat by themselves, and the factors are in
//! the query.
//!
//! Where many tokens are cached a group may be a pair of encrypted matrices instead ([`super::diagonals`]).
//!
//! A block of tokens shares one such loop ([`super::block`]): each of its tokens is a query of its own, to the same keys.

use crate::approx::{Fit, FitError, Function, Window, cheapest};
use sotto_ir::slot::{
    DataDecl, DataId, FeatureMap, Group, Layout, Op, PlainFactor, PlainId, Recipe, Side, StateId,
    ValueType,
};

use super::LowerError;
use super::builder::{Builder, Draft, Val, real, whole};
use super::diagonals;
use super::linear;
use super::options::{Geometry, places};

/// What softmax needs to know.
#[derive(Clone, Debug)]
pub struct Softmax {
    /// Scaled scores less their head's top, empty tokens' included, with margin.
    pub scores: Window,
    /// Multiplies q·k.
    pub scale: f64,
    /// Per head, what no score exceeds; one entry per layer of the model, then per padded head.
    pub tops: Vec<Vec<f64>>,
    /// Per head, ln of the mean exponential: its middle, calibrated; ordered alike.
    pub centres: Vec<Vec<f64>>,
    /// Largest distance from its middle that any head's logarithm reaches, with margin.
    pub spread: f64,
    /// Least logarithm of a mean exponential, less its head's top, with margin.
    pub lowest: f64,
    /// Squarings after the exponential's polynomial.
    pub squarings: u32,
    /// Error allowed: relative, of a softmax weight.
    pub tolerance: f64,
}

impl Softmax {
    /// exp(score - the head's top), before squarings.
    pub fn exponential(&self) -> Result<Fit, FitError> {
        let exp = Function::Exp {
            window: self.scores,
            root: f64::from(1u32 << self.squarings),
            lowest: self.lowest,
            tolerance: self.tolerance,
        };
        cheapest(&exp, self.tolerance)
    }

    /// Least value of the stored denominator; its largest is 1.
    pub fn least(&self) -> f64 {
        (-2.0 * self.spread).exp()
    }

    /// The unit of a query with which its products with keys of a unit, summed, are the exponential's argument but for the middle.
    pub fn query_unit(&self, keys: f64) -> f64 {
        self.scores.half() / (self.scale * keys)
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

impl Softmax {
    /// Of every `parts`th head, from head `part` on.
    pub fn part(&self, part: u32, parts: u32) -> Softmax {
        let every = |heads: &Vec<f64>| -> Vec<f64> {
            let heads = heads.iter().skip(part as usize);
            heads.step_by(parts as usize).copied().collect()
        };
        Softmax {
            tops: self.tops.iter().map(every).collect(),
            centres: self.centres.iter().map(every).collect(),
            ..self.clone()
        }
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
    /// The layout of a group as attention reads it.
    pub fn tokens(&self) -> Layout {
        group_layout(self.geometry)
    }

    /// The layout of a group as it is stored for decode: one with room for as many tokens as all tokens of a block have together.
    fn stored(&self) -> Layout {
        stored_layout(self.geometry)
    }

    /// Copies that a group has of each feature of a key or value with these places.
    pub fn copies(&self, map: &FeatureMap) -> u32 {
        self.geometry.width() / places(map)
    }

    /// The mask of the current tokens in a stored group; of `copies` of each feature, of the first.
    fn current(&self, copies: u32) -> Vec<PlainFactor> {
        let group = stored_group(self.geometry);
        let token = PlainFactor::CurrentToken { group, block: 1 };
        let first = PlainFactor::FirstOf {
            width: group.inner * copies,
            first: group.inner,
        };
        match copies {
            1 => vec![token],
            _ => vec![token, first],
        }
    }
}

/// What a rotary embedding is for, and so which slots are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Turn {
    /// A query, in the unit that suits the scores. Of a spread one the first slot of each feature is kept.
    Query {
        /// Unit of the result.
        unit: f64,
    },
    /// A key: the current tokens' slots of a KV group. Of one made once per KV head the first copy is there, and is repeated.
    Key {
        /// Copies of each feature that the group has for one that is there.
        copies: u32,
    },
    /// A key, in all slots.
    Tiled,
}

/// Rotary embedding, with masks and factors that join it at no price.
pub fn rope(b: &mut Builder<'_>, place: &Place<'_>, site: &str, x: &Val, turn: Turn) -> Val {
    let geometry = place.geometry;
    let (width, stride) = (geometry.width(), geometry.stride());
    let (mut factors, name, unit) = (Vec::new(), turn_name(turn, geometry), turn_unit(turn, x));
    let layout = match turn {
        Turn::Query { .. } => {
            if stride > 1 {
                let (width, first) = (stride, 1);
                factors.push(whole(PlainFactor::FirstOf { width, first }, b.block));
            }
            if unit != x.unit() {
                factors.push(PlainFactor::Const(x.unit() / unit));
            }
            x.ty.layout.clone()
        }
        Turn::Key { copies } => {
            factors.extend(place.current(copies));
            place.stored()
        }
        Turn::Tiled => x.ty.layout.clone(),
    };
    let plains = tables(b, place).map(|(part, data)| {
        let row = PlainFactor::PositionRow {
            data,
            stride,
            block: 1,
        };
        let row = whole(row, b.block);
        b.whole_plain(
            &format!("rope.{part}{name}"),
            [&[row], &factors[..]].concat(),
        )
    });
    let period = width * stride;
    let other = b.rotate(site, x, period as i32 / 2, Layout::Partial { period });
    let mut product = |v: &Val, plain| {
        let op = Op::MulPlain { v: v.id, plain };
        b.emit_whole(site, op, real(layout.clone(), unit))
    };
    let [cos, sin] = [product(x, plains[0]), product(&other, plains[1])];
    let turned = b.add_whole(site, &cos, &sin);
    match turn {
        Turn::Key { copies } => repeat_copies(b, place, site, turned, copies),
        _ => turned,
    }
}

fn turn_name(turn: Turn, geometry: &Geometry) -> &'static str {
    match turn {
        Turn::Query { .. } if geometry.inner > 1 => ".first",
        Turn::Query { .. } => "",
        Turn::Key { copies: 1 } => ".current",
        Turn::Key { .. } => ".current.once",
        Turn::Tiled => "",
    }
}

fn turn_unit(turn: Turn, x: &Val) -> f64 {
    match turn {
        Turn::Query { unit } => unit,
        Turn::Key { .. } | Turn::Tiled => x.unit(),
    }
}

/// Cosines and sines. Every head turns alike, so keys and queries share them.
fn tables(b: &mut Builder<'_>, place: &Place<'_>) -> [(&'static str, DataId); 2] {
    let (map, scale) = (place.geometry.queries(), 1.0);
    let table = |name: &str, recipe| DataDecl {
        name: format!("rope.{name}"),
        per_layer: false,
        shape: vec![place.capacity, place.geometry.width()],
        recipe,
    };
    let cos = Recipe::RopeCos {
        map: map.clone(),
        scale,
    };
    let cos = b.data(table("cos", cos));
    let sin = b.data(table("sin", Recipe::RopeSin { map, scale }));
    [("cos", cos), ("sin", sin)]
}

/// A head vector in the current token's slots only; `copies` as of [`Turn::Key`].
pub fn at_current(b: &mut Builder<'_>, place: &Place<'_>, site: &str, x: &Val, copies: u32) -> Val {
    let name = match copies {
        1 => "current",
        _ => "current.once",
    };
    let plain = b.whole_plain(name, place.current(copies));
    let op = Op::MulPlain { v: x.id, plain };
    let kept = b.emit_whole(site, op, real(place.stored(), x.unit()));
    repeat_copies(b, place, site, kept, copies)
}

/// Features that stand in the first of their copies' slots, zero in the others, in all of them. No block of tokens has these.
fn repeat_copies(b: &mut Builder<'_>, place: &Place<'_>, site: &str, v: Val, copies: u32) -> Val {
    let step = place.geometry.stride() as i32;
    b.fold(site, &v, -step, copies, place.stored())
}

/// Emits attention of the queries, one for each part of the heads, over the states `k` and `v`, given their units; the result, a mean of
/// values, has the unit of `v`.
pub fn lower(
    b: &mut Builder<'_>,
    place: &Place<'_>,
    softmax: &Softmax,
    queries: &[Val],
    states: [(StateId, f64); 2],
) -> Result<Val, LowerError> {
    let site = place.site;
    let fail = |source| LowerError::Fit {
        site: site.into(),
        source,
    };
    let [k, v] = states;
    let geometry = place.geometry;
    let units = (k.1, v.1);
    let (group, layout, queries) = match geometry.diagonals {
        None => {
            let group = group(b.draft, place, softmax, &queries[0], units);
            (group.map_err(fail)?, place.tokens(), queries.to_vec())
        }
        Some(baby) => {
            let operand = |q: &Val| diagonals::operand(b, place, site, q);
            let queries: Vec<Val> = queries.iter().map(operand).collect();
            let group = diagonals::group(b.draft, place, softmax, baby, &queries, units);
            let period = geometry.width() * geometry.inner;
            (group.map_err(fail)?, Layout::Partial { period }, queries)
        }
    };
    // half of half the denominator + i·numerator
    let ty = ValueType {
        complex: true,
        ..real(layout, v.1)
    };
    let types = vec![ty; queries.len()];
    let queries: Vec<&Val> = queries.iter().collect();
    let weighted = b.sum_groups(site, group, &[k.0, v.0], &queries, types);
    let part = geometry.part();
    let each = Place {
        geometry: &part,
        ..*place
    };
    let sums = weighted.iter().map(|v| sum_tokens(b, &each, v));
    let sums: Vec<Val> = sums.collect();
    let sums = match (&sums[..], geometry.inner) {
        ([sums], 1) => sums.clone(),
        ([sums], _) => linear::clean(b, site, sums, &geometry.queries(), sums.unit()),
        (parts, _) => diagonals::whole(b, place, parts),
    };
    let name = format!("{site}.inverse");
    let (denominator, numerator) = b.split((&name, site), &sums, (2.0, v.1));

    let fit = softmax.inverse().map_err(fail)?;
    let argument = b.double(&name, &denominator, 2);
    let argument = b.add_const(&name, &argument, -2.0 * softmax.least() - 1.0);
    let inverse = b.poly(&name, &argument, &fit, 1.0);
    Ok(b.mul(site, &numerator, &inverse))
}

/// Sums over a group's tokens: first over runs, which come round, then within them, where the first slot of each has the sum.
fn sum_tokens(b: &mut Builder<'_>, place: &Place<'_>, v: &Val) -> Val {
    let Place { site, geometry, .. } = place;
    let (site, run) = (&format!("{site}.sum"), geometry.width() * geometry.inner);
    let layout = match geometry.inner {
        1 => linear::periodic(&geometry.queries()),
        _ => Layout::Partial { period: run },
    };
    // of matrices the products have summed over rows
    let outer = match geometry.diagonals {
        Some(_) => 1,
        None => geometry.outer(),
    };
    let runs = b.fold(site, v, run as i32, outer, layout.clone());
    b.fold(site, &runs, 1, geometry.inner, layout)
}

/// The group template: (q, K, V) to each token's part of half of half the denominator + i·numerator.
fn group(
    draft: &mut Draft,
    place: &Place<'_>,
    softmax: &Softmax,
    q: &Val,
    units: (f64, f64),
) -> Result<usize, FitError> {
    let Place { site, geometry, .. } = place;
    let (heads, lanes) = (geometry.heads_padded, geometry.lanes);
    let period = geometry.group().period();
    let mut b = Builder::new(draft);
    let query = b.param(q.ty.clone());
    let keys = b.param(real(place.tokens(), units.0));
    let values = b.param(real(place.tokens(), units.1));

    let scores = &format!("{site}.scores");
    let products = b.mul(scores, &query, &keys);
    let lane = (heads * geometry.stride()) as i32;
    let sums = |b: &mut Builder<'_>, period| {
        b.fold(scores, &products, lane, lanes, Layout::Partial { period })
    };
    let scaled = match geometry.outer() {
        // all lanes hold the sum
        1 => {
            let sums = sums(&mut b, period / lanes);
            scaled_scores(&mut b, scores, softmax, &sums)
        }
        _ => {
            let half = softmax.scores.half();
            let factor = softmax.scale * products.unit() / half;
            let sums = sums(&mut b, period);
            spread_lane(&mut b, place, &sums, factor, half)
        }
    };
    let e = exponential(&mut b, place, softmax, &scaled)?;
    // e·(1/2 + i·V): one product and one fold for both sums; a half leaves noise room within the slots' range of 1. The weights
    // multiply V, not e, whose levels are the longer way
    let sum = &format!("{site}.sum");
    let imaginary = ValueType {
        complex: true,
        ..values.ty.clone()
    };
    let turned = b.emit(sum, Op::MulI { v: values.id }, imaginary.clone());
    let both = b.add_const(sum, &turned, 0.5);
    // a half, since a split doubles
    let plain = weights_plain(&mut b, place, softmax, geometry.group(), 0.5);
    let both = b.emit(sum, Op::MulPlain { v: both.id, plain }, imaginary);
    let weighted = b.mul(sum, &e, &both);
    Ok(b.finish(&format!("attention.group{}", place.tag), &[&weighted]))
}

/// Products of queries and keys, summed, in units of half the window.
pub fn scaled_scores(b: &mut Builder<'_>, site: &str, softmax: &Softmax, sums: &Val) -> Val {
    let half = softmax.scores.half();
    scaled(b, site, sums, softmax.scale * sums.unit() / half, half)
}

/// exp(score - the head's top) of scores in units of half the window.
pub fn exponential(
    b: &mut Builder<'_>,
    place: &Place<'_>,
    softmax: &Softmax,
    scaled: &Val,
) -> Result<Val, FitError> {
    let tops = tops_plain(b, place, softmax);
    let argument = b.add_plain(&format!("{}.scores", place.site), scaled, tops);
    let fit = softmax.exponential()?;
    let exp = &format!("{}.exp", place.site);
    let mut e = b.poly(exp, &argument, &fit, 1.0);
    for _ in 0..softmax.squarings {
        e = b.mul(exp, &e, &e);
    }
    Ok(e)
}

/// v · factor, of unit `unit`; no product where the factor is 1.
fn scaled(b: &mut Builder<'_>, site: &str, v: &Val, factor: f64, unit: f64) -> Val {
    if (factor - 1.0).abs() < 1e-12 {
        return Val {
            ty: ValueType {
                unit,
                ..v.ty.clone()
            },
            ..v.clone()
        };
    }
    let op = Op::MulConst { v: v.id, c: factor };
    b.emit(
        site,
        op,
        ValueType {
            unit,
            ..v.ty.clone()
        },
    )
}

/// Lane 0 of sums over lanes, times a factor, in all lanes.
fn spread_lane(b: &mut Builder<'_>, place: &Place<'_>, sums: &Val, factor: f64, unit: f64) -> Val {
    let geometry = place.geometry;
    let (scores, stride) = (&format!("{}.scores", place.site), geometry.stride());
    let first = PlainFactor::FirstOf {
        width: geometry.width() * stride,
        first: geometry.heads_padded * stride,
    };
    let mut factors = vec![first, PlainFactor::Const(factor)];
    if geometry.block > 1 {
        // A block has the keys of tokens that come later: scores that calibration never saw, and no exponential is to see.
        factors.push(PlainFactor::CachedTokens {
            group: geometry.group(),
            block: 1,
        });
    }
    let mask = b.plain(&format!("{}.lane{}", place.site, place.tag), factors);
    let layout = sums.ty.layout.each().clone();
    let kept = b.mul_plain(scores, sums, mask, layout, unit);
    let lane = (geometry.heads_padded * stride) as i32;
    b.fold(scores, &kept, -lane, geometry.lanes, place.tokens())
}

/// A vector with a value per layer and head, in every slot of the head.
fn by_head(
    b: &mut Builder<'_>,
    place: &Place<'_>,
    name: &str,
    values: Vec<Vec<f64>>,
) -> PlainFactor {
    let data = b.data(DataDecl {
        name: format!("{}.{name}{}", place.site, place.tag),
        per_layer: true,
        shape: vec![place.geometry.heads_padded],
        recipe: Recipe::Values(values),
    });
    PlainFactor::Vector {
        data,
        stride: place.geometry.stride(),
    }
}

/// `value` of each layer's and head's top and middle.
fn each_head(softmax: &Softmax, value: impl Fn(f64, f64) -> f64) -> Vec<Vec<f64>> {
    let layers = softmax.tops.iter().zip(&softmax.centres);
    let heads = |(tops, centres): (&Vec<f64>, &Vec<f64>)| {
        let pairs = tops.iter().zip(centres);
        pairs.map(|(&top, &centre)| value(top, centre)).collect()
    };
    layers.map(heads).collect()
}

/// What is added to scores in units of half the window: it takes each head's window, which ends at its top, to [-1, 1].
fn tops_plain(b: &mut Builder<'_>, place: &Place<'_>, softmax: &Softmax) -> PlainId {
    let (mid, half) = (softmax.scores.mid(), softmax.scores.half());
    let values = each_head(softmax, |top, _| -(top + mid) / half);
    let factor = by_head(b, place, "top", values);
    b.plain(&format!("{}.top{}", place.site, place.tag), vec![factor])
}

/// The mask on the exponentials: cached tokens only, 1/count, and each head's factor, which brings the mean exponential of
/// head h to exp(L_h - centre_h - spread) ∈ [exp(-2·spread), 1], times a constant.
pub fn weights_plain(
    b: &mut Builder<'_>,
    place: &Place<'_>,
    softmax: &Softmax,
    group: Group,
    factor: f64,
) -> PlainId {
    let values = each_head(softmax, |top, centre| (top - centre - softmax.spread).exp());
    let factors = vec![
        PlainFactor::CachedTokens { group, block: 1 },
        PlainFactor::InverseCount { block: 1 },
        by_head(b, place, "head_factor", values),
        PlainFactor::Const(factor),
    ];
    b.plain(&format!("{}.weight{}", place.site, place.tag), factors)
}

/// The type of a state's group as it is stored for decode.
pub fn state_type(geometry: &Geometry, side: Side, unit: f64) -> ValueType {
    match geometry.diagonals {
        Some(baby) => diagonals::state_type(&geometry.part(), baby, side, unit),
        None => real(stored_layout(geometry), unit),
    }
}

/// The type of a group that each token of a block has.
pub fn shared_type(geometry: &Geometry, unit: f64) -> ValueType {
    real(group_layout(geometry).block(geometry.block), unit)
}

fn stored_layout(geometry: &Geometry) -> Layout {
    Layout::Tokens(stored_group(geometry))
}

/// A group as decode reads it, or what is appended to it: a block's tokens lie inside the features, its blocks outside.
fn stored_group(geometry: &Geometry) -> Group {
    if geometry.diagonals.is_some() {
        // a vector of the current token, before the matrix takes it: in its slot of those inside a head
        return Group {
            tokens: geometry.inner,
            width: geometry.width(),
            inner: geometry.inner,
        };
    }
    Group {
        tokens: geometry.stored,
        inner: geometry.inner * geometry.block,
        ..geometry.group()
    }
}

fn group_layout(geometry: &Geometry) -> Layout {
    Layout::Tokens(geometry.group())
}
