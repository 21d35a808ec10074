//! `sottoc compile --preset` as a user meets it: plans from shape and assumed ranges.

mod common;

use common::files;
use sotto_ir::plan::{Plan, PlanData, PlanError, Weights, check};
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

fn done(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

fn refusal(output: Output) -> String {
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
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
