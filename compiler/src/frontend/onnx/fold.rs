//! Operations on constants, carried out: shapes, positions, masks, rotary tables.
//!
//! Floats are computed in f64 whatever the file says: the numbers only serve to recognize what they mean.

use super::array::{Array, zip};
use super::call::{Call, filling, given};
use super::error::{Refusal, Step};
use super::graph::{Attribute, Format};
use super::moves::extents;
use super::value::Value;

/// A greater number is no distance between positions, but the depth of a mask.
const MOST_POSITIONS: f64 = 1e9;

/// Carries out an operation whose operands are all constants; `positions` is how many tokens there are, earlier ones included.
pub(super) fn fold(call: &Call<'_>, positions: usize) -> Step<Vec<Value>> {
    let value = match call.node.op.as_str() {
        "Constant" => given(call.node, call.path)?
            .ok_or_else(|| Refusal::new("it holds nothing that is read", "numbers"))?,
        "ConstantOfShape" => filled(call)?,
        "Range" => range(call)?,
        "Cast" => cast(call, Format::numbered(call.int_attribute("to", 0) as i32))?,
        "CastLike" => cast(call, like(call.value(1)?))?,
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "Max" | "Min" => {
            check_distance(call, positions)?;
            arithmetic(call)?
        }
        "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Equal" => {
            check_distance(call, positions)?;
            comparison(call)?
        }
        "And" | "Or" | "Xor" => logic(call)?,
        "Not" => Value::bool(call.bools(0)?.map(|x| !x)),
        "Neg" | "Abs" | "Sqrt" | "Reciprocal" | "Cos" | "Sin" | "Exp" | "Floor" => unary(call)?,
        "Where" => chosen(call)?,
        "CumSum" => summed(call)?,
        "GatherND" => looked_up(call)?,
        "Trilu" => triangle(call)?,
        "MatMul" => product(call)?,
        op => {
            return Err(Refusal::new(
                format!("constants are not computed by {op} here"),
                "an operation that a decoder's shapes, positions or masks are made with",
            ));
        }
    };
    Ok(vec![value])
}

/// Refuses to compare positions with a distance greater than any between the tokens at hand: that is how a sliding window
/// looks, and whether it is one cannot be seen from so few tokens.
fn check_distance(call: &Call<'_>, positions: usize) -> Step<()> {
    let mut many = false;
    let mut far = None;
    for (i, value) in call.inputs.iter().enumerate() {
        let entries = value.shape().iter().product::<usize>();
        many |= entries > 1;
        let number = match value {
            Value::Int(list) => list.single().map(|&x| x as f64),
            // Floats are scaled by many a number; distances are added or compared with.
            _ if matches!(call.node.op.as_str(), "Mul" | "Div" | "Pow" | "Max" | "Min") => None,
            _ => call.scalar(i).filter(|x| x.abs() < MOST_POSITIONS),
        };
        far = far.or(number.filter(|x| x.abs() > positions as f64));
    }
    match far {
        Some(far) if many => Err(Refusal::new(
            format!("positions meet the distance {far}"),
            "positions alone: full causal attention, no sliding window (export with use_sliding_window=False or \
             sliding_window=None)",
        )),
        _ => Ok(()),
    }
}

fn filled(call: &Call<'_>) -> Step<Value> {
    let shape = extents(call, call.ints(0)?)?;
    let made = match call.node.attributes.get("value") {
        Some(Attribute::Tensor(stored)) => match filling(stored, call.path)? {
            Some(x) => Array::filled(&shape, x).map(Value::float),
            None => match super::call::constant(stored, call.path)? {
                Value::Bool(x) => x
                    .single()
                    .and_then(|&x| Array::filled(&shape, x))
                    .map(Value::bool),
                Value::Int(x) => x
                    .single()
                    .and_then(|&x| Array::filled(&shape, x))
                    .map(Value::int),
                _ => None,
            },
        },
        _ => Array::filled(&shape, 0.0).map(Value::float),
    };
    made.ok_or_else(|| call.misfit())
}

