//! Linear maps: one product for one or, as real and imaginary part, two outputs.

use sotto_ir::slot::{
    DataDecl, FeatureMap, Layout, Matrix, MatrixPart, Op, PlainFactor, Recipe, ValueType,
};

use super::builder::{Builder, Val, real};
use super::options::places;

/// A vector to be multiplied.
#[derive(Clone, Debug)]
pub struct Input {
    /// The value.
    pub val: Val,
    /// Where its features are.
    pub map: FeatureMap,
    /// A norm's gain still to be multiplied in, by tensor name.
    pub gain: Option<String>,
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
    /// Unit of the result.
    pub unit: f64,
}

/// Baby steps for a number of diagonals: the power of two nearest above its root, since babies share one decomposition.
pub fn baby_steps(diagonals: u32) -> u32 {
    1 << diagonals.next_power_of_two().ilog2().div_ceil(2)
}

/// Emits one product with all of `outputs` (one or two, of the same places), in `baby` baby steps or as many as balance.
pub fn lower(
    b: &mut Builder<'_>,
    tag: &str,
    x: &Input,
    outputs: &[Output],
    baby: Option<u32>,
) -> Vec<Val> {
    let complex = outputs.len() == 2;
    let (from, to) = (places(&x.map), places(&outputs[0].map));
    let site = outputs.iter().map(|o| o.site.as_str()).collect::<Vec<_>>();
    let name = format!("{}{tag}", site.join("+"));
    let half = if complex { 0.5 } else { 1.0 };
    let parts = outputs.iter().map(|output| MatrixPart {
        tensor: output.weight.clone(),
        transposed: output.transposed,
        rows: output.map.clone(),
        columns: x.map.clone(),
        gain: x.gain.clone(),
        scale: half * x.val.unit() / output.unit,
    });
    let recipe = Recipe::Matrix(parts.collect());
    let data = b.data(DataDecl {
        name: name.clone(),
        per_layer: outputs[0].weight.contains("{i}"),
        shape: vec![outputs.len() as u32 * to, from],
        recipe,
    });
    let matrix = b.matrix(Matrix {
        name: name.clone(),
        in_width: from,
        out_width: to,
        baby: baby.unwrap_or_else(|| baby_steps(from.min(to))),
        complex,
        data,
    });
    let ty = |width| ValueType {
        complex,
        ..real(width, outputs[0].unit)
    };
    let product = Op::Linear {
        v: x.val.id,
        matrix,
    };
    let whole = periodic(&outputs[0].map);
    let z = if to < from {
        let sums = b.emit(site[0], product, ty(Layout::Partial { period: from }));
        b.fold(site[0], &sums, to as i32, from / to, whole)
    } else {
        b.emit(site[0], product, ty(whole))
    };
    let values = match outputs {
        [one, two] => {
            let (re, im) = b.split((&one.site, &two.site), &z, (one.unit, two.unit));
            vec![re, im]
        }
        _ => vec![z],
    };
    let biased = values.into_iter().zip(outputs);
    biased.map(|(v, output)| bias(b, tag, v, output)).collect()
}

fn bias(b: &mut Builder<'_>, tag: &str, v: Val, output: &Output) -> Val {
    let Some(tensor) = &output.bias else {
        return v;
    };
    let name = format!("{}.bias{tag}", output.site);
    let data = b.data(DataDecl {
        name: name.clone(),
        per_layer: tensor.contains("{i}"),
        shape: vec![places(&output.map)],
        recipe: Recipe::Vector {
            tensor: tensor.clone(),
            rows: output.map.clone(),
            scale: 1.0 / output.unit,
        },
    });
    let plain = b.plain(&name, vec![PlainFactor::Vector(data)]);
    let op = Op::AddPlain { v: v.id, plain };
    b.emit(&format!("{}.bias", output.site), op, v.ty.clone())
}

/// The layout of a vector with these places.
pub fn periodic(map: &FeatureMap) -> Layout {
    let width = places(map);
    let count = match *map {
        FeatureMap::Plain { count } => count,
        FeatureMap::Heads { .. } => width,
    };
    Layout::Periodic { count, width }
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
