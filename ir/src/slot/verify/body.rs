//! The statements of a template: definitions, types, periods, states.

use super::{fits, tables};
use crate::slot::{
    Layout, Matrix, Node, Op, PlainFactor, Program, Side, Stage, StateId, Template, ValueId,
    ValueType,
};
use crate::violation::Report;
use std::collections::{BTreeSet, HashMap};

type Types<'p> = HashMap<ValueId, &'p ValueType>;

/// Types of all values a template defines.
pub(super) fn types_of<S: Stage>(template: &Template<S>) -> Types<'_> {
    let params = template.params.iter().map(|p| (p.value, &p.ty));
    let nodes = template.nodes.iter();
    let results = nodes.flat_map(|n| n.results.iter().copied().zip(&n.types));
    params.chain(results).collect()
}

pub(super) fn check<S: Stage>(
    program: &Program<S>,
    index: usize,
    group: bool,
    report: &mut Report,
) {
    let template = &program.templates[index];
    let mut body = Body {
        program,
        group,
        types: HashMap::new(),
        appended: BTreeSet::new(),
        report,
    };
    for param in &template.params {
        body.report.statement(param);
        body.define(param.value, &param.ty);
        let matrix = matches!(param.ty.layout, Layout::Matrix(_));
        body.report.require(group || !matrix, || {
            "a matrix, which only a group template receives".into()
        });
    }
    for node in &template.nodes {
        body.report.statement(node);
        body.node(node);
    }
    report.at(format!("template t{index}"));
    let types = types_of(template);
    for result in &template.results {
        report.require(types.contains_key(result), || {
            format!("result {result} is not defined")
        });
        let matrix = |ty: &&ValueType| matches!(ty.layout, Layout::Matrix(_));
        report.require(!types.get(result).is_some_and(matrix), || {
            format!("result {result} is a matrix, which is several ciphertexts")
        });
    }
}

struct Body<'a, 'p, S: Stage> {
    program: &'p Program<S>,
    group: bool,
    types: Types<'p>,
    appended: BTreeSet<StateId>,
    report: &'a mut Report,
}

