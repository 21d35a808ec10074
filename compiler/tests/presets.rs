//! `sottoc compile --preset` as a user meets it: plans from shape and assumed ranges.

mod common;

use common::{done, files, refusal};
use sotto_compiler::frontend::{Preset, Synthetic};
use sotto_compiler::lower::{Options, Ranges};
use sotto_ir::decoder::{Interpreter, KvCache, WeightSource};
use sotto_ir::exec::{Clear, ClearCt, Event, Executor, RangeWatch, Session};
use sotto_ir::fidelity::Fidelity;
use sotto_ir::plan::{Plan, PlanData, PlanError, Weights, check};
use sotto_ir::slot::Slots;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

fn sottoc(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sottoc"));
    command.args(arguments).output().unwrap()
}

/// Compiles TinyLlama's preset for a short context.
fn tinyllama(arguments: &[&str]) -> Output {
    let all = ["compile", "--preset", "tinyllama-1.1b", "--context", "32"];
    sottoc(&[&all, arguments].concat())
}

#[test]
#[cfg_attr(debug_assertions, ignore = "a search over 22 layers: run in release")]
fn a_plan_without_weights_is_whole_but_for_them_and_the_same_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let compiled = |name: &str| {
        let page = done(tinyllama(&["--weights", "none", "-o", &path(name)]));
        assert!(page.contains("weights      none"), "{page}");
        files(Path::new(&path(name)))
    };
    assert_eq!(compiled("a"), compiled("b"));

    let at = dir.path().join("a");
    let (plan, _) = Plan::open(&at).unwrap();
    check(&plan).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(plan.model.weights, Weights::None);
    assert_eq!((plan.model.layers, plan.capacity), (22, 32));
    // The rotary tables, which no weight is in.
    assert_eq!(plan.arrays.len(), 2);
    assert!(plan.client.embedding_table.is_none() && plan.client.tokenizer.is_none());
    assert!(!plan.keys.galois.is_empty() && !plan.decisions.is_empty() && !plan.sites.is_empty());
    let refused = PlanData::open(&at, Arc::new(plan)).unwrap_err();
    assert!(matches!(refused, PlanError::NoWeights { .. }));
    assert!(refused.to_string().contains("--weights synthetic:SEED"));

    let page = done(sottoc(&["verify", &path("a"), "--summary"]));
    assert!(page.contains("sound, 2 files") && page.contains(" s a token"));
    assert!(done(sottoc(&["explain", &path("a"), "layers.3.mlp.up_proj"])).contains("chosen"));
}

#[test]
fn the_digest_tells_weights_and_layers_apart() {
    let digest = |more: &[&str]| {
        let text = done(tinyllama(&[&["--stop-after", "decoder"], more].concat()));
        let line = text.lines().find(|line| line.contains("blake3:"));
        line.unwrap_or_else(|| panic!("{text}")).to_string()
    };
    let all = [
        digest(&["--weights", "none"]),
        digest(&["--weights", "synthetic:1"]),
        digest(&["--weights", "synthetic:2"]),
        digest(&["--weights", "none", "--layers", "2"]),
    ];
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    assert_eq!(digest(&["--weights", "none"]), all[0]);
}

