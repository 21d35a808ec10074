//! `sottoc compare` finds faults: stages and plans with one thing changed, each named at the site where the change first matters.
//!
//! Where that is, is found without it: every operation that a change touches is evaluated again on the values that the original program
//! gave it, in running order; the first whose result changes is the right site, and a change that changes none (a mask where its operand
//! is zero) is no fault and is drawn anew.

mod common;

use common::fixture;
use sotto_compiler::compare::{Options, compare};
use sotto_compiler::driver::{Planning, Request, StageFile, Stages, compile};
use sotto_compiler::frontend::Checkpoint;
use sotto_compiler::pack::{CheckpointData, input};
use sotto_compiler::view::{Given, read};
use sotto_ir::params::ParamSet;
use sotto_ir::plan::PlanProgram;
use sotto_ir::slot::{
    Binding, DataSource, Interpreter, Leveled, Node, Op, Packed, PlainFactor, Program, Recipe,
    Session, Slots, Stage, ValueId, ValueType,
};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

const MODEL: &str = "llama-gqa";
/// Tokens of every run: more than the four that this fixture's groups hold inside the features.
const TOKENS: [u32; 6] = [0, 17, 291, 5, 140, 33];
/// Mutations of each pair of stages.
const EACH: usize = 52;
/// Least relative change of a result that counts as one.
const EFFECT: f64 = 1e-6;

/// A generator that needs no crate: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Rotation,
    Scale,
    Mask,
    Coefficient,
    Range,
}

const KINDS: [Kind; 5] = [
    Kind::Rotation,
    Kind::Scale,
    Kind::Mask,
    Kind::Coefficient,
    Kind::Range,
];

/// One thing changed; templates, nodes and tables by index.
#[derive(Clone, Debug)]
enum Change {
    Turn(usize, usize, i32),
    Const(usize, usize, f64),
    Factor(usize, usize, PlainFactor),
    Coefficient(usize, usize, f64),
    Recipe(usize, f64),
    Unit(usize, usize, f64),
    Range(usize, usize, f64),
}

impl Change {
    fn op<V>(&self, op: &mut Op<V>) {
        match (op, self) {
            (Op::Rotate { by, .. }, Change::Turn(.., x)) => *by = *x,
            (Op::Fold { step, .. }, Change::Turn(.., x)) => *step = *x,
            (Op::AddConst { c, .. } | Op::MulConst { c, .. }, Change::Const(.., x)) => *c = *x,
            _ => panic!("{self:?} is of another operation"),
        }
    }

    fn ty(&self, ty: &mut ValueType) {
        match self {
            Change::Unit(.., factor) => ty.unit *= factor,
            Change::Range(.., factor) => ty.range *= factor,
            _ => {}
        }
    }

    fn recipe(&self, recipe: &mut Recipe) {
        if let (Recipe::Matrix(parts), Change::Recipe(_, factor)) = (recipe, self) {
            parts[0].scale *= factor;
        }
    }

    fn stage<S: Stage>(&self, program: &mut Program<S>) {
        match self {
            Change::Turn(t, n, _) | Change::Const(t, n, _) => {
                self.op(&mut program.templates[*t].nodes[*n].op);
            }
            Change::Factor(p, f, factor) => program.plains[*p].factors[*f] = factor.clone(),
            Change::Coefficient(p, k, c) => program.polys[*p].coefficients[*k] = *c,
            Change::Recipe(d, _) => self.recipe(&mut program.data[*d].recipe),
            Change::Unit(t, n, _) | Change::Range(t, n, _) => {
                self.ty(&mut program.templates[*t].nodes[*n].types[0]);
            }
        }
    }

    fn plan(&self, program: &mut PlanProgram) {
        match self {
            Change::Turn(t, n, _) | Change::Const(t, n, _) => {
                self.op(&mut program.templates[*t].instrs[*n].op);
            }
            Change::Factor(p, f, factor) => program.plains[*p].factors[*f] = factor.clone(),
            Change::Coefficient(p, k, c) => program.polys[*p].coefficients[*k] = *c,
            Change::Recipe(d, _) => self.recipe(&mut program.data[*d].recipe),
            Change::Unit(t, n, _) | Change::Range(t, n, _) => {
                self.ty(&mut program.templates[*t].instrs[*n].types[0]);
            }
        }
    }
}

/// One operation of the original run: where it was, and what it was given and gave.
struct Done {
    template: usize,
    node: usize,
    binding: Binding,
    operands: Vec<Slots>,
    result: Slots,
}

