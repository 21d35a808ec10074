//! Emitted plans run, free what they take, and use exactly the keys they list.

use super::{disclosures, emit, summary};
use crate::cost;
use crate::level::{Wanted, level};
use crate::place::Options;
use crate::place::tests::synthetic;
use sotto_ir::exec::{Clear, Executor, Session, ignore};
use sotto_ir::params::ParamSet;
use sotto_ir::plan::{
    ClientPart, ModelFacts, OutputKind, PLAN_VERSION, Placement, Plan, SearchNote, Security,
    Weights, Wire,
};
use sotto_ir::slot::{Interpreter, LevelRules, Op};
use std::collections::BTreeSet;
use std::sync::Arc;

fn plan(params: &ParamSet, capacity: u32) -> (Plan, crate::level::Level) {
    let table = cost::of(params).unwrap();
    let program = synthetic::decoder(params.slots() as u32, capacity, 2);
    let level = level(
        &program,
        params,
        &table,
        &Options::default(),
        Wanted::default(),
        &[],
    )
    .unwrap();
    let entry = level.program.steps[0].template;
    let wire = |level| Wire {
        block: 1,
        count: synthetic::WIDTH,
        width: synthetic::WIDTH,
        unit: 1.0,
        level,
    };
    let client = ClientPart {
        input: wire(level.program.templates[entry].params[0].note.level),
        outputs: vec![wire(0)],
        output_kind: OutputKind::Logits,
        embedding: Placement::Client,
        head: Placement::Server,
        bos: Some(0),
        eos: vec![1],
        tokenizer: None,
        embedding_table: None,
        learned_positions: false,
        position_table: None,
        head_table: None,
    };
    let emitted = level.emitted.clone();
    let plan = Plan {
        version: PLAN_VERSION,
        compiler: "test".into(),
        model: ModelFacts {
            name: "synthetic".into(),
            digest: "none".into(),
            weights: Weights::Checkpoint,
            hidden: 128,
            intermediate: 128,
            layers: 2,
            heads: 4,
            kv_heads: 4,
            head_dim: 32,
            vocab: 128,
        },
        security: Security::of(params),
        disclosures: disclosures(&client),
        client,
        capacity,
        estimate: emitted.estimate,
        keys: emitted.keys,
        bootstraps: emitted.bootstraps,
        approximations: vec![],
        sites: vec![],
        search: SearchNote::default(),
        decisions: vec![],
        params: params.clone(),
        decode: emitted.decode,
        prefill: None,
        arrays: vec![],
    };
    (plan, level)
}

#[test]
fn an_emitted_plan_computes_what_the_leveled_program_means_with_the_keys_it_lists() {
    let params = ParamSet::insecure_test(11);
    let capacity = 3 * params.slots() as u32 / synthetic::WIDTH;
    let (plan, level) = plan(&params, capacity);
    let rules = LevelRules {
        top: params.top_app_level() as u32,
        bootstraps: &plan.bootstraps,
    };
    level.program.verify(&rules).unwrap();
    let data = synthetic::weights(&synthetic::decoder(params.slots() as u32, capacity, 2), 2);
    let executor = Executor::new(
        Arc::new(plan.clone()),
        Arc::new(data.clone()),
        Clear::for_plan(&plan),
        1 << 30,
    );
    let (mut session, mut reference) = Default::default();
    for token in 0..20 {
        let x = executor
            .backend()
            .encrypt(synthetic::input(token), plan.client.input.level);
        let out = executor
            .decode(&mut session, vec![x.unwrap()], &mut ignore)
            .unwrap();
        let expected = Interpreter::new(&level.program, &data)
            .decode(&mut reference, vec![synthetic::input(token)], &mut |_| ())
            .unwrap();
        let error = out[0].slots.zip(&expected[0], |a, b| a - b).max_part();
        // The plan bends what it bootstraps; the leveled stage does not.
        assert!(error < 1e-5, "token {token}: {error}");
    }
    let _: &Session<_> = &session;
}

#[test]
fn buffers_are_freed_once_and_never_read_empty() {
    let (plan, _) = plan(&ParamSet::secure_128(), 1024);
    for t in &plan.decode.templates {
        let mut full: BTreeSet<_> = t.params.iter().map(|p| p.0).collect();
        let mut most = full.len();
        for i in &t.instrs {
            assert!(
                i.op.operands().into_iter().all(|b| full.contains(b)),
                "{}",
                i.site
            );
            assert!(
                i.dst.iter().all(|b| full.insert(*b)),
                "{}: overwrites",
                i.site
            );
            most = full.len().max(most);
            assert!(
                i.free.iter().all(|b| full.remove(b)),
                "{}: frees twice",
                i.site
            );
        }
        assert_eq!(full, t.results.iter().copied().collect(), "{}", t.name);
        assert_eq!(most, t.buffers as usize);
    }
}

#[test]
fn the_estimate_adds_up_and_the_page_prints() {
    let params = ParamSet::secure_128();
    let (plan, level) = plan(&params, 1024);
    let e = &plan.estimate;
    let classes: f64 = e.op_classes.iter().map(|c| c.seconds).sum();
    assert!((classes / e.seconds - 1.0).abs() < 1e-9 && e.seconds > 1.0);
    // The search's own figure differs by what it leaves out: drops, a few per cent at most.
    let searched = level.report.nanos as f64 / 1e9;
    assert!(
        (0.95..=1.0).contains(&(searched / e.seconds)),
        "{searched} {}",
        e.seconds
    );
    let placed = plan.decode.templates.iter().flat_map(|t| &t.instrs);
    let static_count = placed
        .filter(|i| matches!(i.op, Op::Bootstrap { .. }))
        .count() as u32;
    let counted: u32 = e.bootstraps.iter().map(|b| b.count).sum();
    assert!(counted >= static_count && counted <= 8 * static_count);
    // Keys: each at least a digit of two polynomials over level 0 and P, at most four digits over everything.
    let limb = (params.n() * 4) as u64;
    let keys = plan.keys.galois.len() as u64;
    assert!(e.key_bytes > keys * 2 * 14 * limb && e.key_bytes < (keys + 2) * 8 * 59 * limb);
    // KV: two layers, two states, four groups of 256 tokens.
    let stored = |s: &sotto_ir::slot::StateDecl| {
        16 * limb * params.levels[s.level.unwrap() as usize].primes.len() as u64
    };
    assert_eq!(
        e.state_bytes,
        plan.decode.states.iter().map(stored).sum::<u64>()
    );
    let page = summary(&plan);
    println!("{page}{:#?}", level.tried);
    for part in [
        "secure-128",
        "bootstraps",
        "discloses",
        "state k",
        "layers.{i}",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
}

#[test]
fn equal_programs_give_equal_plans() {
    let params = ParamSet::secure_128();
    let table = cost::of(&params).unwrap();
    let (_, level) = plan(&params, 512);
    assert_eq!(
        emit(&level.program, &params, &table, &[]).unwrap(),
        level.emitted
    );
    assert_eq!(plan(&params, 512).1, level);
}
