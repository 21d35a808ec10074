//! Linear maps: one product for one or, as real and imaginary part, two outputs.
//!
//! A tiled vector gives a tiled one, or with a stride a *spread* one: one slot of every `stride` holds a feature, nothing of use
//! between ([`Landing`]). Who reads a spread vector multiplies by a mask, which may carry factors of its own, and repeats features
//! ([`clean`]); or appends to the KV state, where tokens take the place of the repetitions. A strided vector gives a tiled one.

use sotto_ir::slot::{
    DataDecl, FeatureMap, Form, Layout, Matrix, MatrixPart, Op, Pairing, PlainFactor, Recipe,
    Shift, ValueType,
};

use super::builder::{Builder, Val, real};
use super::options::{Way, places};

/// A vector to be multiplied.
#[derive(Clone, Debug)]
pub struct Input {
    /// The value.
    pub val: Val,
    /// Where its features are.
    pub map: FeatureMap,
    /// What a norm leaves to whoever reads its result.
    pub affine: Option<Affine>,
}

/// A norm's gain, still to be multiplied in, and its bias, to be added then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affine {
    /// Tensor name.
    pub gain: String,
    /// Tensor name, if the norm has one.
    pub bias: Option<String>,
}

/// One output of a linear map.
#[derive(Clone, Debug)]
pub struct Output {
    /// Site.
    pub site: String,
    /// Weight tensor.
    pub weight: String,
    /// Whether the tensor is stored [in, out].
    pub transposed: bool,
    /// Bias tensor.
    pub bias: Option<String>,
    /// Where its features go.
    pub map: FeatureMap,
    /// Whether the mean over its features is taken off.
    pub centred: bool,
    /// Unit of the result.
    pub unit: f64,
}

/// Baby steps for a number of diagonals: the power of two nearest above its root, since babies share one decomposition.
pub fn baby_steps(diagonals: u32) -> u32 {
    1 << diagonals.next_power_of_two().ilog2().div_ceil(2)
}

/// Where the features of a spread result are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// In all slots: cleaned here.
    All,
    /// In the first slot of their run.
    First,
    /// In the current token's slot of their run, whose first slots are those of so many tokens.
    Current(u32),
}

/// Emits one product with all of `outputs` (one or two, of the same places).
pub fn lower(
    b: &mut Builder<'_>,
    tag: &str,
    x: &Input,
    outputs: &[Output],
    way: &Way,
    landing: Landing,
) -> Vec<Val> {
    let site = outputs.iter().map(|o| o.site.as_str()).collect::<Vec<_>>();
    let matrix = matrix(b, tag, x, outputs, way);
    let whole = whole(&matrix, &outputs[0].map);
    let spread = matches!(whole, Layout::Partial { .. });
    let tokens = match landing {
        Landing::Current(tokens) if spread => tokens,
        _ => 1,
    };
    let ty = real(whole, outputs[0].unit);
    let z = product(b, site[0], &x.val, matrix, ty, tokens);
    let z = match spread && landing == Landing::All {
        true => clean(b, site[0], &z, &outputs[0].map, z.unit()),
        false => z,
    };
    let values = match outputs {
        [one, two] => {
            let (re, im) = b.split((&one.site, &two.site), &z, (one.unit, two.unit));
            vec![re, im]
        }
        _ => vec![z],
    };
    let biased = values.into_iter().zip(outputs);
    biased
        .map(|(v, output)| add_constant(b, tag, v, x, output))
        .collect()
}

