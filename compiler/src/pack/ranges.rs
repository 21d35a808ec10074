//! The range of every value of a packed program, from running it on calibration data.
//!
//! Calibration on the `decoder` stage sees the model's vectors; this sees what the slots hold, products and partial sums
//! included. The recorded range is what was seen times a margin, except that a value made to fill [-1, 1] (a polynomial's
//! argument, or a vector whose unit is its reach: their windows have the margin already) has range 1 as long as it stays inside.

use miette::Diagnostic;
use sotto_ir::fidelity::largest;
use sotto_ir::slot::{
    DataSource, InterpError, Interpreter, Node, Op, Packed, Program, Seen, Session, Slots, Stage,
    ValueId,
};
use std::collections::{BTreeMap, HashMap};

/// Why ranges could not be recorded.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum RangeError {
    /// The program did not run.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Interp(#[from] InterpError),
    /// A polynomial's argument left [-1, 1], where it means nothing.
    #[error(
        "`{site}` reaches {reach:.3} on calibration data, outside the [-1, 1] its polynomial covers: raise the margin"
    )]
    #[diagnostic(code(pack::escape))]
    Escape {
        /// Site of the polynomial.
        site: String,
        /// Largest magnitude of its argument.
        reach: f64,
    },
}

/// Largest |re| or |im| of each value, by template and value.
type Reaches = HashMap<(String, ValueId), f64>;

/// Runs `program` over `sequences` (per run, the client's slot vector and how many tokens it stands for), records ranges in its types,
/// and hands every run's results to `result` with the indices of sequence and last token.
pub fn recalibrate(
    program: &mut Program<Packed>,
    data: &dyn DataSource,
    sequences: &[Vec<(Slots, u32)>],
    margin: f64,
    mut result: impl FnMut(usize, usize, &[Slots]),
) -> Result<(), RangeError> {
    let mut reaches = Reaches::new();
    let interpreter = Interpreter::new(program, data);
    for (s, inputs) in sequences.iter().enumerate() {
        let mut session = Session::default();
        for (input, count) in inputs {
            let mut observe = |seen: &Seen<'_>| {
                let reach = seen.slots.max_part();
                let key = (seen.template.to_string(), seen.value);
                let known = reaches.entry(key).or_insert(0.0);
                *known = known.max(reach);
            };
            let out = interpreter.run(&mut session, vec![input.clone()], *count, &mut observe)?;
            result(s, session.position() as usize - 1, &out);
        }
    }
    check_polys(program, &reaches)?;
    record(program, &reaches, margin);
    even_out(program);
    Ok(())
}

/// Gives the same ranges to the parts of a group template of several results. Each computes the same for other heads, so that what is
/// seen of all says more of each than what is seen of it alone.
fn even_out(program: &mut Program<Packed>) {
    let mut in_parts: HashMap<usize, usize> = HashMap::new();
    for template in &mut program.templates {
        let calls = template.nodes.iter().filter_map(|node| match &node.op {
            Op::SumGroups { template, .. } if node.results.len() > 1 => {
                Some((node.site.clone(), *template, node.results.len()))
            }
            _ => None,
        });
        for (site, group, parts) in calls.collect::<Vec<_>>() {
            in_parts.insert(group, parts);
            // the loop's results, and their sums over tokens
            let sums = format!("{site}.sum");
            let loops = |node: &Node<Packed>| matches!(node.op, Op::SumGroups { .. });
            let nodes = template.nodes.iter_mut();
            even(nodes.filter(|node| loops(node) || node.site == sums), parts);
        }
    }
    for (group, parts) in in_parts {
        let nodes = program.templates[group].nodes.iter_mut();
        even(nodes, parts);
    }
}

