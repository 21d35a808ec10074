//! `sottoc compile` as a user meets it: stages to stop at and resume from, the same input giving the same bytes, and refusals.

mod common;

use common::{done, files, fixture, refusal};
use sotto_compiler::driver::{Planning, Source, estimate};
use sotto_compiler::frontend::Checkpoint;
use sotto_ir::params::ParamSet;
use std::path::Path;
use std::process::{Command, Output};

/// Runs `sottoc compile` on a fixture, on an INSECURE test ring.
fn compile(model: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sottoc"));
    command.arg("compile").arg(fixture(model));
    command.args(["--insecure-ring", "12"]);
    if !arguments.contains(&"--context") {
        command.args(["--context", "24"]);
    }
    command.args(arguments).output().unwrap()
}

#[test]
fn the_same_input_gives_the_same_plan_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let plan = |name: &str| {
        let path = dir.path().join(name);
        done(compile("llama-gqa", &["-o", path.to_str().unwrap()]));
        files(&path)
    };
    let first = plan("a");
    assert!(first.contains_key(Path::new("plan.ron")));
    assert!(first.contains_key(Path::new("client/embedding.f32")));
    assert_eq!(first, plan("b"));
}

#[test]
fn a_stage_resumed_gives_what_going_on_gives() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let dumps = path("dumps");
    let direct = done(compile(
        "llama-gqa",
        &["--stop-after", "leveled", "--dump-dir", &dumps],
    ));
    for stage in ["01.decoder.txt", "02.packed.decode.txt"] {
        let from = format!("{dumps}/{stage}");
        let resumed = done(compile(
            "llama-gqa",
            &["--stop-after", "leveled", "--from", &from],
        ));
        assert_eq!(resumed, direct, "{stage}");
    }
    let packed = done(compile("llama-gqa", &["--stop-after", "packed"]));
    let dumped = std::fs::read_to_string(format!("{dumps}/02.packed.decode.txt")).unwrap();
    assert_eq!(packed, dumped);
    let leveled = format!("{dumps}/03.leveled.decode.txt");
    let (a, b) = (path("a"), path("b"));
    done(compile("llama-gqa", &["--from", &leveled, "-o", &a]));
    done(compile("llama-gqa", &["-o", &b]));
    let weights = |dir: &str| files(&Path::new(dir).join("server"));
    assert_eq!(weights(&a), weights(&b));
}

#[test]
fn an_edited_stage_means_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edited.packed");
    let packed = done(compile("llama-gqa", &["--stop-after", "packed"]));
    std::fs::write(&path, packed.replace("baby=8", "baby=4")).unwrap();
    let from = path.to_str().unwrap();
    let resumed = done(compile(
        "llama-gqa",
        &["--stop-after", "packed", "--from", from],
    ));
    assert!(packed.contains("baby=8") && !resumed.contains("baby=8"));
}

#[test]
fn a_stage_keeps_its_context_and_a_plan_that_gives_way_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (stage, plan) = (path("m.packed"), path("plan"));
    done(compile(
        "llama-gqa",
        &["--stop-after", "packed", "-o", &stage],
    ));
    let resume = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sottoc"));
        command.arg("compile").arg(fixture("llama-gqa"));
        command.args(["--insecure-ring", "12", "--from", &stage, "-o", &plan]);
        command.args(more).output().unwrap()
    };
    let said = refusal(resume(&["--context", "32"]));
    assert!(
        said.contains("--context 32") && said.contains("a context of 24"),
        "{said}"
    );
    let first = resume(&[]);
    let said = String::from_utf8_lossy(&first.stderr).into_owned();
    assert!(!said.contains("replacing"), "{said}");
    done(first);
    let (written, _) = sotto_ir::plan::Plan::open(Path::new(&plan)).unwrap();
    assert_eq!(written.capacity, 24);
    let again = resume(&["--context", "24"]);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains(&format!("replacing {plan}\n")), "{said}");
    done(again);
}

#[test]
fn refusals_name_the_cause_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let text = path("stage.txt");
    done(compile(
        "llama-variants",
        &["--stop-after", "decoder", "-o", &text],
    ));
    let said = refusal(compile(
        "llama-gqa",
        &["--from", &text, "-o", &path("plan")],
    ));
    assert!(said.contains("was made from checkpoint"), "{said}");

    std::fs::write(&text, "nonsense").unwrap();
    let said = refusal(compile(
        "llama-gqa",
        &["--from", &text, "-o", &path("plan")],
    ));
    assert!(said.contains("not a stage file"), "{said}");

    let said = refusal(compile("llama-gqa", &[]));
    assert!(
        said.contains("-o") && !said.contains("calibrated"),
        "{said}"
    );

    let said = refusal(compile(
        "llama-gqa",
        &["--margin", "0.5", "-o", &path("plan")],
    ));
    assert!(
        said.contains("margin 0.5") && said.contains("1 to 100"),
        "{said}"
    );

    let said = refusal(compile(
        "llama-gqa",
        &["--context", "4096", "-o", &path("plan")],
    ));
    assert!(
        said.contains("4096") && said.contains("128 tokens"),
        "{said}"
    );

    let empty = path("empty.txt");
    std::fs::write(&empty, "\n\n").unwrap();
    let said = refusal(compile(
        "llama-gqa",
        &["--calibrate", &empty, "-o", &path("plan")],
    ));
    assert!(said.contains("empty.txt"), "{said}");
    assert!(!dir.path().join("plan").exists());
}

