//! The program's own fields, its tables, and types.

use super::LevelRules;
use crate::slot::{
    DataDecl, DataId, Form, Group, Layout, Matrix, Pairing, Plain, PlainFactor, Poly, Program,
    Recipe, Stage, StateDecl, ValueType,
};
use crate::violation::Report;
use sotto_params::poly::MAX_DEGREE;
use std::collections::BTreeSet;

pub(super) fn check<S: Stage>(
    program: &Program<S>,
    rules: Option<&LevelRules<'_>>,
    report: &mut Report,
) {
    report.at("program");
    let slots = program.slots;
    report.require(slots.is_power_of_two(), || {
        format!("{slots} slots are not a power of two")
    });
    let block = program.block;
    report.require(block.is_power_of_two() && block <= slots, || {
        format!("a block of {block} is no power of two within {slots} slots")
    });
    report.require(program.capacity > 0, || "the capacity is 0".into());
    report.require(!program.model_digest.is_empty(), || {
        "the checkpoint has no digest".into()
    });
    unique("data", program.data.iter().map(|d| &d.name), report);
    for (i, decl) in program.data.iter().enumerate() {
        report.at(format!("data d{i}"));
        data(decl, report);
    }
    for (i, item) in program.plains.iter().enumerate() {
        report.at(format!("plain p{i}"));
        plain(program, item, report);
    }
    for (i, item) in program.matrices.iter().enumerate() {
        report.at(format!("matrix m{i}"));
        matrix(program, item, report);
    }
    for (i, item) in program.polys.iter().enumerate() {
        report.at(format!("poly f{i}"));
        poly(item, report);
    }
    unique("state", program.states.iter().map(|s| &s.name), report);
    for (i, item) in program.states.iter().enumerate() {
        report.at(format!("state s{i}"));
        state(slots, item, rules, report);
    }
}

fn unique<'a>(table: &str, names: impl Iterator<Item = &'a String>, report: &mut Report) {
    let mut seen = BTreeSet::new();
    for name in names {
        report.at(table);
        report.require(!name.is_empty(), || "a name is empty".into());
        report.require(seen.insert(name), || format!("the name `{name}` is taken"));
    }
}

fn data(decl: &DataDecl, report: &mut Report) {
    let size = decl
        .shape
        .iter()
        .try_fold(1u32, |n, &extent| n.checked_mul(extent));
    report.require(size.is_some_and(|n| n > 0), || {
        format!("the shape {:?} holds nothing, or too much", decl.shape)
    });
    for map in decl.recipe.maps() {
        report.require(map.holds(), || {
            format!("`{map}` is no map: heads and lanes must be positive, heads a multiple of kv, lanes at least two")
        });
    }
    let per_layer = decl.per_layer;
    for name in decl.recipe.tensors() {
        report.require(!per_layer || name.contains("{i}"), || {
            format!("`{name}` names one tensor for all layers, but the data is per layer")
        });
        report.require(per_layer || !name.contains("{i}"), || {
            format!("`{name}` names a tensor per layer, but the data is not per layer")
        });
    }
    if let Recipe::Constant { own, shift, .. } = &decl.recipe {
        report.require(own.is_some() || shift.is_some(), || {
            "it is the constant of no tensor".into()
        });
    }
    if let Recipe::Values(layers) = &decl.recipe {
        let sizes = layers
            .iter()
            .all(|l| Some(l.len()) == size.map(|n| n as usize));
        let counts = layers.len() == 1 || (per_layer && !layers.is_empty());
        report.require(sizes && counts, || {
            "its values do not have the declared shape".into()
        });
        let finite = layers.iter().flatten().all(|x| x.is_finite());
        report.require(finite, || "a value is not finite".into());
    }
}

/// The declared shape of a plaintext's data, reported if there is none.
fn shape<'p, S: Stage>(
    program: &'p Program<S>,
    id: DataId,
    report: &mut Report,
) -> Option<&'p [u32]> {
    let decl = program.data.get(id.0 as usize);
    report.require(decl.is_some(), || format!("there is no data d{}", id.0));
    decl.map(|d| &d.shape[..])
}

