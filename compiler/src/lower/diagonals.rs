//! Attention where a group's keys and its values are encrypted matrices in diagonals ([`TokenMatrix`]).
//!
//! Two products, one for the scores of all tokens of a group and one for the means of their values, with key switches by baby and giant
//! step; the sums over lanes that element-wise products ask for, one for each few tokens, are gone, and one exponential serves a
//! whole group. What a diagonal of a ciphertext matrix costs instead is memory traffic, and an append to every one of them.
//!
//! Diagonals share ciphertexts as real and imaginary part, so keys are appended as k + i·rot(k), operands are x - i·rot(x), and results
//! are real parts; rot is by half the lanes.
//!
//! Where query heads share a KV head, the matrices can be stored once per KV head, for as many times the tokens in the same slots
//! ([`Geometry::part`]). Then there are as many queries, each with one head of every KV head, and as many exponentials: the same work for
//! the tokens of a full group, more for fewer, and a fraction of the ciphertexts.

use super::attention::{Place, Softmax, exponential, scaled_scores, weights_plain};
use super::builder::{Builder, Draft, Val, real};
use super::linear;
use super::options::Geometry;
use crate::approx::FitError;
use sotto_ir::slot::{Group, Layout, Op, PlainFactor, Side, TokenMatrix, ValueType};

/// The type of a group that is a matrix of keys or of values.
pub fn state_type(geometry: &Geometry, baby: u32, side: Side, unit: f64) -> ValueType {
    let layout = Layout::Matrix(matrix(geometry, baby, side));
    ValueType {
        complex: true,
        ..real(layout, unit)
    }
}

fn matrix(geometry: &Geometry, baby: u32, side: Side) -> TokenMatrix {
    TokenMatrix {
        lanes: geometry.lanes,
        heads: geometry.heads_padded,
        inner: geometry.inner,
        baby,
        side,
    }
}

/// How the scores of a group lie: of every head one for each token.
pub fn scores_group(geometry: &Geometry) -> Group {
    Group {
        tokens: geometry.tokens,
        width: geometry.heads_padded,
        inner: geometry.inner,
    }
}

/// A key as it is appended: k + i·rot(k).
pub fn key(b: &mut Builder<'_>, place: &Place<'_>, site: &str, k: &Val) -> Val {
    linear::turned(b, site, k, half(place.geometry))
}

/// A vector that multiplies a matrix: x - i·rot(x).
pub fn operand(b: &mut Builder<'_>, place: &Place<'_>, site: &str, x: &Val) -> Val {
    let turned = linear::turned_part(b, site, x, half(place.geometry));
    let op = Op::Sub {
        a: x.id,
        b: turned.id,
    };
    b.emit(site, op, turned.ty)
}

/// Slots that half of the lanes take.
fn half(geometry: &Geometry) -> u32 {
    geometry.lanes / 2 * geometry.heads_padded * geometry.inner
}

/// The group template: (q - i·rot(q) of each part, K, V) to each token's share of half of half the denominator + i·numerator. The
/// shares' sum over the tokens inside a head is still to be taken.
pub fn group(
    draft: &mut Draft,
    place: &Place<'_>,
    softmax: &Softmax,
    baby: u32,
    queries: &[Val],
    units: (f64, f64),
) -> Result<usize, FitError> {
    let (parts, geometry) = (place.geometry.parts, place.geometry.part());
    let mut b = Builder::new(draft);
    let queries: Vec<Val> = queries.iter().map(|q| b.param(q.ty.clone())).collect();
    let keys = b.param(state_type(&geometry, baby, Side::Rows, units.0));
    let values = b.param(state_type(&geometry, baby, Side::Columns, units.1));
    let mut shares = Vec::new();
    for (query, part) in queries.iter().zip(0..) {
        let tag = match parts {
            1 => place.tag.to_string(),
            _ => format!("{}.part{part}", place.tag),
        };
        let each = Place {
            geometry: &geometry,
            tag: &tag,
            ..*place
        };
        let softmax = softmax.part(part, parts);
        shares.push(share(&mut b, &each, &softmax, [query, &keys, &values])?);
    }
    let shares: Vec<&Val> = shares.iter().collect();
    Ok(b.finish(&format!("attention.group{}", place.tag), &shares))
}