#[test]
fn a_cost_table_of_ones_own_is_named_in_the_plan_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (table, plan) = (path("table.ron"), path("plan"));
    let with = |table: &str| compile("llama-gqa", &["--cost-table", table, "-o", &plan]);

    let said = refusal(with(&path("nowhere.ron")));
    assert!(said.contains("nowhere.ron"), "{said}");
    std::fs::write(&table, "nonsense").unwrap();
    let said = refusal(with(&table));
    assert!(said.contains("table.ron"), "{said}");
    let committed = sotto_compiler::cost::committed().unwrap();
    std::fs::write(&table, committed.print().unwrap()).unwrap();
    let said = refusal(with(&table));
    assert!(
        said.contains("rings of 2^16") && said.contains("sotto bench"),
        "{said}"
    );
    assert!(!Path::new(&plan).exists());

    let mut mine = committed;
    (mine.log_n, mine.name) = (12, "mine".into());
    std::fs::write(&table, mine.print().unwrap()).unwrap();
    done(with(&table));
    let (plan, _) = sotto_ir::plan::Plan::open(Path::new(&plan)).unwrap();
    assert_eq!(plan.estimate.cost_table, "mine");
    assert_eq!(plan.estimate.cost_table_digest, mine.digest().unwrap());
}

#[test]
fn explain_says_what_was_chosen_and_on_what_it_relies() {
    let dir = tempfile::tempdir().unwrap();
    let plan = dir.path().join("plan").to_str().unwrap().to_string();
    done(compile("llama-gqa", &["-o", &plan]));
    let explain = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sottoc"));
        command.args(["explain", &plan]).args(arguments);
        command.output().unwrap()
    };
    let json = |site: &str| -> serde_json::Value {
        serde_json::from_str(&done(explain(&[site, "--json"]))).unwrap()
    };
    let up = json("layers.1.mlp.up_proj");
    assert_eq!(up["site"], "layers.{i}.mlp.up_proj");
    let decisions = up["programs"][0]["decisions"].as_array().unwrap();
    let pair = decisions
        .iter()
        .find(|d| d["chosen"] == "one complex product")
        .unwrap();
    assert!(pair["rejected"][0]["extra_nanos"].as_u64().unwrap() > 0);
    let ranges = up["ranges"].as_array().unwrap();
    assert!(ranges.iter().all(|r| r["layers"][0] == 1) && !ranges.is_empty());
    let silu = json("layers.{i}.mlp.silu");
    assert!(silu["approximations"][0]["degree"].as_u64().unwrap() > 2);
    assert!(done(explain(&[])).contains("layers.{i}.mlp.silu"));
    let text = done(explain(&["layers.1.mlp.up_proj"]));
    assert!(
        text.contains(" ms a layer more)") && text.contains("(layer 1)"),
        "{text}"
    );
    // The model's own norm is in no layer.
    let text = done(explain(&["final_norm"]));
    assert!(
        text.contains("ms more)") && !text.contains("layer"),
        "{text}"
    );
    let said = refusal(explain(&["layers.9.mlp.up_proj"]));
    assert!(
        said.contains("layers.9") && said.contains("2 layers"),
        "{said}"
    );
    // A reader that goes early is no failure.
    let sottoc = env!("CARGO_BIN_EXE_sottoc");
    let script = format!("set -o pipefail; {sottoc} explain {plan} | true");
    for _ in 0..5 {
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
    }
    let said = refusal(explain(&["layers.0.mlp.nowhere"]));
    assert!(
        said.contains("no site") && said.contains("mlp.up_proj"),
        "{said}"
    );
}

#[test]
fn room_for_blocks_gives_way_to_a_limit_of_memory_unless_it_was_asked_for() {
    let checkpoint = Checkpoint::open(&fixture("llama-gqa")).unwrap();
    // few tokens: ranges are no matter here
    let few = fixture("llama-gqa").join("golden.safetensors");
    let source = Source::Checkpoint(Box::new(checkpoint), Some(few));
    let estimated = |memory, block| {
        let mut planning = Planning::new(ParamSet::insecure_test(12), 24);
        planning.wanted.memory = memory;
        planning.options.block = block;
        let estimated = estimate(&source, &planning, &mut |_| ());
        estimated.map(|(_, planned)| {
            let peak = planned.decode.emitted.estimate.peak_memory_bytes;
            (peak, planned.prefill.is_some())
        })
    };
    let (least, _) = estimated(None, Some(1)).unwrap();
    assert_eq!(estimated(Some(least), None).unwrap(), (least, false));
    let refused = estimated(Some(least), Some(2)).err().unwrap();
    assert!(refused.to_string().contains("allowed"), "{refused}");
    let refused = estimated(None, Some(3)).err().unwrap().to_string();
    assert!(
        refused.contains("--block 3: give a power of two"),
        "{refused}"
    );
}