fn plain<S: Stage>(program: &Program<S>, plain: &Plain, report: &mut Report) {
    let of_block = |block: u32, report: &mut Report| {
        report.require(block == 1 || block == program.block, || {
            format!(
                "{block} tokens a block, the program takes {}",
                program.block
            )
        });
    };
    for factor in &plain.factors {
        let capacity = program.capacity;
        let width = match factor {
            PlainFactor::Const(c) => {
                report.require(c.is_finite(), || format!("the constant {c} is not finite"));
                continue;
            }
            PlainFactor::Vector { data, stride } => match shape(program, *data, report) {
                Some([width]) => width.checked_mul(*stride),
                Some(_) => None,
                None => continue,
            },
            PlainFactor::PositionRow {
                data,
                stride,
                block,
            } => {
                of_block(*block, report);
                match shape(program, *data, report) {
                    Some([rows, width]) if *rows >= capacity && stride.is_multiple_of(*block) => {
                        width.checked_mul(*stride)
                    }
                    Some(_) => None,
                    None => continue,
                }
            }
            PlainFactor::CurrentToken { group, block }
            | PlainFactor::CachedTokens { group, block } => {
                of_block(*block, report);
                whole_group(group).and_then(|period| period.checked_mul(*block))
            }
            PlainFactor::FirstOf { width, first } => Some(*width).filter(|_| first <= width),
            PlainFactor::LastOf { width } => Some(*width),
            PlainFactor::InverseCount { block } => {
                of_block(*block, report);
                Some(*block)
            }
        };
        let holds = width.is_some_and(|w| w.is_power_of_two() && w <= program.slots);
        report.require(holds, || {
            format!("`{factor}` does not repeat with a power of two of at most {} slots, or its data has another shape", program.slots)
        });
    }
}

/// Slots after which a plaintext repeats; None if the tables are broken (and reported as such).
pub(super) fn plain_period<S: Stage>(program: &Program<S>, plain: &Plain) -> Option<u32> {
    let period = |factor: &PlainFactor| match factor {
        PlainFactor::Const(_) => Some(1),
        PlainFactor::InverseCount { block } => Some(*block),
        PlainFactor::Vector { data, stride } | PlainFactor::PositionRow { data, stride, .. } => {
            let width = program.data.get(data.0 as usize)?.shape.last()?;
            width.checked_mul(*stride)
        }
        PlainFactor::CurrentToken { group, block } | PlainFactor::CachedTokens { group, block } => {
            whole_group(group)?.checked_mul(*block)
        }
        PlainFactor::FirstOf { width, .. } | PlainFactor::LastOf { width } => Some(*width),
    };
    let mut periods = plain.factors.iter().map(period);
    periods.try_fold(1, |longest, period| Some(longest.max(period?)))
}

