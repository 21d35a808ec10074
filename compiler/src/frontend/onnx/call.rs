//! One operation with its operands at hand.

use super::array::{Array, axis};
use super::error::{Refusal, Step};
use super::graph::{Attribute, Node, Stored, floats, ints};
use super::value::{Entry, Value};
use super::weight::Weight;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

pub(super) struct Call<'c> {
    pub(super) node: &'c Node,
    /// The node's number, from 0.
    pub(super) number: usize,
    pub(super) inputs: Vec<Value>,
    /// The model's file.
    pub(super) path: &'c Path,
}

impl Call<'_> {
    /// Operand `i`.
    pub(super) fn value(&self, i: usize) -> Step<&Value> {
        match self.inputs.get(i) {
            Some(value) if !matches!(value, Value::Absent) => Ok(value),
            _ => Err(Refusal::new(
                format!("its operand {} is missing", i + 1),
                format!("the operands of ONNX's {}", self.node.op),
            )),
        }
    }

    pub(super) fn has(&self, i: usize) -> bool {
        self.value(i).is_ok()
    }

    /// Whether any operand is an activation.
    pub(super) fn is_active(&self) -> bool {
        self.inputs.iter().any(|x| matches!(x, Value::Act(_)))
    }

    pub(super) fn act(&self, i: usize) -> Step<&Rc<Array<Entry>>> {
        match self.value(i)? {
            Value::Act(array) => Ok(array),
            _ => Err(self.kind(i, "an activation")),
        }
    }

    /// A constant as floats.
    pub(super) fn floats(&self, i: usize) -> Step<Rc<Array<f64>>> {
        match self.value(i)? {
            Value::Float(array) => Ok(array.clone()),
            Value::Weight(weight) => Ok(weight.load(self.path)?.into()),
            _ => Err(self.kind(i, "constant floats")),
        }
    }

    pub(super) fn ints(&self, i: usize) -> Step<&Rc<Array<i64>>> {
        match self.value(i)? {
            Value::Int(array) => Ok(array),
            _ => Err(self.kind(i, "constant whole numbers")),
        }
    }

    pub(super) fn bools(&self, i: usize) -> Step<&Rc<Array<bool>>> {
        match self.value(i)? {
            Value::Bool(array) => Ok(array),
            _ => Err(self.kind(i, "constant truth values")),
        }
    }

    /// A constant float of one entry.
    pub(super) fn scalar(&self, i: usize) -> Option<f64> {
        match self.value(i).ok()? {
            Value::Weight(weight) if weight.shape().iter().any(|&n| n != 1) => None,
            Value::Weight(_) | Value::Float(_) => self.floats(i).ok()?.single().copied(),
            _ => None,
        }
    }

    /// A constant as a weight.
    pub(super) fn weight(&self, i: usize) -> Step<Weight> {
        match self.value(i)? {
            Value::Weight(weight) => Ok(weight.clone()),
            Value::Float(array) => Ok(Weight::folded(array)),
            _ => Err(self.kind(i, "a weight")),
        }
    }

    /// Whole numbers in operand `i`, none if it is left out.
    pub(super) fn list(&self, i: usize) -> Step<Option<Vec<i64>>> {
        match self.has(i) {
            true => Ok(Some(self.ints(i)?.data.clone())),
            false => Ok(None),
        }
    }

    /// Whole numbers in operand `i`, or in an attribute where older opsets have them.
    pub(super) fn list_or(&self, i: usize, attribute: &str) -> Step<Option<Vec<i64>>> {
        match (self.list(i)?, self.node.attributes.get(attribute)) {
            (None, Some(Attribute::Ints(list))) => Ok(Some(list.clone())),
            (list, _) => Ok(list),
        }
    }

    pub(super) fn int_attribute(&self, name: &str, default: i64) -> i64 {
        match self.node.attributes.get(name) {
            Some(Attribute::Int(value)) => *value,
            _ => default,
        }
    }

    pub(super) fn float_attribute(&self, name: &str, default: f32) -> f32 {
        match self.node.attributes.get(name) {
            Some(Attribute::Float(value)) => *value,
            _ => default,
        }
    }

    pub(super) fn text_attribute<'t>(&'t self, name: &str, default: &'t str) -> &'t str {
        match self.node.attributes.get(name) {
            Some(Attribute::Text(value)) => value,
            _ => default,
        }
    }

    /// The axis in an attribute, of an operand of this rank.
    pub(super) fn axis(&self, default: i64, rank: usize) -> Step<usize> {
        self.axis_of(self.int_attribute("axis", default), rank)
    }

    pub(super) fn axis_of(&self, given: i64, rank: usize) -> Step<usize> {
        axis(given, rank).ok_or_else(|| {
            Refusal::new(
                format!("axis {given} of an operand with {rank} extents"),
                "an axis there is",
            )
        })
    }

    /// What is said where shapes do not go together.
    pub(super) fn misfit(&self) -> Refusal {
        let shapes: Vec<_> = self.inputs.iter().map(Value::shape).collect();
        Refusal::new(
            format!("operands of shapes {shapes:?} do not go together, or give too many entries"),
            format!("shapes that ONNX's {} takes", self.node.op),
        )
    }

    fn kind(&self, i: usize, expected: &str) -> Refusal {
        let found = match self.inputs.get(i) {
            Some(Value::Act(_)) => "an activation",
            Some(Value::Weight(_) | Value::Float(_)) => "constant floats",
            Some(Value::Int(_)) => "constant whole numbers",
            Some(Value::Bool(_)) => "constant truth values",
            Some(Value::Absent) | None => "missing",
        };
        Refusal::new(format!("its operand {} is {found}", i + 1), expected)
    }
}

/// A stored tensor as a value: floats stay where they are.
pub(super) fn constant(stored: &Arc<Stored>, path: &Path) -> Step<Value> {
    if stored.format.is_float() {
        return Ok(Value::Weight(Weight::stored(stored)));
    }
    let bytes = stored.bytes(path)?;
    let shape = stored.shape.clone();
    Ok(match ints(stored.format, &bytes) {
        Some(data) => Value::int(Array { shape, data }),
        None => Value::bool(Array {
            shape,
            data: bytes.iter().map(|&byte| byte != 0).collect(),
        }),
    })
}

/// Numbers in an attribute of a Constant node.
pub(super) fn given(node: &Node, path: &Path) -> Step<Option<Value>> {
    let single = |name: &str| node.attributes.get(name);
    if let Some(Attribute::Tensor(stored)) = single("value") {
        return constant(stored, path).map(Some);
    }
    let float = |x: &f32| f64::from(*x);
    Ok(match node.attributes.iter().next() {
        Some((_, Attribute::Int(x))) => Some(Value::int(Array::scalar(*x))),
        Some((_, Attribute::Ints(list))) => Some(Value::int(Array::vector(list.clone()))),
        Some((_, Attribute::Float(x))) => Some(Value::float(Array::scalar(float(x)))),
        Some((_, Attribute::Floats(list))) => {
            let list = list.iter().map(float).collect();
            Some(Value::float(Array::vector(list)))
        }
        _ => None,
    })
}

/// A one-entry tensor's number, for ConstantOfShape.
pub(super) fn filling(stored: &Stored, path: &Path) -> Step<Option<f64>> {
    let bytes = stored.bytes(path)?;
    Ok(floats(stored.format, &bytes).and_then(|list| list.first().copied()))
}