/// The matrix of one or two outputs, with its data.
fn matrix(b: &mut Builder<'_>, tag: &str, x: &Input, outputs: &[Output], way: &Way) -> Matrix {
    let (from, to) = (places(&x.map), places(&outputs[0].map));
    let site = outputs.iter().map(|o| o.site.as_str()).collect::<Vec<_>>();
    let name = format!("{}{tag}", site.join("+"));
    let form = form(x.val.ty.layout.each(), (from, to), way.stride);
    let mut matrix = Matrix {
        name: name.clone(),
        in_width: from,
        out_width: to,
        form,
        block: 1, // the builder knows
        pairing: Pairing::None,
        baby: 1,
        data: sotto_ir::slot::DataId(0),
    };
    matrix.pairing = match outputs {
        [_, _] => Pairing::Outputs,
        _ if way.inputs && matrix.diagonals() > 1 => Pairing::Inputs,
        _ => Pairing::None,
    };
    let diagonals = matrix.diagonals();
    matrix.baby = way
        .baby
        .unwrap_or_else(|| baby_steps(diagonals))
        .min(diagonals);
    // the real part of z is (z + z̄) / 2
    let half = if matrix.complex() { 0.5 } else { 1.0 };
    let parts = outputs.iter().map(|output| MatrixPart {
        tensor: output.weight.clone(),
        transposed: output.transposed,
        rows: output.map.clone(),
        columns: x.map.clone(),
        gain: x.affine.as_ref().map(|affine| affine.gain.clone()),
        centred: output.centred,
        scale: half * x.val.unit() / output.unit,
    });
    let recipe = Recipe::Matrix(parts.collect());
    matrix.data = b.data(DataDecl {
        name,
        per_layer: outputs[0].weight.contains("{i}"),
        shape: vec![outputs.len() as u32 * to, from],
        recipe,
    });
    matrix
}

/// How the matrix lies, given its operand's layout and the stride wanted of its result.
pub fn form(input: &Layout, (from, to): (u32, u32), stride: u32) -> Form {
    match *input {
        Layout::Strided { stride, .. } => Form::Gather { stride },
        _ if stride == 1 && to < from => Form::Gather { stride },
        _ => Form::Spread { stride },
    }
}

/// The layout of a matrix's folded result.
fn whole(matrix: &Matrix, map: &FeatureMap) -> Layout {
    match matrix.form {
        Form::Spread { stride } if stride > 1 => Layout::Partial {
            period: matrix.out_width * stride,
        },
        _ => periodic(map),
    }
}

/// The folded product, of type `ty` or, for two outputs, its complex twin; in the current one's of the first `tokens` slots of a run.
fn product(
    b: &mut Builder<'_>,
    site: &str,
    x: &Val,
    matrix: Matrix,
    ty: ValueType,
    tokens: u32,
) -> Val {
    let (step, count) = matrix.fold();
    let (pairing, turn) = (matrix.pairing, matrix.diagonals() * matrix.form.stride());
    // the matrix's block is not set yet
    let period = matrix.period().max(x.ty.layout.each().period());
    let v = match pairing {
        Pairing::Inputs => turned(b, site, x, turn),
        _ => x.clone(),
    };
    let whole = ty.layout.clone();
    let summed = match count {
        1 => whole.clone(),
        _ => Layout::Partial { period },
    };
    let ty = ValueType {
        layout: summed,
        complex: matrix.complex(),
        ..ty
    };
    let matrix = b.matrix(matrix);
    let sums = b.emit(site, Op::Linear { v: v.id, matrix }, ty);
    let z = match tokens.min(count) {
        1 => b.fold(site, &sums, step as i32, count, whole),
        tokens => {
            let current = b.fold_current(site, &sums, tokens, whole.clone());
            b.fold(site, &current, tokens as i32, count / tokens, whole)
        }
    };
    match pairing {
        Pairing::Inputs => b.real_part(site, &z),
        _ => z,
    }
}

/// v + i·rot(v, turn).
pub fn turned(b: &mut Builder<'_>, site: &str, v: &Val, turn: u32) -> Val {
    let imaginary = turned_part(b, site, v, turn);
    b.add(site, v, &imaginary)
}

/// i·rot(v, turn).
pub fn turned_part(b: &mut Builder<'_>, site: &str, v: &Val, turn: u32) -> Val {
    let period = v.ty.layout.each().period();
    let partial = Layout::Partial { period };
    let complex = ValueType {
        complex: true,
        ..real(partial.clone(), v.unit())
    };
    let turned = b.rotate(site, v, turn as i32, partial);
    b.emit(site, Op::MulI { v: turned.id }, complex)
}

