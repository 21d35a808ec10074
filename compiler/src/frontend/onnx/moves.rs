//! Operations that only move entries about, on constants and activations alike.

use super::array::Array;
use super::call::Call;
use super::error::{Refusal, Step};
use super::value::Value;
use super::weight::Weight;

/// One step of a move.
#[derive(Clone, Debug, PartialEq)]
enum Move {
    Reshape(Vec<usize>),
    Transpose(Vec<usize>),
    Expand(Vec<usize>),
    /// Along an axis, entries at these places.
    Pick(usize, Vec<usize>),
}

impl Move {
    fn apply<T: Clone>(&self, array: &Array<T>) -> Option<Array<T>> {
        match self {
            Self::Reshape(shape) => array.reshape(shape),
            Self::Transpose(axes) => array.transpose(axes),
            Self::Expand(shape) => array.expand(shape),
            Self::Pick(axis, places) => array.pick(*axis, places),
        }
    }
}

/// Carries out an operation that moves entries; none for any other.
pub(super) fn moved(call: &Call<'_>) -> Step<Option<Vec<Value>>> {
    let moves = match call.node.op.as_str() {
        "Identity" => vec![],
        "Reshape" => vec![Move::Reshape(reshaped(call)?)],
        "Flatten" => vec![Move::Reshape(flattened(call)?)],
        "Unsqueeze" => vec![Move::Reshape(unsqueezed(call)?)],
        "Squeeze" => vec![Move::Reshape(squeezed(call)?)],
        "Transpose" => vec![Move::Transpose(axes(call)?)],
        "Expand" => vec![Move::Expand(extents(call, call.ints(1)?)?)],
        "Slice" => sliced(call)?,
        "Gather" => gathered(call)?,
        "Tile" => tiled(call)?,
        "Split" => return split(call).map(Some),
        "Concat" => return concatenated(call).map(|value| Some(vec![value])),
        _ => return Ok(None),
    };
    Ok(Some(vec![apply(call, &moves)?]))
}

/// Moves operand 0.
fn apply(call: &Call<'_>, moves: &[Move]) -> Step<Value> {
    let mut value = call.value(0)?.clone();
    for each in moves {
        let changed = match &value {
            // A weight stays where it is as long as possible.
            Value::Weight(weight) => match each {
                Move::Reshape(shape) if *shape == weight.shape() => Some(value.clone()),
                Move::Transpose(axes) if axes[..] == [1, 0] => {
                    Some(Value::Weight(weight.transpose()))
                }
                _ => match picked(weight, each) {
                    Some(weight) => Some(Value::Weight(weight)),
                    None => each.apply(&weight.load(call.path)?).map(Value::float),
                },
            },
            Value::Float(array) => each.apply(array).map(Value::float),
            Value::Int(array) => each.apply(array).map(Value::int),
            Value::Bool(array) => each.apply(array).map(Value::bool),
            Value::Act(array) => each.apply(array).map(Value::act),
            Value::Absent => None,
        };
        value = changed.ok_or_else(|| call.misfit())?;
    }
    Ok(value)
}

/// A move of a weight's entries that need not be loaded for it.
fn picked(weight: &Weight, each: &Move) -> Option<Weight> {
    let rows = match each {
        Move::Pick(0, rows) => weight.rows(rows),
        _ => None,
    };
    rows.or_else(|| weight.moved(|places| each.apply(places)))
}

/// A constant as extents.
pub(super) fn extents(call: &Call<'_>, given: &Array<i64>) -> Step<Vec<usize>> {
    let extents = given.data.iter().map(|&n| usize::try_from(n).ok());
    extents.collect::<Option<_>>().ok_or_else(|| call.misfit())
}