fn matrix<S: Stage>(program: &Program<S>, matrix: &Matrix, report: &mut Report) {
    let widths = [matrix.in_width, matrix.out_width];
    let (stride, block) = (matrix.form.stride(), matrix.block);
    let fit = [matrix.in_width, matrix.out_width, stride, block]
        .iter()
        .all(|w| w.is_power_of_two() && *w <= program.slots);
    if !report.require(fit, || {
        format!(
            "widths {widths:?}, stride {stride} or block {block} are not powers of two of at most {}",
            program.slots
        )
    }) {
        return;
    }
    report.require(block == 1 || block == program.block, || {
        format!(
            "{block} tokens side by side, the program takes {}",
            program.block
        )
    });
    // The strided side fits the slots of a token, and gathered rows are folded from whole copies.
    let [columns, rows] = widths.map(u64::from);
    let (apart, slots) = (u64::from(stride), u64::from(program.slots / block));
    let holds = match matrix.form {
        Form::Spread { .. } => rows * apart <= slots,
        Form::Gather { .. } => columns * apart <= slots && columns * apart >= rows,
        Form::Mix { run } => {
            let square = widths == [block; 2] && matrix.pairing == Pairing::None;
            square && run.is_power_of_two() && u64::from(run) * u64::from(block) <= slots
        }
    };
    report.require(holds, || {
        format!("the stride {stride} does not suit widths {widths:?} within {slots} slots")
    });
    let paired = matrix.pairing != Pairing::Inputs || matrix.all_diagonals() >= 2;
    report.require(paired, || "one diagonal has no halves to pair".into());
    let baby = matrix.baby;
    report.require((1..=matrix.diagonals()).contains(&baby), || {
        format!("{baby} baby steps for {} diagonals", matrix.diagonals())
    });
    if let Some(shape) = shape(program, matrix.data, report) {
        let parts = match matrix.pairing {
            Pairing::Outputs => 2,
            _ => 1,
        };
        let product = |items: &[u32]| items.iter().map(|&n| u64::from(n)).product::<u64>();
        let (entries, found) = (parts * product(&widths), product(shape));
        report.require(entries == found, || {
            format!("it has {entries} entries, its data {found}")
        });
    }
}

fn poly(poly: &Poly, report: &mut Report) {
    let degree = poly.degree() as usize;
    report.require((1..=MAX_DEGREE).contains(&degree), || {
        format!("degree {degree} is not in 1..={MAX_DEGREE}")
    });
    let finite = poly.coefficients.iter().all(|c| c.is_finite());
    report.require(finite, || "a coefficient is not finite".into());
    report.require(poly.error >= 0.0 && poly.error.is_finite(), || {
        format!("the error {} is no bound", poly.error)
    });
}

fn state(slots: u32, state: &StateDecl, rules: Option<&LevelRules<'_>>, report: &mut Report) {
    ty(slots, &state.ty, report);
    let tokens = state.ty.layout.tokens().is_some();
    report.require(tokens, || {
        "its layout is neither `tokens` nor `matrix`".into()
    });
    match (rules, state.level) {
        (None, None) => {}
        (None, Some(_)) => {
            report.require(false, || "a level in the packed stage".into());
        }
        (Some(rules), level) => {
            let holds = level.is_some_and(|level| level <= rules.top);
            report.require(holds, || "no application level is chosen".into());
        }
    }
}

pub(super) fn ty(slots: u32, ty: &ValueType, report: &mut Report) {
    let period = whole_period(&ty.layout);
    let holds = period.is_some_and(|p| p.is_power_of_two() && p <= slots);
    report.require(holds, || {
        format!("`{}` is no layout of {slots} slots", ty.layout)
    });
    report.require(ty.range.is_finite() && ty.range >= 0.0, || {
        format!("the range {:?} is no bound", ty.range)
    });
    report.require(ty.unit.is_finite() && ty.unit > 0.0, || {
        format!("the unit {:?} is not positive", ty.unit)
    });
}

/// The period of a group with whole runs of tokens; None of any other.
fn whole_group(group: &Group) -> Option<u32> {
    let period = group.tokens.checked_mul(group.width);
    period.filter(|_| group.holds())
}

/// The period of a layout whose counts fit; None of any other.
fn whole_period(layout: &Layout) -> Option<u32> {
    match layout {
        Layout::Periodic { count, width } => (count <= width).then_some(*width),
        Layout::Strided {
            count,
            width,
            stride,
        } => stride.checked_mul(*width).filter(|_| count <= width),
        Layout::Tokens(group) => whole_group(group),
        Layout::Matrix(matrix) => matrix.holds().then(|| matrix.period()),
        Layout::Block { tokens, each } => match **each {
            Layout::Block { .. } | Layout::Matrix(_) => None,
            _ => whole_period(each)?.checked_mul(*tokens),
        },
        Layout::Scalar => Some(1),
        Layout::Partial { period } => Some(*period),
    }
}
