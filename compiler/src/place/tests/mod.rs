//! Tests of placement: the synthetic decoder, legality, meaning, optimality on small graphs.

mod draft;
mod exhaustive;
mod oracle;
pub(crate) mod random;
pub(crate) mod synthetic;

use super::{Options, PlaceError, RefreshKind, Target, place};
use crate::cost::model::{Machine, table};
use sotto_ir::params::ParamSet;
use sotto_ir::params::bootstrap::BootstrapSpec;
use sotto_ir::slot::{
    BootstrapKind, Interpreter, LevelRules, Leveled, Op, Packed, PolyId, Program, Session, StateId,
    Step, ValueType,
};
use std::collections::BTreeSet;

fn target(params: &ParamSet, kinds: &[(u32, bool)]) -> Target {
    let refresh = |&(slots, complex): &(u32, bool)| RefreshKind {
        kind: BootstrapKind { slots, complex },
        input_level: BootstrapSpec::new(params, slots as usize, complex)
            .unwrap()
            .input_level as u32,
    };
    Target {
        top: params.top_app_level() as u32,
        refreshes: kinds.iter().map(refresh).collect(),
    }
}

/// Holds the program against the level rules, which share no code with the placer.
pub(crate) fn verify(program: &Program<Leveled>, target: &Target, params: &ParamSet) {
    let spec = |r: &RefreshKind| {
        BootstrapSpec::new(params, r.kind.slots as usize, r.kind.complex).unwrap()
    };
    let bootstraps: Vec<BootstrapSpec> = target.refreshes.iter().map(spec).collect();
    let rules = LevelRules {
        top: target.top,
        bootstraps: &bootstraps,
    };
    program.verify(&rules).unwrap();
}

fn bootstraps(program: &Program<Leveled>) -> usize {
    let nodes = program.templates.iter().flat_map(|t| &t.nodes);
    nodes
        .filter(|n| matches!(n.op, Op::Bootstrap { .. }))
        .count()
}

#[test]
fn a_decoder_is_placed_legally_and_the_same_every_time() {
    let params = ParamSet::secure_128();
    let prices = table(&params, &Machine::TWO_CORES).unwrap();
    let target = target(&params, &[(128, false), (1 << 15, false)]);
    for (capacity, layers) in [(256, 1), (1024, 2), (1024, 8)] {
        let program = synthetic::decoder(1 << 15, capacity, layers);
        let (leveled, report) = place(&program, &target, &prices, &Options::default()).unwrap();
        verify(&leveled, &target, &params);
        assert!(!report.cut, "{report:?}");
        // 35 levels of a layer and the 8 of the head cannot be had from 16; three bootstraps a layer are enough.
        assert!(
            (2..=6).contains(&bootstraps(&leveled)),
            "{}",
            bootstraps(&leveled)
        );
        assert!(leveled.states.iter().all(|s| s.level.is_some()));
        let again = place(&program, &target, &prices, &Options::default()).unwrap();
        assert_eq!((leveled, report), again);
    }
}

#[test]
fn meaning_is_unchanged() {
    let params = ParamSet::insecure_test(11);
    let prices = table(&params, &Machine::TWO_CORES).unwrap();
    let target = target(&params, &[(128, false), (1 << 10, false)]);
    let slots = params.slots() as u32;
    let program = synthetic::decoder(slots, 3 * slots / synthetic::WIDTH, 2);
    let (leveled, _) = place(&program, &target, &prices, &Options::default()).unwrap();
    verify(&leveled, &target, &params);
    let data = synthetic::weights(&program, 2);
    let (mut a, mut b) = (Session::default(), Session::default());
    for token in 0..5 {
        let input = || vec![synthetic::input(token)];
        let packed = Interpreter::new(&program, &data)
            .decode(&mut a, input(), &mut |_| {})
            .unwrap();
        let placed = Interpreter::new(&leveled, &data)
            .decode(&mut b, input(), &mut |_| {})
            .unwrap();
        assert!(packed == placed, "token {token}");
        let size = packed[0]
            .values()
            .iter()
            .map(|v| v.norm())
            .fold(0.0, f64::max);
        assert!(size > 1e-6 && size.is_finite(), "{size}");
    }
}