fn range(call: &Call<'_>) -> Step<Value> {
    let number = |i| call.ints(i)?.single().copied().ok_or_else(|| call.misfit());
    let (start, end, step) = (number(0)?, number(1)?, number(2)?);
    let entries = match step {
        0 => return Err(call.misfit()),
        step => {
            (i128::from(end) - i128::from(start) + i128::from(step) - i128::from(step.signum()))
                / i128::from(step)
        }
    };
    let entries = usize::try_from(entries.max(0)).unwrap_or(usize::MAX);
    let list = Array::from_fn(&[entries], |index| {
        start.wrapping_add(step.wrapping_mul(index[0] as i64))
    });
    list.map(Value::int).ok_or_else(|| call.misfit())
}

/// The kind of number a value holds; floats are all alike here.
fn like(value: &Value) -> Format {
    match value {
        Value::Int(_) => Format::I64,
        Value::Bool(_) => Format::Bool,
        _ => Format::F32,
    }
}

fn cast(call: &Call<'_>, to: Format) -> Step<Value> {
    let unknown = || Refusal::new(format!("a cast to {to:?}"), "floats, INT64, INT32 or BOOL");
    Ok(match (call.value(0)?, to) {
        (Value::Weight(weight), to) if to.is_float() => Value::Weight(weight.clone()),
        (Value::Weight(_) | Value::Float(_), to) => {
            let from = call.floats(0)?;
            match to {
                Format::I64 | Format::I32 => Value::int(from.map(|&x| x as i64)),
                Format::Bool => Value::bool(from.map(|&x| x != 0.0)),
                to if to.is_float() => Value::Float(from),
                _ => return Err(unknown()),
            }
        }
        (Value::Int(from), to) => match to {
            Format::I64 | Format::I32 => Value::Int(from.clone()),
            Format::Bool => Value::bool(from.map(|&x| x != 0)),
            to if to.is_float() => Value::float(from.map(|&x| x as f64)),
            _ => return Err(unknown()),
        },
        (Value::Bool(from), to) => match to {
            Format::Bool => Value::Bool(from.clone()),
            Format::I64 | Format::I32 => Value::int(from.map(|&x| i64::from(x))),
            to if to.is_float() => Value::float(from.map(|&x| f64::from(u8::from(x)))),
            _ => return Err(unknown()),
        },
        (Value::Act(_) | Value::Absent, _) => return Err(unknown()),
    })
}

/// Whether operand `i` holds floats.
fn is_float(call: &Call<'_>, i: usize) -> Step<bool> {
    Ok(matches!(call.value(i)?, Value::Float(_) | Value::Weight(_)))
}

fn arithmetic(call: &Call<'_>) -> Step<Value> {
    let misfit = || call.misfit();
    if !is_float(call, 0)? {
        let f: fn(&i64, &i64) -> Option<i64> = match call.node.op.as_str() {
            "Add" => |a, b| a.checked_add(*b),
            "Sub" => |a, b| a.checked_sub(*b),
            "Mul" => |a, b| a.checked_mul(*b),
            "Div" => |a, b| a.checked_div(*b),
            "Mod" => |a, b| a.checked_rem_euclid(*b),
            "Max" => |a, b| Some(*a.max(b)),
            "Min" => |a, b| Some(*a.min(b)),
            _ => |a, b| a.checked_pow(u32::try_from(*b).ok()?),
        };
        let mixed = zip(call.ints(0)?, call.ints(1)?, f).ok_or_else(misfit)?;
        let data: Option<Vec<i64>> = mixed.data.into_iter().collect();
        let data = data.ok_or_else(|| Refusal::new("a number overflows", "smaller numbers"))?;
        return Ok(Value::int(Array {
            shape: mixed.shape,
            data,
        }));
    }
    if call.inputs.len() != 2 {
        return Err(misfit());
    }
    let power = call.node.op == "Pow" && !is_float(call, 1)?;
    let second = match power {
        true => call.ints(1)?.map(|&x| x as f64).into(),
        false => call.floats(1)?,
    };
    let f: fn(&f64, &f64) -> f64 = match call.node.op.as_str() {
        "Add" => |a, b| a + b,
        "Sub" => |a, b| a - b,
        "Mul" => |a, b| a * b,
        "Div" => |a, b| a / b,
        "Mod" => |a, b| a % b,
        "Max" => |a, b| a.max(*b),
        "Min" => |a, b| a.min(*b),
        _ => |a, b| a.powf(*b),
    };
    let result = zip(&*call.floats(0)?, &*second, f);
    result.map(Value::float).ok_or_else(misfit)
}