/// The original run, operation by operation.
fn record<S: Stage>(
    program: &Program<S>,
    data: &dyn DataSource,
    checkpoint: &Checkpoint,
) -> Vec<Done> {
    let decoder = checkpoint.decoder().unwrap();
    let places: HashMap<(&str, ValueId), (usize, usize)> = (program.templates.iter().enumerate())
        .flat_map(|(t, template)| {
            let nodes = template.nodes.iter().enumerate();
            let named = move |(n, node): (usize, &Node<S>)| {
                node.results
                    .iter()
                    .map(move |v| ((template.name.as_str(), *v), (t, n)))
                    .collect::<Vec<_>>()
            };
            nodes.flat_map(named)
        })
        .collect();
    let mut done = Vec::new();
    let mut session = Session::default();
    for (position, &token) in (0..).zip(&TOKENS) {
        let place = (&[token][..], position as usize);
        let x = input(program, &decoder, checkpoint, place).unwrap();
        // a loop's body is over before the next operation of its layer: names of values do not mix
        let mut values: HashMap<(&str, ValueId), Slots> = HashMap::new();
        let mut seen_all = Vec::new();
        let interpreter = Interpreter::new(program, data);
        interpreter
            .decode(&mut session, vec![x], &mut |seen| {
                let binding = Binding {
                    layer: seen.layer,
                    position,
                    count: 1,
                    group: seen.group,
                };
                let template = program.templates.iter().find(|t| t.name == seen.template);
                let name = template.unwrap().name.as_str();
                seen_all.push((name, seen.value, binding, seen.slots.clone()));
            })
            .unwrap();
        for (name, value, binding, slots) in seen_all {
            if let Some(&(template, node)) = places.get(&(name, value)) {
                let op = &program.templates[template].nodes[node].op;
                let operand = |v: &ValueId| values[&(name, *v)].clone();
                if !matches!(op, Op::SumGroups { .. }) {
                    done.push(Done {
                        template,
                        node,
                        binding,
                        operands: op.operands().into_iter().map(operand).collect(),
                        result: slots.clone(),
                    });
                }
            }
            values.insert((name, value), slots);
        }
    }
    done
}

/// What an operation gives, for those that a change may touch.
fn evaluate<S: Stage>(
    program: &Program<S>,
    data: &dyn DataSource,
    op: &Op<ValueId>,
    given: &[Slots],
    at: Binding,
) -> Slots {
    let tables = program.tables();
    let v = &given[0];
    let plain = |id: usize| {
        let values = tables.plain(data, &program.plains[id], at).unwrap();
        Slots::real(&values).unwrap()
    };
    match op {
        Op::Rotate { by, .. } => v.rotate(*by),
        Op::Fold { step, count, .. } => v.fold(*step, *count),
        Op::AddConst { c, .. } => v.map(|x| x + c),
        Op::MulConst { c, .. } => v.map(|x| x * c),
        Op::AddPlain { plain: p, .. } => v.zip(&plain(p.0 as usize), |a, b| a + b),
        Op::MulPlain { plain: p, .. } => v.zip(&plain(p.0 as usize), |a, b| a * b),
        Op::Poly { poly, .. } => v.chebyshev(&program.polys[poly.0 as usize].coefficients),
        Op::Linear { matrix, .. } => {
            let matrix = &program.matrices[matrix.0 as usize];
            let entries = tables.entries(data, matrix, at.layer).unwrap();
            let period = v.period().max(matrix.period() as usize);
            let slot = |p: usize| {
                let term =
                    |k: u32| entries.at(p as u32, k) * v.at(p + (k * matrix.step()) as usize);
                (0..matrix.diagonals()).map(term).sum()
            };
            Slots::new((0..period).map(slot).collect()).unwrap()
        }
        op => panic!("no change touches {}", op.name()),
    }
}

/// Whether an operation reads what a change changes.
fn touches<S: Stage>(change: &Change, program: &Program<S>, t: usize, n: usize) -> bool {
    let op = &program.templates[t].nodes[n].op;
    match (change, op) {
        (Change::Turn(ct, cn, _) | Change::Const(ct, cn, _), _) => (*ct, *cn) == (t, n),
        (Change::Factor(p, ..), Op::AddPlain { plain, .. } | Op::MulPlain { plain, .. }) => {
            plain.0 as usize == *p
        }
        (Change::Coefficient(p, ..), Op::Poly { poly, .. }) => poly.0 as usize == *p,
        (Change::Recipe(d, _), Op::Linear { matrix, .. }) => {
            program.matrices[matrix.0 as usize].data.0 as usize == *d
        }
        _ => false,
    }
}

/// The stage that mutations start from, with its run.
struct Original<'a, S: Stage> {
    program: &'a Program<S>,
    checkpoint: &'a Checkpoint,
    run: Vec<Done>,
}