#[test]
fn a_template_without_refreshable_values_is_refused_by_name() {
    let params = ParamSet::secure_128();
    let prices = table(&params, &Machine::TWO_CORES).unwrap();
    let program = synthetic::decoder(1 << 15, 256, 2);
    let none = Target {
        top: 16,
        refreshes: vec![],
    };
    let error = place(&program, &none, &prices, &Options::default()).unwrap_err();
    assert!(
        matches!(&error, PlaceError::NoPlacement { template, .. } if template == "layer"),
        "{error}"
    );
}

#[test]
fn a_packed_program_with_levels_is_refused() {
    let params = ParamSet::secure_128();
    let prices = table(&params, &Machine::TWO_CORES).unwrap();
    let mut program = synthetic::decoder(1 << 15, 256, 2);
    let node = &mut program.templates[1].nodes[3];
    node.op = node.op.map(|v| *v);
    let Op::Poly { v, .. } = node.op else {
        panic!("{node:?}")
    };
    node.op = Op::Rescale { v };
    let error = place(
        &program,
        &target(&params, &[(128, false)]),
        &prices,
        &Options::default(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("rescale"), "{error}");
}

#[test]
fn terms_of_a_sum_that_need_a_level_are_made_where_the_sum_reads_them() {
    let params = ParamSet::secure_128();
    let prices = table(&params, &Machine::TWO_CORES).unwrap();
    let target = target(&params, &[(128, false)]);
    let mut m = synthetic::Maker::new(1 << 15, 16);
    let large = ValueType {
        range: 1e16,
        ..synthetic::vector()
    };
    let x = m.param(synthetic::vector());
    let [a, b] = ["a", "b"].map(|site| m.op(Op::Mul { a: x, b: x }, &large, site));
    let sum = m.op(Op::Sub { a, b }, &synthetic::vector(), "sum");
    let template = m.finish("t", vec![sum]);
    m.program.steps.push(Step {
        template,
        first: 0,
        count: 1,
    });
    let (leveled, _) = place(&m.program, &target, &prices, &Options::default()).unwrap();
    verify(&leveled, &target, &params);
}

/// Two layers that differ in the degree of their exponentials, so that left alone they would store keys at different levels.
fn unlike_layers() -> Program<Packed> {
    let mut program = synthetic::decoder(1 << 15, 1024, 2);
    let (group, layer) = (program.templates.len(), program.templates.len() + 1);
    let mut steeper = program.templates[0].clone();
    steeper.name = "attend.second".into();
    let polys = program.polys.len() as u32;
    for node in &mut steeper.nodes {
        if let Op::Poly { poly, .. } = &mut node.op {
            let mut exp = program.polys[poly.0 as usize].clone();
            exp.coefficients.resize(40, 1e-4);
            program.polys.push(exp);
            *poly = PolyId(polys);
        }
    }
    let mut second = program.templates[1].clone();
    second.name = "layer.second".into();
    for node in &mut second.nodes {
        if let Op::SumGroups { template, .. } = &mut node.op {
            *template = group;
        }
    }
    program.templates.extend([steeper, second]);
    let step = |template, first| Step {
        template,
        first,
        count: 1,
    };
    program.steps = vec![step(1, 0), step(layer, 1), step(2, 0)];
    program
}

#[test]
fn no_pair_of_storage_levels_is_cheaper() {
    let params = ParamSet::secure_128();
    let prices = table(&params, &Machine::TWO_CORES).unwrap();
    let target = target(&params, &[(128, false), (1 << 15, false)]);
    let program = unlike_layers();
    let options = Options::default();
    let solve = |options: &Options| super::chain::solve(&program, &target, &prices, options);
    let wanted = solve(&options).unwrap().state_levels();
    assert!(!super::agreed(&wanted), "{wanted:?}");
    let (_, report) = place(&program, &target, &prices, &options).unwrap();
    let pairs = (0..=target.top).flat_map(|k| (0..=target.top).map(move |v| [k, v]));
    let at = |levels: [u32; 2]| {
        let levels = [StateId(0), StateId(1)].into_iter().zip(levels);
        let stored = levels.map(|(state, level)| (state, BTreeSet::from([level])));
        let chain = solve(&options.storing(&stored.collect()));
        chain.map_or(u64::MAX, |chain| chain.report().nanos)
    };
    assert_eq!(pairs.map(at).min(), Some(report.nanos));
}