/// A spread vector with every feature in all its slots, in another unit: a mask, and rotations.
pub fn clean(b: &mut Builder<'_>, site: &str, v: &Val, map: &FeatureMap, unit: f64) -> Val {
    let width = places(map);
    let stride = v.ty.layout.each().period() / width;
    let first = PlainFactor::FirstOf {
        width: stride,
        first: 1,
    };
    let (name, factors) = match unit == v.unit() {
        true => ("first of each".into(), vec![first]),
        false => {
            let factor = PlainFactor::Const(v.unit() / unit);
            (format!("{site}.first of each"), vec![first, factor])
        }
    };
    let mask = b.plain(&name, factors);
    let op = Op::MulPlain {
        v: v.id,
        plain: mask,
    };
    let ty = ValueType {
        unit,
        ..v.ty.clone()
    };
    let kept = b.emit(site, op, ty);
    repeat(b, site, &kept, map)
}

/// A vector that is zero but at the first slot of each feature, with every feature in all its slots.
pub fn repeat(b: &mut Builder<'_>, site: &str, v: &Val, map: &FeatureMap) -> Val {
    let width = places(map);
    let stride = v.ty.layout.each().period() / width;
    let layout = Layout::Strided {
        count: count(map),
        width,
        stride,
    };
    b.fold(site, v, -1, stride, layout)
}

/// Adds an output's bias, and what its matrix makes of a bias of the input's norm.
fn add_constant(b: &mut Builder<'_>, tag: &str, v: Val, x: &Input, output: &Output) -> Val {
    let Some((tensor, recipe)) = constant(x, output) else {
        return v;
    };
    let width = places(&output.map);
    let name = format!("{}.bias{tag}", output.site);
    let data = b.data(DataDecl {
        name: name.clone(),
        per_layer: tensor.contains("{i}"),
        shape: vec![width],
        recipe,
    });
    let stride = v.ty.layout.each().period() / width;
    let plain = b.plain(&name, vec![PlainFactor::Vector { data, stride }]);
    let op = Op::AddPlain { v: v.id, plain };
    b.emit(&format!("{}.bias", output.site), op, v.ty.clone())
}

/// What is added to an output, if anything is, with one of its tensors.
fn constant(x: &Input, output: &Output) -> Option<(String, Recipe)> {
    let by = x.affine.as_ref().and_then(|affine| affine.bias.clone());
    let (rows, scale) = (output.map.clone(), 1.0 / output.unit);
    match (output.bias.clone(), by) {
        (None, None) => None,
        (Some(tensor), None) if !output.centred => {
            let recipe = Recipe::Vector {
                tensor: tensor.clone(),
                rows,
                scale,
            };
            Some((tensor, recipe))
        }
        (own, by) => {
            let shift = by.map(|by| Shift {
                weight: output.weight.clone(),
                transposed: output.transposed,
                by,
            });
            let recipe = Recipe::Constant {
                own,
                shift,
                rows,
                centred: output.centred,
                scale,
            };
            Some((output.weight.clone(), recipe))
        }
    }
}

/// The layout of a tiled vector with these places.
pub fn periodic(map: &FeatureMap) -> Layout {
    Layout::Periodic {
        count: count(map),
        width: places(map),
    }
}

/// Features of a map, padding of heads included.
pub fn count(map: &FeatureMap) -> u32 {
    match *map {
        FeatureMap::Plain { count, .. } => count,
        FeatureMap::Heads { .. } => places(map),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn baby_steps_are_balanced_powers_of_two() {
        let expected = [(1, 1), (2, 2), (16, 4), (64, 8), (128, 16), (256, 16)];
        for (diagonals, baby) in expected {
            assert_eq!(baby_steps(diagonals), baby, "{diagonals}");
        }
    }
}