impl<S: Stage> Original<'_, S> {
    /// The site where a change first matters; None if it changes no value of the run.
    fn right(&self, change: &Change) -> Option<String> {
        let site = |t: usize, n: usize, layer: u32| {
            let site = &self.program.templates[t].nodes[n].site;
            site.replace("{i}", &layer.to_string())
        };
        if let Change::Unit(t, n, _) | Change::Range(t, n, _) = change {
            let first = self.run.iter().find(|d| (d.template, d.node) == (*t, *n))?;
            // a unit says what a value means, and nothing of one that is zero
            let counts = first.result.max_part() > 0.0 || matches!(change, Change::Range(..));
            return counts.then(|| site(*t, *n, first.binding.layer));
        }
        let mut changed = self.program.clone();
        change.stage(&mut changed);
        let positions = &self.checkpoint.facts().positions;
        let data = CheckpointData::new(&changed.data, self.checkpoint, positions);
        let done = self.run.iter();
        let mut touched = done.filter(|d| touches(change, self.program, d.template, d.node));
        let first = touched.find(|d| {
            let op = &changed.templates[d.template].nodes[d.node].op;
            let now = evaluate(&changed, &data, op, &d.operands, d.binding);
            let change = now.zip(&d.result, |a, b| a - b).max_part();
            change > EFFECT * d.result.max_part().max(1e-3)
        })?;
        Some(site(first.template, first.node, first.binding.layer))
    }

    /// A change of a kind that matters, and where. Values of placement's own operations are left alone where the other program lacks
    /// them, recipes where a plan has its weights packed.
    fn draw(
        &self,
        kind: Kind,
        random: &mut Random,
        placed: bool,
        packed: bool,
    ) -> (Change, String) {
        loop {
            if let Some(change) = self.propose(kind, random, placed, packed)
                && let Some(right) = self.right(&change)
            {
                return (change, right);
            }
        }
    }

    fn propose(
        &self,
        kind: Kind,
        random: &mut Random,
        placed: bool,
        packed: bool,
    ) -> Option<Change> {
        let program = self.program;
        let t = random.below(program.templates.len());
        let n = random.below(program.templates[t].nodes.len());
        let node = &program.templates[t].nodes[n];
        let by_placement = matches!(node.op.name(), "rescale" | "drop" | "bootstrap");
        let typed = !node.results.is_empty()
            && (placed || !by_placement)
            && !matches!(node.op, Op::SumGroups { .. });
        let factor = match random.below(2) {
            0 => random.between(0.3, 0.9),
            _ => random.between(1.1, 3.0),
        };
        match kind {
            Kind::Rotation => match node.op {
                Op::Rotate { by, .. } => Some(Change::Turn(t, n, by + 1 + random.below(63) as i32)),
                Op::Fold { step, .. } => {
                    Some(Change::Turn(t, n, step * 2 + random.below(3) as i32))
                }
                _ => None,
            },
            Kind::Scale => match random.below(3) {
                0 => match node.op {
                    Op::MulConst { c, .. } => Some(Change::Const(t, n, c * factor)),
                    _ => typed.then_some(Change::Unit(t, n, factor)),
                },
                1 => {
                    let p = random.below(program.plains.len());
                    let factors = &program.plains[p].factors;
                    let consts = factors.iter().enumerate();
                    let mut consts = consts.filter_map(|(f, x)| match x {
                        PlainFactor::Const(c) => Some((f, *c)),
                        _ => None,
                    });
                    let (f, c) = consts.next()?;
                    Some(Change::Factor(p, f, PlainFactor::Const(c * factor)))
                }
                _ => {
                    let d = random.below(program.data.len());
                    let matrix = matches!(program.data[d].recipe, Recipe::Matrix(_));
                    (matrix && !packed).then_some(Change::Recipe(d, factor))
                }
            },
            Kind::Mask => {
                let p = random.below(program.plains.len());
                let f = random.below(program.plains[p].factors.len());
                let mut factor = program.plains[p].factors[f].clone();
                match &mut factor {
                    PlainFactor::FirstOf { width, first } => {
                        *first = 1 + random.below(*width as usize) as u32;
                    }
                    PlainFactor::CurrentToken { group, .. }
                    | PlainFactor::CachedTokens { group, .. } => {
                        group.inner = *random.pick(&[1, 2, 4, 8]);
                    }
                    _ => return None,
                }
                Some(Change::Factor(p, f, factor))
            }
            Kind::Coefficient => match node.op {
                Op::AddConst { c, .. } => Some(Change::Const(t, n, c * factor)),
                Op::Poly { poly, .. } => {
                    let p = poly.0 as usize;
                    let k = random.below(program.polys[p].coefficients.len());
                    let c = program.polys[p].coefficients[k];
                    Some(Change::Coefficient(p, k, c * factor))
                }
                _ => None,
            },
            Kind::Range => typed.then_some(Change::Range(t, n, factor)),
        }
    }
}

/// How many were named right, by pair and kind.
#[derive(Default)]
struct Tally {
    right: usize,
    total: usize,
    missed: Vec<String>,
    elsewhere: Vec<String>,
}