#[test]
fn refusals_name_the_cause_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let plan = dir.path().join("plan").to_str().unwrap().to_string();
    for (arguments, words) in [
        (&["compile"][..], &["MODEL", "--preset"][..]),
        (
            &[
                "compile",
                "m",
                "--preset",
                "tinyllama-1.1b",
                "--weights",
                "none",
            ],
            &["MODEL", "cannot be used with", "--preset"],
        ),
        (&["compile", "--preset", "tinyllama-1.1b"], &["--weights"]),
        (
            &["compile", "m", "--weights", "none"],
            &["--weights", "cannot be used with"],
        ),
        (
            &[
                "compile",
                "--preset",
                "tinyllama-1.1b",
                "--weights",
                "synthetic:x",
            ],
            &["`none`", "synthetic:"],
        ),
        (
            &[
                "compile",
                "--preset",
                "llama-9",
                "--weights",
                "none",
                "-o",
                &plan,
            ],
            &["llama-9", "tinyllama-1.1b"],
        ),
        (
            &["compile", "--preset", "tinyllama-1.1b", "--weights", "none"],
            &["-o", "--stop-after"],
        ),
    ] {
        let said = refusal(sottoc(arguments));
        assert!(
            words.iter().all(|w| said.contains(w)),
            "{arguments:?}: {said}"
        );
    }
    for (arguments, words) in [
        (["--layers", "23"], ["--layers 23", "1 to 22"]),
        (["--calibrate", "x.txt"], ["--calibrate", "--preset"]),
        (["--context", "4096"], ["--context 4096", "2048"]),
        (["--memory", "1GB"], ["0.93 GiB allowed", "bytes)"]),
    ] {
        let mut all = vec!["compile", "--preset", "tinyllama-1.1b", "--weights", "none"];
        all.extend(arguments);
        let said = refusal(sottoc(&[&all[..], &["-o", &plan]].concat()));
        assert!(
            words.iter().all(|w| said.contains(w)),
            "{arguments:?}: {said}"
        );
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "searches and placements: run in release")]
fn what_does_not_fit_the_memory_is_stored_once_per_kv_head() {
    let dir = tempfile::tempdir().unwrap();
    let plan = dir.path().join("plan").to_str().unwrap().to_string();
    let preset = ["compile", "--preset", "llama-3-8b", "--weights", "none"];
    let size = ["--layers", "1", "--context", "4096", "-o", &plan];
    let compile = |memory: &[&str]| sottoc(&[&preset[..], &size, memory].concat());
    let estimate = || Plan::open(Path::new(&plan)).unwrap().0.estimate;
    let state = || estimate().state_bytes;
    done(compile(&[]));
    let copies = state();
    let less = (estimate().peak_memory_bytes * 9 / 10).to_string();
    let site = "layers.{i}.attention.attend";
    let said = done(sottoc(&["explain", &plan, site]));
    let rejected = |line: &str| line.contains("rejected") && line.contains("stored once");
    assert!(said.lines().any(rejected), "{said}");
    done(compile(&["--memory", &less]));
    assert!(3 * state() < copies, "{} of {copies}", state());
    assert!(done(sottoc(&["explain", &plan, site])).contains("stored once for 4 query heads"));
}

/// Interprets synthetic weights in float64 on a few tokens and holds every range against the profile's.
#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "hundreds of millions of weights: run in release"
)]
fn synthetic_weights_stay_within_the_profile() {
    for (name, layers) in [
        ("tinyllama-1.1b", 1),
        ("tinyllama-1.1b", 3),
        ("gpt2-small", 1),
        ("gpt2-small", 3),
    ] {
        let preset = Preset::of(name, Some(layers), Weights::Synthetic(7)).unwrap();
        let weights = Synthetic::new(&preset, 7).unwrap();
        let assumed = Ranges::assumed(&preset.decoder, &preset.profile).unwrap();
        let sequences = [vec![1, 5, 900, 31_999, 5, 17, 2, 88], vec![3]];
        let seen = Ranges::calibrate(&preset.decoder, &weights, &sequences, &mut |_| ()).unwrap();
        let each: Vec<_> = (0..layers).map(|layer| (layer, 1)).collect();
        let (assumed, seen) = (
            assumed.sites(&each, Options::MARGIN),
            seen.sites(&each, Options::MARGIN),
        );
        for site in &assumed {
            let found = seen
                .iter()
                .find(|s| (&s.site, s.layers) == (&site.site, site.layers));
            let found = found.unwrap_or_else(|| panic!("{}: never seen", site.site));
            let (lo, hi) = site.bound;
            assert!(
                lo <= found.seen.0 && found.seen.1 <= hi,
                "{layers} layers of {name}: {} {:?} reaches {:?}, assumed {:?}",
                site.site,
                site.layers,
                found.seen,
                site.bound
            );
        }
    }
}

