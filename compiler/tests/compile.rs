//! `sottoc compile` as a user meets it: stages to stop at and resume from, the same input giving the same bytes, and refusals.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name)
}

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

fn stdout(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

fn refusal(output: Output) -> String {
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

/// Every file below a directory, by path.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(
                files(&path).into_iter().map(|(name, bytes)| {
                    (PathBuf::from(path.file_name().unwrap()).join(name), bytes)
                }),
            );
        } else {
            let name = PathBuf::from(path.file_name().unwrap());
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn the_same_input_gives_the_same_plan_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let plan = |name: &str| {
        let path = dir.path().join(name);
        stdout(compile("llama-gqa", &["-o", path.to_str().unwrap()]));
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
    let direct = stdout(compile(
        "llama-gqa",
        &["--stop-after", "leveled", "--dump-dir", &dumps],
    ));
    for stage in ["01.decoder.txt", "02.packed.decode.txt"] {
        let from = format!("{dumps}/{stage}");
        let resumed = stdout(compile(
            "llama-gqa",
            &["--stop-after", "leveled", "--from", &from],
        ));
        assert_eq!(resumed, direct, "{stage}");
    }
    let packed = stdout(compile("llama-gqa", &["--stop-after", "packed"]));
    let dumped = std::fs::read_to_string(format!("{dumps}/02.packed.decode.txt")).unwrap();
    assert_eq!(packed, dumped);
    let leveled = format!("{dumps}/03.leveled.decode.txt");
    let (a, b) = (path("a"), path("b"));
    stdout(compile("llama-gqa", &["--from", &leveled, "-o", &a]));
    stdout(compile("llama-gqa", &["-o", &b]));
    let weights = |dir: &str| files(&Path::new(dir).join("server"));
    assert_eq!(weights(&a), weights(&b));
}

#[test]
fn an_edited_stage_means_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edited.packed");
    let packed = stdout(compile("llama-gqa", &["--stop-after", "packed"]));
    std::fs::write(&path, packed.replace("baby=16", "baby=4")).unwrap();
    let from = path.to_str().unwrap();
    let resumed = stdout(compile(
        "llama-gqa",
        &["--stop-after", "packed", "--from", from],
    ));
    assert!(packed.contains("baby=16") && !resumed.contains("baby=16"));
}

#[test]
fn refusals_name_the_cause_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let text = path("stage.txt");
    stdout(compile(
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
    assert!(said.contains("-o"), "{said}");

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