fn reshaped(call: &Call<'_>) -> Step<Vec<usize>> {
    let from = call.value(0)?.shape();
    let keeps_zero = call.int_attribute("allowzero", 0) != 0;
    let mut shape = Vec::new();
    let mut open = None;
    for (i, &n) in call.ints(1)?.data.iter().enumerate() {
        match n {
            -1 if open.is_none() => open = Some(i),
            0 if !keeps_zero => {
                shape.push(from.get(i).copied().ok_or_else(|| call.misfit())?);
                continue;
            }
            1.. => {}
            _ => return Err(call.misfit()),
        }
        shape.push(n.max(1) as usize);
    }
    let product = |shape: &[usize]| {
        let product = shape.iter().try_fold(1usize, |p, &n| p.checked_mul(n));
        product.ok_or_else(|| call.misfit())
    };
    if let Some(open) = open {
        let rest = product(&shape)?;
        shape[open] = product(&from)?
            .checked_div(rest)
            .ok_or_else(|| call.misfit())?;
    }
    Ok(shape)
}

fn flattened(call: &Call<'_>) -> Step<Vec<usize>> {
    let from = call.value(0)?.shape();
    let at = call.axis_of(call.int_attribute("axis", 1), from.len() + 1)?;
    Ok(vec![
        from[..at].iter().product(),
        from[at..].iter().product(),
    ])
}

fn unsqueezed(call: &Call<'_>) -> Step<Vec<usize>> {
    let from = call.value(0)?.shape();
    let new = call.list_or(1, "axes")?.unwrap_or_default();
    let rank = from.len() + new.len();
    let new: Vec<usize> = new
        .iter()
        .map(|&axis| call.axis_of(axis, rank))
        .collect::<Step<_>>()?;
    let mut old = from.into_iter();
    let extent = |axis| match new.contains(&axis) {
        true => Some(1),
        false => old.next(),
    };
    let shape: Option<Vec<usize>> = (0..rank).map(extent).collect();
    shape.ok_or_else(|| call.misfit())
}

fn squeezed(call: &Call<'_>) -> Step<Vec<usize>> {
    let from = call.value(0)?.shape();
    let gone = match call.list_or(1, "axes")? {
        Some(list) => list
            .iter()
            .map(|&axis| call.axis_of(axis, from.len()))
            .collect::<Step<Vec<_>>>()?,
        None => (0..from.len()).filter(|&axis| from[axis] == 1).collect(),
    };
    let kept = (0..from.len()).filter(|axis| !gone.contains(axis));
    Ok(kept.map(|axis| from[axis]).collect())
}

fn axes(call: &Call<'_>) -> Step<Vec<usize>> {
    let rank = call.value(0)?.shape().len();
    match call.node.attributes.get("perm") {
        Some(super::graph::Attribute::Ints(axes)) => {
            axes.iter().map(|&axis| call.axis_of(axis, rank)).collect()
        }
        _ => Ok((0..rank).rev().collect()),
    }
}

fn sliced(call: &Call<'_>) -> Step<Vec<Move>> {
    let shape = call.value(0)?.shape();
    let (starts, ends) = (&call.ints(1)?.data, &call.ints(2)?.data);
    let all = || (0..starts.len() as i64).collect();
    let axes = call.list(3)?.unwrap_or_else(all);
    let steps = call.list(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(call.misfit());
    }
    let mut moves = Vec::new();
    for (i, &given) in axes.iter().enumerate() {
        let axis = call.axis_of(given, shape.len())?;
        let places = places(starts[i], ends[i], steps[i], shape[axis]);
        moves.push(Move::Pick(axis, places.ok_or_else(|| call.misfit())?));
    }
    Ok(moves)
}

/// The places from `start` to before `end`, each counted from the back where it is negative, and cut to what there is.
fn places(start: i64, end: i64, step: i64, extent: usize) -> Option<Vec<usize>> {
    let extent = extent as i64;
    let clamp = |place: i64, low: i64, high: i64| {
        let place = if place < 0 {
            place.saturating_add(extent)
        } else {
            place
        };
        place.clamp(low, high)
    };
    let mut places = Vec::new();
    let (mut place, end) = match step {
        0 => return None,
        1.. => (clamp(start, 0, extent), clamp(end, 0, extent)),
        _ => (clamp(start, -1, extent - 1), clamp(end, -1, extent - 1)),
    };
    while (step > 0 && place < end) || (step < 0 && place > end) {
        places.push(place as usize);
        place = place.saturating_add(step);
    }
    Some(places)
}