#[test]
fn any_rows_of_synthetic_weights_are_those_of_the_whole() {
    let preset = Preset::of("tinyllama-1.1b", Some(1), Weights::Synthetic(1)).unwrap();
    let (one, other) = (
        Synthetic::new(&preset, 1).unwrap(),
        Synthetic::new(&preset, 2).unwrap(),
    );
    let name = "model.layers.0.self_attn.k_proj.weight";
    let whole = one.tensor(name).unwrap();
    assert_eq!(whole.shape, [256, 2048]);
    assert_eq!(one.rows(name, 100..140).unwrap(), whole.slice(100..140));
    assert_ne!(*other.tensor(name).unwrap(), *whole);
    assert!(one.rows(name, 200..257).is_err() && one.tensor("lm.weight").is_err());
}

/// A layer of TinyLlama's shape, packed to integers and run by the plan's own instructions on cleartext slots, against float64.
#[test]
#[cfg_attr(debug_assertions, ignore = "a hundred million weights: run in release")]
fn a_synthetic_plan_computes_its_model_within_its_ranges() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("plan");
    let page = done(tinyllama(&[
        "--layers",
        "1",
        "--weights",
        "synthetic:7",
        "-o",
        at.to_str().unwrap(),
    ]));
    assert!(
        page.contains("drawn from seed 7") && page.contains("of its largest entry"),
        "{page}"
    );
    let plan = Arc::new(Plan::open(&at).unwrap().0);
    check(&plan).unwrap_or_else(|e| panic!("{e}"));
    let data = Arc::new(PlanData::open(&at, plan.clone()).unwrap());
    let executor = Executor::new(plan.clone(), data, Clear::for_plan(&plan), 0);
    let table = plan.client.embedding_table.as_ref().unwrap();
    let table = table.read_table(&at).unwrap();
    let (wire, hidden) = (plan.client.input, plan.model.hidden as usize);

    let tokens = [1, 900, 31_999];
    let preset = Preset::of("tinyllama-1.1b", Some(1), Weights::Synthetic(7)).unwrap();
    let weights = Synthetic::new(&preset, 7).unwrap();
    let interpreter = Interpreter::new(&preset.decoder, &weights).unwrap();
    let truth = interpreter
        .pass(&mut KvCache::new(&preset.decoder), &tokens, &mut |_| ())
        .unwrap();

    let (mut session, mut ranges) = (Session::default(), RangeWatch::default());
    for (position, &token) in tokens.iter().enumerate() {
        let row = table.chunks_exact(hidden).nth(token as usize).unwrap();
        let mut slots = vec![0.0; wire.width as usize];
        for (slot, x) in slots.iter_mut().zip(row) {
            *slot = f64::from(*x) / wire.unit;
        }
        let input = executor
            .backend()
            .encrypt(Slots::real(&slots).unwrap(), wire.level);
        let mut observe = |event: &Event<'_, ClearCt>| {
            ranges.observe(executor.backend(), event);
            ControlFlow::Continue(())
        };
        let out = executor
            .decode(&mut session, vec![input.unwrap()], &mut observe)
            .unwrap();
        let logits: Vec<f64> = out
            .iter()
            .zip(&plan.client.outputs)
            .flat_map(|(ct, wire)| (0..wire.count as usize).map(|f| ct.slots.at(f).re * wire.unit))
            .collect();
        let fidelity = Fidelity::of(&logits, truth.logits.row(position)).unwrap();
        println!("token {position}: {:.5} σ", fidelity.error_sigma);
        assert!(fidelity.error_sigma < 0.02, "{}", fidelity.error_sigma);
    }
    let escapes = ranges.escapes();
    assert!(escapes.is_empty(), "{escapes:?}");
}