/// One query's.
fn share(
    b: &mut Builder<'_>,
    place: &Place<'_>,
    softmax: &Softmax,
    [query, keys, values]: [&Val; 3],
) -> Result<Val, FitError> {
    let Place { site, geometry, .. } = place;
    let step = (geometry.heads_padded * geometry.inner) as i32;
    let scores = &format!("{site}.scores");
    let layout = Layout::Tokens(scores_group(geometry));
    let products = apply(b, scores, keys, query, layout.clone());
    let scaled = scaled_scores(b, scores, softmax, &products);
    let e = exponential(b, place, softmax, &scaled)?;

    let total = &format!("{site}.sum");
    let plain = weights_plain(b, place, softmax, scores_group(geometry), 0.25);
    let weights = b.mul_plain(total, &e, plain, layout, 1.0);
    let lane = Layout::Partial {
        period: geometry.width() * geometry.inner,
    };
    let turned = operand(b, place, total, &weights);
    let means = apply(b, total, values, &turned, lane.clone());
    let denominators = b.fold(total, &weights, step, geometry.lanes, lane);
    // weights are a quarter of softmax's numerators and products come out doubled: half of each mean
    let imaginary = ValueType {
        complex: true,
        unit: values.unit(),
        ..means.ty
    };
    let numerators = b.emit(total, Op::MulI { v: means.id }, imaginary);
    Ok(b.add_whole(total, &numerators, &denominators))
}

/// The query of part `part`: a vector of all heads, turned so that the part's heads stand where [`Geometry::part`] has them. Other heads
/// are in the slots between.
pub fn query(b: &mut Builder<'_>, place: &Place<'_>, site: &str, q: &Val, part: u32) -> Val {
    let geometry = place.geometry;
    let period = geometry.width() * geometry.inner;
    match part {
        0 => q.clone(),
        _ => {
            let by = (part * geometry.inner) as i32;
            b.rotate(site, q, by, Layout::Partial { period })
        }
    }
}

/// One vector of all heads from those of the parts, at least one, whose first slots have what is wanted.
pub fn whole(b: &mut Builder<'_>, place: &Place<'_>, parts: &[Val]) -> Val {
    let Place { site, geometry, .. } = place;
    let (width, first) = (geometry.inner * geometry.parts, 1);
    let mask = b.plain("first of part", vec![PlainFactor::FirstOf { width, first }]);
    let mut keep = |part: &Val| {
        let op = Op::MulPlain {
            v: part.id,
            plain: mask,
        };
        b.emit(site, op, part.ty.clone())
    };
    let kept: Vec<Val> = parts.iter().map(&mut keep).collect();
    let mut sum = kept[0].clone();
    for (part, v) in (1..).zip(&kept[1..]) {
        let by = -(part * geometry.inner as i32);
        let moved = b.rotate(site, v, by, v.ty.layout.clone());
        sum = b.add(site, &sum, &moved);
    }
    linear::repeat(b, site, &sum, &geometry.queries())
}

/// The product of a matrix with an operand. Its declared unit is half of what its real part has, which comes out doubled.
fn apply(b: &mut Builder<'_>, site: &str, matrix: &Val, v: &Val, layout: Layout) -> Val {
    let Layout::Matrix(form) = matrix.ty.layout else {
        unreachable!("a group's keys and values are matrices here");
    };
    let op = Op::Apply {
        matrix: matrix.id,
        v: v.id,
        step: form.step(),
        count: form.ciphertexts(),
        baby: form.baby,
    };
    let ty = ValueType {
        complex: true,
        ..real(layout, matrix.unit() * v.unit() / 2.0)
    };
    let product = b.emit(site, op, ty);
    b.real_part(site, &product)
}