fn comparison(call: &Call<'_>) -> Step<Value> {
    let op = call.node.op.as_str();
    fn holds<T: PartialOrd>(op: &str, a: &T, b: &T) -> bool {
        match op {
            "Less" => a < b,
            "LessOrEqual" => a <= b,
            "Greater" => a > b,
            "GreaterOrEqual" => a >= b,
            _ => a == b,
        }
    }
    let result = match call.value(0)? {
        Value::Int(a) => zip(a, call.ints(1)?, |a, b| holds(op, a, b)),
        Value::Bool(a) => zip(a, call.bools(1)?, |a, b| holds(op, a, b)),
        _ => zip(&*call.floats(0)?, &*call.floats(1)?, |a, b| holds(op, a, b)),
    };
    result.map(Value::bool).ok_or_else(|| call.misfit())
}

fn logic(call: &Call<'_>) -> Step<Value> {
    let f: fn(&bool, &bool) -> bool = match call.node.op.as_str() {
        "And" => |a, b| *a && *b,
        "Or" => |a, b| *a || *b,
        _ => |a, b| a != b,
    };
    let result = zip(call.bools(0)?, call.bools(1)?, f);
    result.map(Value::bool).ok_or_else(|| call.misfit())
}

fn unary(call: &Call<'_>) -> Step<Value> {
    if let Value::Int(x) = call.value(0)? {
        return match call.node.op.as_str() {
            "Neg" => Ok(Value::int(x.map(|x| x.wrapping_neg()))),
            "Abs" => Ok(Value::int(x.map(|x| x.wrapping_abs()))),
            _ => Err(call.misfit()),
        };
    }
    let f: fn(&f64) -> f64 = match call.node.op.as_str() {
        "Neg" => |x| -x,
        "Abs" => |x| x.abs(),
        "Sqrt" => |x| x.sqrt(),
        "Reciprocal" => |x| x.recip(),
        "Cos" => |x| x.cos(),
        "Sin" => |x| x.sin(),
        "Exp" => |x| x.exp(),
        _ => |x| x.floor(),
    };
    Ok(Value::float(call.floats(0)?.map(f)))
}

fn chosen(call: &Call<'_>) -> Step<Value> {
    fn choose<T: Clone>(test: &Array<bool>, a: &Array<T>, b: &Array<T>) -> Option<Array<T>> {
        let pairs = zip(a, b, |a, b| (a.clone(), b.clone()))?;
        zip(
            test,
            &pairs,
            |&test, (a, b)| {
                if test { a.clone() } else { b.clone() }
            },
        )
    }
    let test = call.bools(0)?;
    let result = match call.value(1)? {
        Value::Int(a) => choose(test, a, call.ints(2)?).map(Value::int),
        Value::Bool(a) => choose(test, a, call.bools(2)?).map(Value::bool),
        _ => choose(test, &*call.floats(1)?, &*call.floats(2)?).map(Value::float),
    };
    result.ok_or_else(|| call.misfit())
}

/// CumSum of whole numbers, forward and inclusive.
fn summed(call: &Call<'_>) -> Step<Value> {
    let x = call.ints(0)?;
    let axis = call.ints(1)?.single().copied();
    let axis = call.axis_of(axis.ok_or_else(|| call.misfit())?, x.shape.len())?;
    if call.int_attribute("reverse", 0) != 0 || call.int_attribute("exclusive", 0) != 0 {
        return Err(Refusal::new(
            "a sum in reverse or exclusive",
            "a plain CumSum",
        ));
    }
    let mut sums = (**x).clone();
    let inner: usize = x.shape[axis + 1..].iter().product();
    for place in 0..sums.data.len() {
        if !(place / inner.max(1)).is_multiple_of(x.shape[axis]) {
            sums.data[place] = sums.data[place].wrapping_add(sums.data[place - inner]);
        }
    }
    Ok(Value::int(sums))
}