impl<'p, S: Stage> Body<'_, 'p, S> {
    fn define(&mut self, value: ValueId, ty: &'p ValueType) {
        let first = self.types.insert(value, ty).is_none();
        self.report
            .require(first, || format!("{value} is defined twice"));
        tables::ty(self.program.slots, ty, self.report);
    }

    fn node(&mut self, node: &'p Node<S>) {
        let site = &node.site;
        let plain_site = !site.is_empty() && !site.contains(char::is_whitespace);
        self.report.require(plain_site, || {
            format!("the site {site:?} is empty or has blanks")
        });
        let mut operands = Vec::new();
        for value in node.op.operands() {
            let ty = self.types.get(value).copied();
            self.report.require(ty.is_some(), || {
                format!("{value} is not defined before it is read")
            });
            operands.extend(ty);
        }
        let complete = operands.len() == node.op.operands().len();
        self.matrices(node, &operands);
        if self.counts(node)
            && complete
            && let Some(period) = self.operation(node, &operands)
        {
            for ty in &node.types {
                let declared = ty.layout.period();
                self.report.require(declared >= period, || {
                    format!("the result repeats after {period} slots, its type says {declared}")
                });
                self.parts(node, &operands, ty);
            }
        }
        for (value, ty) in node.results.iter().zip(&node.types) {
            self.define(*value, ty);
        }
    }

    /// As many results as the operation has, each with type and note.
    fn counts(&mut self, node: &Node<S>) -> bool {
        let expected = match &node.op {
            Op::Append { .. } => 0,
            Op::SumGroups { template, .. } => match self.program.templates.get(*template) {
                Some(template) => template.results.len(),
                None => {
                    self.report
                        .require(false, || format!("there is no template t{template}"));
                    return false;
                }
            },
            _ => 1,
        };
        let counts = [node.results.len(), node.types.len(), node.notes.len()];
        self.report.require(counts == [expected; 3], || {
            let [results, types, notes] = counts;
            format!("{results} results with {types} types and {notes} notes; it has {expected}")
        })
    }

    /// Check what the operation asks for; the period of what it computes, unless something is missing or it computes nothing.
    fn operation(&mut self, node: &Node<S>, operands: &[&ValueType]) -> Option<u32> {
        let program = self.program;
        let longest = operands
            .iter()
            .map(|ty| ty.layout.period())
            .max()
            .unwrap_or(1);
        let table = |report: &mut Report, holds, letter, index: u32| {
            report.require(holds, || format!("there is no {letter}{index}"));
        };
        match &node.op {
            Op::AddPlain { plain: id, .. } | Op::MulPlain { plain: id, .. } => {
                let plain = program.plains.get(id.0 as usize);
                table(self.report, plain.is_some(), 'p', id.0);
                let cached = |f: &PlainFactor| matches!(f, PlainFactor::CachedTokens { .. });
                let loops = plain?.factors.iter().any(cached);
                self.report.require(self.group || !loops, || {
                    "a mask of cached tokens outside a group template".into()
                });
                Some(longest.max(tables::plain_period(program, plain?)?))
            }
            Op::Linear { matrix: id, .. } => {
                let matrix = program.matrices.get(id.0 as usize);
                table(self.report, matrix.is_some(), 'm', id.0);
                Some(longest.max(matrix?.period()))
            }
            Op::Apply {
                step, count, baby, ..
            } => {
                let matches = match &operands[0].layout {
                    Layout::Matrix(m) => {
                        (m.step(), m.ciphertexts(), m.baby) == (*step, *count, *baby)
                    }
                    _ => false,
                };
                self.report.require(matches, || {
                    format!(
                        "its first operand is `{}`, no matrix of {count} diagonals in {baby} steps of {step}",
                        operands[0].layout
                    )
                });
                Some(longest)
            }
            Op::Poly { poly: id, .. } => {
                let poly = program.polys.get(id.0 as usize);
                table(self.report, poly.is_some(), 'f', id.0);
                self.domain(operands[0]);
                self.report
                    .require(!operands[0].complex, || "its operand is complex".into());
                Some(longest)
            }
            Op::Fold { step, count, .. } => self.fold(*step, *count, longest),
            Op::FoldCurrent { count, .. } => {
                let holds = count.is_power_of_two() && *count <= program.slots;
                self.report.require(holds, || {
                    format!(
                        "{count} slots are not a power of two within {}",
                        program.slots
                    )
                });
                Some(longest)
            }
            Op::AddConst { c, .. } | Op::MulConst { c, .. } => {
                self.report
                    .require(c.is_finite(), || format!("the constant {c} is not finite"));
                Some(longest)
            }
            Op::Append { state, .. } => {
                self.append(*state, operands[0]);
                None
            }
            Op::SumGroups {
                template, states, ..
            } => {
                self.sum_groups(node, *template, states, operands);
                None
            }
            Op::Bootstrap { kind, .. } => {
                self.domain(operands[0]);
                let fits = kind.slots.is_power_of_two() && kind.slots <= program.slots;
                self.report.require(fits && longest <= kind.slots, || {
                    format!(
                        "its operand repeats after {longest} slots, of which it refreshes {}",
                        kind.slots
                    )
                });
                self.report
                    .require(kind.complex || !operands[0].complex, || {
                        "a real bootstrap of a complex value".into()
                    });
                Some(longest)
            }
            _ => Some(longest),
        }
    }

    /// A matrix is several ciphertexts: it comes as a group template's parameter, and only a product reads it.
    fn matrices(&mut self, node: &Node<S>, operands: &[&ValueType]) {
        let first = usize::from(matches!(node.op, Op::Apply { .. }));
        let read = operands.iter().skip(first);
        let made = node.types.iter();
        let matrix = |ty: &&ValueType| matches!(ty.layout, Layout::Matrix(_));
        let none = !read.copied().chain(made).any(|ty| matrix(&ty));
        self.report.require(none, || {
            "a matrix that is several ciphertexts, where one is needed".into()
        });
    }

    fn domain(&mut self, ty: &ValueType) {
        self.report.require(ty.range <= 1.0, || {
            format!("its operand has range {:?}, more than 1", ty.range)
        });
    }

    fn fold(&mut self, step: i32, count: u32, period: u32) -> Option<u32> {
        let slots = u64::from(self.program.slots);
        let width = step.unsigned_abs();
        let holds =
            count.is_power_of_two() && width > 0 && u64::from(width) * u64::from(count) <= slots;
        if !self.report.require(holds, || {
            format!("{count} copies at steps of {step} are not a power of two within {slots} slots")
        }) {
            return None;
        }
        let orbit = width.is_power_of_two() && width < period && width * count >= period;
        Some(if orbit { width } else { period })
    }

    /// Imaginary parts do not vanish by themselves.
    fn parts(&mut self, node: &Node<S>, operands: &[&ValueType], result: &ValueType) {
        let any = operands.iter().any(|ty| ty.complex);
        let complex = match &node.op {
            Op::Add { .. } | Op::Sub { .. } | Op::Mul { .. } => false,
            Op::MulI { .. } => !any,
            Op::Linear { matrix, .. } => {
                let matrix = self.program.matrices.get(matrix.0 as usize);
                any || matrix.is_some_and(Matrix::complex)
            }
            _ => any,
        };
        self.report.require(result.complex || !complex, || {
            "the result is complex, its type says real".into()
        });
    }

    fn append(&mut self, state: StateId, ty: &ValueType) {
        self.report
            .require(!self.group, || "an append inside a group template".into());
        let first = self.appended.insert(state);
        self.report
            .require(first, || format!("s{} is appended to twice", state.0));
        match self.program.states.get(state.0 as usize) {
            Some(declared) => {
                let place = format!("s{}", state.0);
                // a matrix takes a vector for one of its rows or columns
                let taken = ValueType {
                    layout: match declared.ty.layout {
                        Layout::Matrix(matrix) => Layout::Partial {
                            period: matrix.period(),
                        },
                        ref layout => layout.clone(),
                    },
                    ..declared.ty.clone()
                };
                fits("the appended value", ty, &taken, &place, self.report);
                let side = match declared.ty.layout {
                    Layout::Matrix(matrix) => Some(matrix.side),
                    _ => None,
                };
                self.report
                    .require(side != Some(Side::Columns) || !ty.complex, || {
                        "a column of a matrix has no imaginary part of its own".into()
                    });
            }
            None => {
                self.report
                    .require(false, || format!("there is no s{}", state.0));
            }
        }
    }

    fn sum_groups(
        &mut self,
        node: &Node<S>,
        index: usize,
        states: &[StateId],
        args: &[&ValueType],
    ) {
        let (program, report) = (self.program, &mut *self.report);
        report.require(!self.group, || "a loop inside a group template".into());
        report.require(!states.is_empty(), || "it loops over no state".into());
        for state in states {
            let before = self.appended.contains(state);
            report.require(before, || {
                format!("s{} is appended to only later, or never", state.0)
            });
        }
        let tokens: BTreeSet<_> = states.iter().map(|s| program.tables().tokens(*s)).collect();
        let equal = tokens.len() <= 1 && !tokens.contains(&None);
        report.require(equal, || {
            "its states have groups of different size, or none".into()
        });
        // `counts` has found the template.
        let template = &program.templates[index];
        let stored = states
            .iter()
            .filter_map(|s| program.states.get(s.0 as usize));
        let given: Vec<_> = args.iter().copied().chain(stored.map(|s| &s.ty)).collect();
        let (params, found) = (template.params.len(), given.len());
        report.require(params == found, || {
            format!(
                "`{}` takes {params} parameters, {found} are given",
                template.name
            )
        });
        for (param, ty) in template.params.iter().zip(given) {
            let place = format!("{} of `{}`", param.value, template.name);
            fits("what is given", ty, &param.ty, &place, report);
        }
        let types = types_of(template);
        for (value, ty) in template.results.iter().zip(&node.types) {
            if let Some(inner) = types.get(value) {
                let what = format!("{value} of `{}`", template.name);
                fits(&what, inner, ty, "the result", report);
            }
        }
    }
}
