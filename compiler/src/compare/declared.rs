//! Declarations that differ between programs of the same structure.

use super::address::{addresses, places, runs};
use crate::view::{NodeView, SlotView};
use sotto_ir::slot::{DataId, Op, PlainFactor};
use std::collections::BTreeSet;

/// A declaration that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Site, with the number of the first layer where it differs.
    pub site: String,
    /// That layer.
    pub layer: u32,
    /// The operation that it is of; `state` for a KV state, `param` for what a template receives.
    pub op: &'static str,
    /// What differs: `range`, `rotation`, `mask`, …
    pub what: &'static str,
    /// The first program's.
    pub a: String,
    /// The second's.
    pub b: String,
}

/// Every declaration that differs, in the order in which `a` runs; of layers alike the first.
pub fn differences(a: &SlotView, b: &SlotView) -> Vec<Difference> {
    let (names, there) = (addresses(a), places(b));
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (t, layer) in runs(a) {
        let theirs = |node: usize| there.get(&(layer, names[t][node].clone())).copied();
        let first = (0..names[t].len()).find_map(theirs);
        if !seen.insert((t, first.map(|(t, _)| t))) {
            continue;
        }
        if let Some((other, _)) = first {
            params(a, b, (t, other), layer, &mut found);
        }
        for (node, address) in names[t].iter().enumerate() {
            let ours = &a.templates[t].nodes[node];
            let mut differs = |what, a: String, b: String| {
                found.push(Difference {
                    site: super::at_layer(&address.site, layer),
                    layer,
                    op: address.op,
                    what,
                    a,
                    b,
                });
            };
            let Some((ot, on)) = theirs(node) else {
                // placement may differ between stages, and says so between two of one
                if a.stage == b.stage {
                    differs("operation", ours.op.name().into(), "none".into());
                }
                continue;
            };
            let (ours, theirs) = (said(a, ours), said(b, &b.templates[ot].nodes[on]));
            for ((what, x), (_, y)) in ours.into_iter().zip(theirs) {
                if let (Some(x), Some(y)) = (x, y)
                    && x != y
                {
                    differs(what, x, y);
                }
            }
        }
    }
    states(a, b, &mut found);
    found
}

/// What templates receive.
fn params(
    a: &SlotView,
    b: &SlotView,
    (ta, tb): (usize, usize),
    layer: u32,
    found: &mut Vec<Difference>,
) {
    let (ta, tb) = (&a.templates[ta], &b.templates[tb]);
    for (x, y) in ta.params.iter().zip(&tb.params) {
        for (what, a, b) in [
            ("range", x.ty.range, y.ty.range),
            ("unit", x.ty.unit, y.ty.unit),
        ] {
            if a != b {
                found.push(Difference {
                    site: format!("{} {}", ta.name, x.id),
                    layer,
                    op: "param",
                    what,
                    a: a.to_string(),
                    b: b.to_string(),
                });
            }
        }
    }
}

fn states(a: &SlotView, b: &SlotView, found: &mut Vec<Difference>) {
    for (x, y) in a.states.iter().zip(&b.states) {
        let level = |s: &sotto_ir::slot::StateDecl| s.level.map(|l| l.to_string());
        let both = level(x).zip(level(y));
        let type_differs = (x.ty != y.ty).then(|| (x.ty.to_string(), y.ty.to_string()));
        let level_differs = both.filter(|(x, y)| x != y);
        for (what, (a, b)) in [("type", type_differs), ("level", level_differs)]
            .into_iter()
            .filter_map(|(what, pair)| Some((what, pair?)))
        {
            found.push(Difference {
                site: x.name.clone(),
                layer: 0,
                op: "state",
                what,
                a,
                b,
            });
        }
    }
}

type Said = Vec<(&'static str, Option<String>)>;

/// What a node declares; equal operations say the same things in the same order. None where a stage does not say it.
fn said(view: &SlotView, node: &NodeView) -> Said {
    let mut said = parameters(view, &node.op);
    for value in &node.results {
        let ty = &value.ty;
        let part = if ty.complex { "complex" } else { "real" };
        said.push(("layout", Some(format!("{} {part}", ty.layout))));
        said.push(("range", Some(ty.range.to_string())));
        said.push(("unit", Some(ty.unit.to_string())));
        // placement alone decides levels: two stages of one compilation have them or not
        said.push(("level", value.at.map(|at| at.to_string())));
    }
    said
}

fn parameters<V>(view: &SlotView, op: &Op<V>) -> Said {
    let one = |what, text: String| vec![(what, Some(text))];
    match op {
        Op::Rotate { by, .. } => one("rotation", by.to_string()),
        Op::Fold { step, count, .. } => one("rotation", format!("{count} times by {step}")),
        Op::Apply {
            step, count, baby, ..
        } => one("rotation", format!("{count} by {step} in steps of {baby}")),
        Op::FoldCurrent { count, .. } => one("rotation", format!("{count} tokens")),
        Op::AddConst { c, .. } | Op::MulConst { c, .. } => one("constant", c.to_string()),
        Op::AddPlain { plain, .. } | Op::MulPlain { plain, .. } => {
            let plain = view.plains.get(plain.0 as usize);
            plain.map_or(vec![], |plain| {
                let mut said = one("mask", plain.to_string());
                said.extend(plain.factors.iter().filter_map(|f| data(view, table(f)?)));
                said
            })
        }
        Op::Linear { matrix, .. } => {
            let matrix = view.matrices.get(matrix.0 as usize);
            matrix.map_or(vec![], |matrix| {
                let mut said = one("matrix", matrix.to_string());
                said.extend(data(view, matrix.data));
                said
            })
        }
        Op::Poly { poly, .. } => {
            let poly = view.polys.get(poly.0 as usize);
            poly.map_or(vec![], |poly| one("coefficients", poly.to_string()))
        }
        Op::Append { state, .. } => {
            let state = view.states.get(state.0 as usize);
            state.map_or(vec![], |state| one("state", state.name.clone()))
        }
        Op::Drop { level, .. } => one("level", level.to_string()),
        Op::Bootstrap { kind, .. } => one("kind", format!("{kind:?}")),
        _ => vec![],
    }
}

fn table(factor: &PlainFactor) -> Option<DataId> {
    match factor {
        PlainFactor::Vector { data, .. } | PlainFactor::PositionRow { data, .. } => Some(*data),
        _ => None,
    }
}

fn data(view: &SlotView, id: DataId) -> Option<(&'static str, Option<String>)> {
    let decl = view.data.get(id.0 as usize)?;
    Some(("data", Some(decl.to_string())))
}