/// GatherND without batch dimensions: each row of the indices is a place in the data.
fn looked_up(call: &Call<'_>) -> Step<Value> {
    fn look<T: Clone>(data: &Array<T>, indices: &Array<i64>) -> Option<Array<T>> {
        let (&depth, outer) = indices.shape.split_last()?;
        if depth == 0 || depth > data.shape.len() {
            return None;
        }
        let inner = &data.shape[depth..];
        let entries: usize = inner.iter().product();
        let mut found = Vec::new();
        for row in indices.data.chunks_exact(depth) {
            let mut place = 0usize;
            for (&i, &extent) in row.iter().zip(&data.shape) {
                let i = if i < 0 { i + extent as i64 } else { i };
                let i = usize::try_from(i).ok().filter(|&i| i < extent)?;
                place = place * extent + i;
            }
            found.extend_from_slice(&data.data[place * entries..(place + 1) * entries]);
        }
        let shape = [outer, inner].concat();
        Array::vector(found).reshape(&shape)
    }
    if call.int_attribute("batch_dims", 0) != 0 {
        return Err(Refusal::new("batch dimensions", "GatherND without them"));
    }
    let indices = call.ints(1)?;
    let result = match call.value(0)? {
        Value::Int(data) => look(data, indices).map(Value::int),
        Value::Bool(data) => look(data, indices).map(Value::bool),
        _ => look(&*call.floats(0)?, indices).map(Value::float),
    };
    result.ok_or_else(|| call.misfit())
}

/// Trilu: the upper or lower triangle, 0 elsewhere.
fn triangle(call: &Call<'_>) -> Step<Value> {
    let k = match call.has(1) {
        true => call.ints(1)?.single().copied().unwrap_or(0),
        false => 0,
    };
    let upper = call.int_attribute("upper", 1) != 0;
    let keeps = |index: &[usize]| {
        let [.., row, column] = index else {
            return false;
        };
        let over = (*column as i64)
            .saturating_sub(*row as i64)
            .saturating_sub(k);
        if upper { over >= 0 } else { over <= 0 }
    };
    fn cut<T: Clone>(x: &Array<T>, zero: T, keeps: impl Fn(&[usize]) -> bool) -> Option<Array<T>> {
        Array::from_fn(&x.shape, |index| match keeps(index) {
            true => x.at(index).clone(),
            false => zero.clone(),
        })
    }
    let result = match call.value(0)? {
        Value::Int(x) => cut(x, 0, keeps).map(Value::int),
        Value::Bool(x) => cut(x, false, keeps).map(Value::bool),
        _ => cut(&*call.floats(0)?, 0.0, keeps).map(Value::float),
    };
    result.ok_or_else(|| call.misfit())
}

/// MatMul of small constants: inverse frequencies times positions.
fn product(call: &Call<'_>) -> Step<Value> {
    let (a, b) = (call.floats(0)?, call.floats(1)?);
    let misfit = || call.misfit();
    let ([.., m, k], [.., rows, n]) = (&a.shape[..], &b.shape[..]) else {
        return Err(misfit());
    };
    if k != rows {
        return Err(misfit());
    }
    let outer = |shape: &[usize]| shape[..shape.len() - 2].to_vec();
    let lead = super::array::broadcast(&outer(&a.shape), &outer(&b.shape)).ok_or_else(misfit)?;
    let of = |x: &Array<f64>| {
        let inner = &x.shape[x.shape.len() - 2..];
        x.expand(&[&lead[..], inner].concat())
    };
    let (wide_a, wide_b) = (of(&a).ok_or_else(misfit)?, of(&b).ok_or_else(misfit)?);
    let shape = [&lead[..], &[*m, *n]].concat();
    let result = Array::from_fn(&shape, |index| {
        let (mut left, mut right) = (index.to_vec(), index.to_vec());
        let last = index.len() - 1;
        (0..*k)
            .map(|i| {
                (left[last], right[last - 1]) = (i, i);
                wide_a.at(&left) * wide_b.at(&right)
            })
            .sum()
    });
    result.map(Value::float).ok_or_else(misfit)
}