/// Gather with constant indices.
fn gathered(call: &Call<'_>) -> Step<Vec<Move>> {
    let shape = call.value(0)?.shape();
    let axis = call.axis(0, shape.len())?;
    let indices = call.ints(1)?;
    let places = indices
        .data
        .iter()
        .map(|&i| call.axis_of(i, shape[axis]))
        .collect::<Step<Vec<_>>>()?;
    let target = [&shape[..axis], &indices.shape, &shape[axis + 1..]].concat();
    Ok(vec![Move::Pick(axis, places), Move::Reshape(target)])
}

fn tiled(call: &Call<'_>) -> Step<Vec<Move>> {
    let shape = call.value(0)?.shape();
    let repeats = extents(call, call.ints(1)?)?;
    if repeats.len() != shape.len() {
        return Err(call.misfit());
    }
    let each = shape.iter().zip(repeats).enumerate();
    each.map(|(axis, (&extent, times))| {
        let entries = super::array::count(&[extent, times]).ok_or_else(|| call.misfit())?;
        let places = (0..entries).map(|i| i % extent.max(1)).collect();
        Ok(Move::Pick(axis, places))
    })
    .collect()
}

fn split(call: &Call<'_>) -> Step<Vec<Value>> {
    let shape = call.value(0)?.shape();
    let axis = call.axis(0, shape.len())?;
    let parts = call.node.outputs.len();
    let sizes = match call.list(1)? {
        Some(sizes) => extents(call, &Array::vector(sizes))?,
        None => {
            let each = shape[axis].div_ceil(parts.max(1));
            let rest = |part: usize| shape[axis].saturating_sub(part * each).min(each);
            (0..parts).map(rest).collect()
        }
    };
    if sizes.len() != parts {
        return Err(call.misfit());
    }
    let mut start = 0usize;
    let part = |size: usize| {
        let end = start.saturating_add(size);
        if end > shape[axis] {
            return Err(call.misfit());
        }
        let places = (start..end).collect();
        start = end;
        apply(call, &[Move::Pick(axis, places)])
    };
    sizes.into_iter().map(part).collect()
}

fn concatenated(call: &Call<'_>) -> Step<Value> {
    let axis = call.axis(0, call.value(0)?.shape().len())?;
    let joined = match call.value(0)? {
        Value::Act(_) => {
            let parts = (0..call.inputs.len()).map(|i| call.act(i));
            join(parts, axis)?.map(Value::act)
        }
        Value::Int(_) => {
            let parts = (0..call.inputs.len()).map(|i| call.ints(i));
            join(parts, axis)?.map(Value::int)
        }
        Value::Bool(_) => {
            let parts = (0..call.inputs.len()).map(|i| call.bools(i));
            join(parts, axis)?.map(Value::bool)
        }
        _ => {
            let parts = (0..call.inputs.len()).map(|i| call.floats(i));
            let parts = parts.collect::<Step<Vec<_>>>()?;
            join(parts.iter().map(Ok), axis)?.map(Value::float)
        }
    };
    joined.ok_or_else(|| call.misfit())
}

fn join<'a, T: Clone + 'a>(
    parts: impl Iterator<Item = Step<&'a std::rc::Rc<Array<T>>>>,
    axis: usize,
) -> Result<Option<Array<T>>, Refusal> {
    let parts = parts.collect::<Step<Vec<_>>>()?;
    let parts: Vec<&Array<T>> = parts.into_iter().map(|part| &**part).collect();
    Ok(Array::concat(&parts, axis))
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn slices_are_cut_to_what_there_is() {
        assert_eq!(places(8, i64::MAX, 1, 10), Some(vec![8, 9]));
        assert_eq!(places(-1, i64::MIN, -1, 3), Some(vec![2, 1, 0]));
        assert_eq!(places(i64::MIN, -2, 1, 3), Some(vec![0]));
        assert_eq!(places(5, 2, 1, 10), Some(vec![]));
        assert_eq!(places(0, 4, i64::MAX, 10), Some(vec![0]));
        assert_eq!(places(0, 4, 0, 10), None);
    }
}
