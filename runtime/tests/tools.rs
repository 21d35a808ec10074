//! The `sotto` commands beside conversations: benches, key stores, completions, help.

mod common;

use common::process::*;
use sotto_ir::cost::{CostTable, OpClass};
use std::fs;
use std::process::Command;

/// Times a table is measured anew where a busy machine was in the way.
const PATIENCE: usize = 5;

#[test]
fn bench_writes_a_cost_table_that_rises_with_the_level() {
    let folder = Folder::with_plan();
    let measured = || {
        let output = folder.sotto("bench --cost-table here.ron --name ring --insecure-ring 9");
        assert!(output.status.success(), "{}", stderr(&output));
        let text = fs::read_to_string(folder.path("here.ron")).unwrap();
        let table = CostTable::parse(&text).unwrap();
        assert_eq!((table.name.as_str(), table.log_n), ("ring", 9));
        for class in OpClass::ALL {
            assert!(table.op(class, 16) >= table.op(class, 1), "{class:?}");
        }
        // On a small ring both take microseconds, and whichever waited for the processor meanwhile took longer.
        let all = |class| (1..=16).map(|level| table.op(class, level)).sum::<f64>();
        all(OpClass::Mul) > all(OpClass::Add)
    };
    let sound = (0..PATIENCE).any(|_| measured());
    assert!(sound, "a product is cheaper than a sum {PATIENCE} times");
    let nowhere = folder.sotto("bench --cost-table nowhere/here.ron --insecure-ring 9");
    fails(&nowhere, 2, &["nowhere/here.ron", "no folder nowhere"]);
}

#[test]
fn bench_engine_prints_its_rows_as_json() {
    let folder = Folder::with_plan();
    let rows = "sparse-bootstrap-512,keygen,rotate,rotate-hoisted-8,multiply,multiply-plain,rescale,encode";
    let command =
        format!("bench engine --json --insecure-ring 9 --runs 1 --threads 1 --rows {rows}");
    let output = folder.sotto(&command);
    assert!(output.status.success(), "{}", stderr(&output));
    let table: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(table["threads"], 1);
    assert!(table["yardstick_ntt_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(table["set"], "INSECURE-9");
    let figures = table["rows"].as_array().unwrap();
    for row in rows.split(',') {
        let of: Vec<_> = figures.iter().filter(|f| f["row"] == row).collect();
        assert!(!of.is_empty(), "{row}");
        for figure in of {
            let time = |what: &str| figure[what].as_f64().unwrap();
            assert!(time("seconds_min") > 0.0 && time("seconds_max") >= time("seconds_median"));
            assert!(time("log_q") > 100.0 && time("bytes") > 0.0, "{figure}");
        }
    }
    let bootstrap = &figures[0];
    assert!(bootstrap["precision_bits_mean"].as_f64().unwrap() > 15.0);
    assert!(bootstrap["bits_left"].as_f64().unwrap() > 500.0);
    fails(&folder.sotto("bench engine --rows rotat"), 2, &["rotate"]);
}

#[test]
fn key_stores_are_listed_and_emptied() {
    let folder = Folder::with_plan();
    folder.keygen();
    let named = folder.sotto("keys fingerprint keys/evaluation");
    let fingerprint = stdout(&named).trim().to_string();
    assert!(named.status.success() && fingerprint.len() == 64);
    let server = Server::start(&folder, &["--key-store", "store"]);
    let output = folder.sotto(&generate(&server, "a", 1));
    assert!(output.status.success(), "{}", stderr(&output));
    let listed = folder.sotto("keys list --key-store store --json");
    let set: serde_json::Value = serde_json::from_str(&stdout(&listed)).unwrap();
    assert_eq!(set["fingerprint"], fingerprint.as_str());
    assert!(set["bytes"].as_u64().unwrap() > 0);
    let delete = format!("keys delete {fingerprint} --key-store store");
    assert!(folder.sotto(&delete).status.success());
    assert_eq!(stdout(&folder.sotto("keys list --key-store store")), "");
    fails(
        &folder.sotto(&delete),
        2,
        &["no keys with the fingerprint", "keys list"],
    );
    fails(
        &folder.sotto("keys list --key-store nowhere"),
        2,
        &["nowhere"],
    );
    fails(&folder.sotto("keys fingerprint plan"), 2, &["keys.json"]);
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(SOTTO)
            .args(["completions", shell])
            .output()
            .unwrap();
        assert!(output.status.success());
        for command in ["keygen", "generate", "serve", "bench"] {
            assert!(stdout(&output).contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn every_command_has_an_example() {
    for command in [
        "demo", "keygen", "keys", "serve", "generate", "check", "bench",
    ] {
        let output = Command::new(SOTTO)
            .args([command, "--help"])
            .output()
            .unwrap();
        let text = stdout(&output);
        assert!(text.contains(&format!("sotto {command}")), "{text}");
        assert!(text.contains("Example"), "{text}");
    }
}