/// The largest range to all results of one node, and to the nodes in the same place of each part: those of the same operation at the same
/// site, as many of which are in every part.
fn even<'n>(nodes: impl Iterator<Item = &'n mut Node<Packed>>, parts: usize) {
    let mut alike: BTreeMap<(String, &str), Vec<&mut Node<Packed>>> = BTreeMap::new();
    for node in nodes {
        let key = (node.site.clone(), node.op.name());
        alike.entry(key).or_default().push(node);
    }
    for mut nodes in alike.into_values() {
        let period = match nodes.len() % parts {
            0 => nodes.len() / parts,
            // not of the parts: each with itself
            _ => nodes.len(),
        };
        for first in 0..period {
            let these = nodes.iter().skip(first).step_by(period);
            let ranges = these.flat_map(|node| &node.types).map(|ty| ty.range);
            let reach = largest(ranges);
            for node in nodes.iter_mut().skip(first).step_by(period) {
                node.types.iter_mut().for_each(|ty| ty.range = reach);
            }
        }
    }
}

fn check_polys(program: &Program<Packed>, reaches: &Reaches) -> Result<(), RangeError> {
    for template in &program.templates {
        for node in &template.nodes {
            let Op::Poly { v, .. } = &node.op else {
                continue;
            };
            match reaches.get(&(template.name.clone(), *v)) {
                Some(&reach) if reach > 1.0 => {
                    return Err(RangeError::Escape {
                        site: node.site.clone(),
                        reach,
                    });
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn record(program: &mut Program<Packed>, reaches: &Reaches, margin: f64) {
    let range = |template: &str, value: ValueId, current: f64| {
        match reaches.get(&(template.to_string(), value)) {
            Some(&reach) if reach <= 1.0 => (reach * margin).min(1.0),
            Some(&reach) => reach * margin,
            None => current, // never run: nothing is known
        }
    };
    // a group template's last parameters are the states' groups
    let mut states = vec![0.0f64; program.states.len()];
    for template in &program.templates {
        for node in &template.nodes {
            if let Op::SumGroups {
                template: group,
                states: named,
                args,
            } = &node.op
            {
                let group = &program.templates[*group];
                for (state, param) in named.iter().zip(&group.params[args.len()..]) {
                    let known = &mut states[state.0 as usize];
                    *known = known.max(range(&group.name, param.value, 0.0));
                }
            }
        }
    }
    for (state, range) in program.states.iter_mut().zip(states) {
        state.ty.range = range;
    }
    for template in &mut program.templates {
        for param in &mut template.params {
            param.ty.range = range(&template.name, param.value, param.ty.range);
        }
        for node in &mut template.nodes {
            for (value, ty) in node.results.iter().zip(&mut node.types) {
                ty.range = range(&template.name, *value, ty.range);
            }
        }
    }
}

/// Ranges no narrower than another program's of the same model: those of the same operation, counted by site. A program that takes blocks
/// runs fewer times on the same data, so it sees less.
pub fn widen<S: Stage>(program: &mut Program<Packed>, by: &Program<S>) {
    let mut known = HashMap::new();
    for_each_type(by, &mut |key, range| {
        known.insert(key, range);
    });
    let mut counted = Counted::default();
    for template in &mut program.templates {
        for node in &mut template.nodes {
            let key = counted.next(&node.site, node.op.name());
            for ty in &mut node.types {
                let range = known.get(&key).copied().unwrap_or(0.0);
                ty.range = ty.range.max(range);
            }
        }
    }
}

/// An operation: its site, its name, and how many of that name come before it there.
type Place = (String, &'static str, u32);

#[derive(Default)]
struct Counted(HashMap<(String, &'static str), u32>);

impl Counted {
    fn next(&mut self, site: &str, op: &'static str) -> Place {
        let count = self.0.entry((site.into(), op)).or_insert(0);
        *count += 1;
        (site.into(), op, *count - 1)
    }
}

fn for_each_type<S: Stage>(program: &Program<S>, see: &mut dyn FnMut(Place, f64)) {
    let mut counted = Counted::default();
    for template in &program.templates {
        for node in &template.nodes {
            let place = counted.next(&node.site, node.op.name());
            let range = node.types.iter().map(|ty| ty.range).fold(0.0, f64::max);
            see(place, range);
        }
    }
}
