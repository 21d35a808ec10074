//! Small random programs that the packed verifier passes, with residuals, values of several widths, values out of range and reads of
//! a state; made-up prices and bootstraps for them.

use super::super::{RefreshKind, Target};
use super::synthetic::{Maker, tokens, vector};
use crate::cost::{Prices, Work};
use sotto_ir::params::ParamSet;
use sotto_ir::params::bootstrap::BootstrapSpec;
use sotto_ir::slot::{
    BootstrapKind, Layout, LevelRules, Leveled, Op, Program, StateDecl, StateId, Step, ValueId,
    ValueType,
};

/// Prices that rise with the level; a bootstrap costs as much as a few products, less on fewer slots.
pub struct Made;

impl Prices for Made {
    fn nanos(&self, work: &Work, level: u32) -> u64 {
        let level = u64::from(level);
        match work {
            Work::Bootstrap(kind) => 45 + u64::from(kind.slots.trailing_zeros()),
            Work::Mul => 5 + 3 * level,
            Work::Poly(plan) => (plan.degree as u64) * (3 + 2 * level),
            Work::Rotate => 3 + 2 * level,
            Work::Fold { rotations } => u64::from(*rotations) * (1 + level),
            Work::Rescale => 1,
            _ => 1 + level / 2,
        }
    }
}

pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

/// Bootstraps of a scalar and of everything, at input levels 1 and 1.
pub fn target(top: u32) -> Target {
    let refresh = |slots| RefreshKind {
        kind: BootstrapKind {
            slots,
            complex: false,
        },
        input_level: 1,
    };
    Target {
        top,
        refreshes: vec![refresh(1), refresh(SLOTS)],
    }
}

const SLOTS: u32 = 1 << 15;

/// Asks the leveled verifier, with the bootstraps of a target.
pub fn is_legal(program: &Program<Leveled>, top: u32, bootstraps: &[BootstrapSpec]) -> bool {
    let rules = LevelRules { top, bootstraps };
    program.verify(&rules).is_ok()
}

/// The bootstraps of a target as the verifier wants them.
pub fn specs(target: &Target) -> Vec<BootstrapSpec> {
    let params = ParamSet::secure_128();
    let spec = |r: &RefreshKind| BootstrapSpec {
        input_level: r.input_level as usize,
        output_level: target.top as usize,
        ..BootstrapSpec::new(&params, r.kind.slots as usize, r.kind.complex).unwrap()
    };
    target.refreshes.iter().map(spec).collect()
}

/// Values that operations may read, with their types.
type Values = Vec<(ValueId, ValueType)>;

/// The latest value (one time in two), one of the latest three, or any.
fn pick(random: &mut Random, values: &Values) -> (ValueId, ValueType) {
    let from = match random.below(4) {
        0 => values.len(),
        1 => values.len().min(3),
        _ => 1,
    };
    let back = random.below(from as u64) as usize;
    values[values.len() - 1 - back].clone()
}

/// The type of a result: the longer layout, and one time in three out of range.
fn result(random: &mut Random, a: &ValueType, b: &ValueType) -> ValueType {
    let longer = if a.layout.period() >= b.layout.period() {
        a
    } else {
        b
    };
    ValueType {
        range: if random.below(3) == 0 { 2.0 } else { 1.0 },
        ..longer.clone()
    }
}

/// Appends `nodes` random operations on `values`.
fn grow(m: &mut Maker, random: &mut Random, values: &mut Values, nodes: u32) {
    for _ in 0..nodes {
        let ((a, first), (b, second)) = (pick(random, values), pick(random, values));
        let (op, ty) = match random.below(7) {
            0 | 1 => (Op::Mul { a, b }, result(random, &first, &second)),
            2 => (Op::Rotate { v: a, by: 1 }, result(random, &first, &first)),
            3 if first.range <= 1.0 => {
                let degree = 3 + 2 * random.below(2) as usize;
                let poly = m.poly("p", degree);
                (Op::Poly { v: a, poly }, result(random, &first, &first))
            }
            4 if first.layout == vector().layout => {
                let (step, count) = (1, 128);
                let scalar = ValueType {
                    layout: Layout::Scalar,
                    ..first
                };
                let ty = result(random, &scalar, &scalar);
                (Op::Fold { v: a, step, count }, ty)
            }
            3 | 4 => (
                Op::MulConst { v: a, c: 0.5 },
                result(random, &first, &first),
            ),
            _ => (Op::Add { a, b }, result(random, &first, &second)),
        };
        let v = m.op(op, &ty, "op");
        values.push((v, ty));
    }
}

/// A template of `nodes` operations over one parameter; its last value is the result.
pub fn straight(seed: u64, nodes: u32) -> Program<sotto_ir::slot::Packed> {
    let mut m = Maker::new(SLOTS, 16);
    let mut values = vec![(m.param(vector()), vector())];
    grow(&mut m, &mut Random(seed), &mut values, nodes);
    let last = values[values.len() - 1].0;
    let template = m.finish("t", vec![last]);
    run(m, template)
}

/// A template that appends to a state and loops over its groups, `inside` operations in the loop and `outside` around it.
pub fn looped(seed: u64, inside: u32, outside: u32) -> Program<sotto_ir::slot::Packed> {
    let mut random = Random(seed);
    // One group or five at capacity: one trip or, on average, three.
    let groups = if seed.is_multiple_of(2) { 1 } else { 5 };
    let mut m = Maker::new(SLOTS, groups * 256);
    let grid = tokens(SLOTS);
    m.program.states.push(StateDecl {
        name: "k".into(),
        ty: grid.clone(),
        level: None,
    });
    let mut inner = vec![
        (m.param(vector()), vector()),
        (m.param(grid.clone()), grid.clone()),
    ];
    // the result depends on both, whatever else there is
    let (a, b) = (inner[0].0, inner[1].0);
    let product = m.op(Op::Mul { a, b }, &grid, "op");
    inner.push((product, grid.clone()));
    grow(&mut m, &mut random, &mut inner, inside);
    let last = m.op(add(product, inner[inner.len() - 1].0), &grid, "op");
    let group = m.finish("group", vec![last]);

    let mut values = vec![(m.param(vector()), vector())];
    grow(&mut m, &mut random, &mut values, outside - outside / 2);
    // the loop takes them for values in range
    let fitting: Vec<_> = values.iter().filter(|(_, ty)| ty.range <= 1.0).collect();
    let mut choose = || fitting[random.below(fitting.len() as u64) as usize].0;
    let (k, q) = (choose(), choose());
    let state = StateId(0);
    m.statement(Op::Append { state, v: k }, vec![], "append");
    let sum = Op::SumGroups {
        template: group,
        states: vec![state],
        args: vec![q],
    };
    let sum = m.statement(sum, vec![grid.clone()], "loop")[0];
    values.push((sum, grid.clone()));
    grow(&mut m, &mut random, &mut values, outside / 2);
    let last = m.op(add(sum, values[values.len() - 1].0), &grid, "op");
    let template = m.finish("t", vec![last]);
    run(m, template)
}

fn add(a: ValueId, b: ValueId) -> Op<ValueId> {
    Op::Add { a, b }
}

/// The program that runs a template once.
fn run(mut m: Maker, template: usize) -> Program<sotto_ir::slot::Packed> {
    let (first, count) = (0, 1);
    m.program.steps.push(Step {
        template,
        first,
        count,
    });
    m.program.verify().unwrap();
    m.program
}