/// Draws `EACH` changes of a program, and holds what is made of each against the reference.
fn trial<S: Stage>(
    pair: &str,
    original: &Original<'_, S>,
    reference: &Given,
    placed: bool,
    packed: bool,
    changed: impl Fn(&Change) -> Given,
    tally: &mut Tally,
) {
    let mut random = Random(pair.len() as u64);
    for i in 0..EACH {
        let kind = KINDS[i % KINDS.len()];
        let (change, right) = original.draw(kind, &mut random, placed, packed);
        let options = Options {
            checkpoint: Some(original.checkpoint),
            tokens: TOKENS.into(),
            tolerance: None,
        };
        let verdict = compare(reference, &changed(&change), &options).unwrap();
        tally.total += 1;
        let what = format!("{pair}: {kind:?} {change:?} at {right}");
        let found = verdict.site();
        // what changes a value must be found as a value
        let seen = verdict.divergence.is_some() || kind == Kind::Range;
        match found {
            Some(site) if site == right && seen => tally.right += 1,
            Some(site) => tally
                .elsewhere
                .push(format!("{what}: named {site}, {seen}")),
            None => tally.missed.push(what),
        }
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes of work: run in release")]
fn mutations_are_named_where_they_matter_first() {
    let dir = tempfile::tempdir().unwrap();
    let (dumps, output) = (dir.path().join("dumps"), dir.path().join("plan"));
    let request = Request {
        model: fixture(MODEL),
        calibrate: None,
        planning: Planning::new(ParamSet::insecure_test(12), 24),
        stages: Stages {
            stop_after: None,
            dump_dir: Some(dumps.clone()),
        },
        from: None,
        output: Some(output.clone()),
    };
    compile(&request, &mut |_| ()).unwrap();
    let checkpoint = Checkpoint::open(&fixture(MODEL)).unwrap();
    let positions = &checkpoint.facts().positions;
    let packed_file = read(&dumps.join("02.packed.decode.txt")).unwrap();
    let leveled_file = read(&dumps.join("03.leveled.decode.txt")).unwrap();
    let plan_file = read(Path::new(&output)).unwrap();
    let (packed, leveled) = (packed_of(&packed_file), leveled_of(&leveled_file));
    let data = CheckpointData::new(&packed.data, &checkpoint, positions);
    let from_packed = Original {
        run: record(&packed, &data, &checkpoint),
        program: &packed,
        checkpoint: &checkpoint,
    };
    let from_leveled = Original {
        run: record(&leveled, &data, &checkpoint),
        program: &leveled,
        checkpoint: &checkpoint,
    };
    let mut tally = Tally::default();
    let stage_of = |change: &Change| {
        let mut program = packed.clone();
        change.stage(&mut program);
        Given::Stage(Box::new(StageFile::Packed(program)))
    };
    trial(
        "packed",
        &from_packed,
        &packed_file,
        true,
        false,
        stage_of,
        &mut tally,
    );
    let leveled_with = |change: &Change| {
        let mut program = leveled.clone();
        change.stage(&mut program);
        Given::Stage(Box::new(StageFile::Leveled(program)))
    };
    let across = "packed, leveled";
    trial(
        across,
        &from_leveled,
        &packed_file,
        false,
        false,
        leveled_with,
        &mut tally,
    );
    trial(
        "leveled",
        &from_leveled,
        &leveled_file,
        true,
        false,
        leveled_with,
        &mut tally,
    );
    let plan_with = |change: &Change| {
        let Given::Plan { dir, plan, digest } = plan_file.clone() else {
            panic!("a plan was read");
        };
        let mut plan = (*plan).clone();
        change.plan(&mut plan.decode);
        let plan = Arc::new(plan);
        Given::Plan { dir, plan, digest }
    };
    trial(
        "plan",
        &from_leveled,
        &plan_file,
        true,
        true,
        plan_with,
        &mut tally,
    );
    let Tally {
        right,
        total,
        missed,
        elsewhere,
    } = &tally;
    println!(
        "{right} of {total} named at the right site, {} missed",
        missed.len()
    );
    println!("{}", elsewhere.join("\n"));
    assert!(*total >= 200);
    assert!(missed.is_empty(), "{missed:#?}");
    assert!(*right as f64 >= 0.95 * *total as f64, "{elsewhere:#?}");
}

fn packed_of(given: &Given) -> Program<Packed> {
    match given {
        Given::Stage(file) => match &**file {
            StageFile::Packed(program) => program.clone(),
            other => panic!("{other} is not packed"),
        },
        _ => panic!("not a stage"),
    }
}

fn leveled_of(given: &Given) -> Program<Leveled> {
    match given {
        Given::Stage(file) => match &**file {
            StageFile::Leveled(program) => program.clone(),
            other => panic!("{other} is not leveled"),
        },
        _ => panic!("not a stage"),
    }
}
