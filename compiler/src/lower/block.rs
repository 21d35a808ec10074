//! What tokens of a block have to do with each other: keys and values that all of them see, and the last one alone.
//!
//! Tokens lie side by side ([`Layout::Block`]), so everything that a decoder does to one token's vector it does to all at once. Only
//! attention looks across. Its keys and values are made twice. As decode will read them, with the block's tokens inside the features and
//! the blocks outside: side by side they already lie there, and a mask is all it takes. And as this block and the prompt's later ones
//! read them, in groups of which every token has a copy of its own: one group a block, with one run of slots for each key. What token c
//! has in all runs goes to run c of every token, a product across tokens with the identity matrix ([`Form::Mix`]). Then every token is a
//! query to its own copy, and the group loop is decode's.

use super::attention::{self, Place, Turn};
use super::builder::{Builder, Val, real};
use super::linear::baby_steps;
use super::options::places;
use sotto_ir::slot::{
    DataDecl, FeatureMap, Form, Layout, Matrix, MatrixId, Op, Pairing, PlainFactor, Recipe,
    StateId, ValueType,
};

/// Of the states of a program that takes a block, those that its own attention reads.
pub const SHARED: [StateId; 2] = [StateId(2), StateId(3)];
/// Those that decode reads.
const STORED: [StateId; 2] = [StateId(0), StateId(1)];

/// A key before or after its rotary embedding.
pub enum Key<'v> {
    /// Still to be turned.
    Unturned(&'v Val),
    /// As it is.
    Whole(&'v Val),
}

/// Appends tiled keys and values to both kinds of state.
pub fn append(b: &mut Builder<'_>, place: &Place<'_>, site: &str, k: Key<'_>, v: &Val) {
    let (raw, turned) = match k {
        Key::Unturned(k) => (k, true),
        Key::Whole(k) => (k, false),
    };
    let stored = match turned {
        true => attention::rope(b, place, site, raw, Turn::Key { copies: 1 }),
        false => attention::at_current(b, place, site, raw, 1),
    };
    b.append(site, STORED[0], &stored);
    let stored = attention::at_current(b, place, site, v, 1);
    b.append(site, STORED[1], &stored);

    let keys = match turned {
        true => attention::rope(b, place, site, raw, Turn::Tiled),
        false => raw.clone(),
    };
    let (keys, values) = exchange(b, place, site, &keys, v);
    b.append(site, SHARED[0], &keys);
    b.append(site, SHARED[1], &values);
}

/// What token c has of keys and values, at place c of every token: one product for both, as real and imaginary part.
fn exchange(b: &mut Builder<'_>, place: &Place<'_>, site: &str, k: &Val, v: &Val) -> (Val, Val) {
    let site = &format!("{site}.exchange");
    let layout = k.ty.layout.clone();
    let complex = |layout: &Layout| ValueType {
        complex: true,
        ..real(layout.clone(), 1.0)
    };
    let imaginary = b.emit(site, Op::MulI { v: v.id }, complex(&layout));
    let both = Op::Add {
        a: k.id,
        b: imaginary.id,
    };
    let both = b.emit(site, both, complex(&layout));
    let matrix = identity(b, place.geometry.width());
    let all = Layout::Partial {
        period: layout.each().period(),
    };
    let by = 1 - b.block as i32;
    let first = b.emit(site, Op::Rotate { v: both.id, by }, complex(&all));
    let op = Op::Linear {
        v: first.id,
        matrix,
    };
    let exchanged = b.emit(site, op, complex(&place.tokens()));
    b.split((site, site), &exchanged, (k.unit(), v.unit()))
}

/// Half the identity across the tokens of a block, for runs of `run` slots; half, since a split doubles.
fn identity(b: &mut Builder<'_>, run: u32) -> MatrixId {
    let block = b.block;
    let entries = (0..block * block).map(|i| if i / block == i % block { 0.5 } else { 0.0 });
    let data = b.data(DataDecl {
        name: "exchange".into(),
        per_layer: false,
        shape: vec![block, block],
        recipe: Recipe::Values(vec![entries.collect()]),
    });
    let mut matrix = Matrix {
        name: "exchange".into(),
        in_width: block,
        out_width: block,
        form: Form::Mix { run },
        block,
        pairing: Pairing::None,
        baby: 1,
        data,
    };
    matrix.baby = baby_steps(matrix.diagonals());
    b.matrix(matrix)
}

/// The last token's vector, every feature in as many slots as the block has tokens: a vector of one token again. A block that is not
/// full repeats its last token to the end.
pub fn last(b: &mut Builder<'_>, site: &str, x: &Val, map: &FeatureMap) -> Val {
    let block = b.block;
    let plain = b.whole_plain("last token", vec![PlainFactor::LastOf { width: block }]);
    let op = Op::MulPlain { v: x.id, plain };
    let kept = b.emit(site, op, x.ty.clone());
    b.block = 1;
    let layout = Layout::Strided {
        count: super::linear::count(map),
        width: places(map),
        stride: block,
    };
    b.fold(site, &kept, 1, block, layout)
}
