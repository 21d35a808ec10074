//! Same model, same options: same plan, byte for byte; and every stage prints to text that parses back to it and resumes to the
//! same program.

use sotto_compiler::driver::{Outcome, Stage, StageFile, compile};
use sotto_ir::decoder::Decoder;
use sotto_ir::params::ParamSet;
use sotto_ir::plan::Plan;
use sotto_ir::slot::{Leveled, Packed, Program};
use sotto_tests::*;
use std::collections::BTreeMap;
use std::path::Path;

/// Every file below a directory, by path.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn the_same_input_gives_the_same_plan() {
    let one = || {
        let compiled = compile_fixture("llama-gqa", ParamSet::insecure_test(11), 24).unwrap();
        files(compiled.dir.path())
    };
    let (a, b) = (one(), one());
    assert!(a.contains_key("plan/plan.ron"));
    assert!(a.keys().eq(b.keys()));
    let differ: Vec<_> = a.keys().filter(|name| a[*name] != b[*name]).collect();
    assert!(differ.is_empty(), "{differ:?}");
}

#[test]
fn every_stage_prints_and_parses_back_and_resumes_to_the_same_plan() {
    let dir = tempfile::TempDir::new().unwrap();
    let whole = dir.path().join("whole");
    let request = fixture_request("llama-gqa", ParamSet::insecure_test(11), 24, &whole);
    compile(&request, &mut |_| ()).unwrap();
    let (direct, _) = Plan::open(&whole).unwrap();
    for stage in [Stage::Decoder, Stage::Packed, Stage::Leveled] {
        let mut stopped = request.clone();
        stopped.stages.stop_after = Some(stage);
        let Outcome::Stage(file) = compile(&stopped, &mut |_| ()).unwrap() else {
            panic!("asked to stop after {stage:?}");
        };
        let text = file.to_string();
        match &*file {
            StageFile::Decoder(p) => assert_eq!(text.parse::<Decoder>().unwrap(), *p),
            StageFile::Packed(p) => assert_eq!(text.parse::<Program<Packed>>().unwrap(), *p),
            StageFile::Leveled(p) => assert_eq!(text.parse::<Program<Leveled>>().unwrap(), *p),
        }
        let path = dir.path().join("stage");
        std::fs::write(&path, text).unwrap();
        let mut resumed = request.clone();
        resumed.from = Some(path);
        resumed.output = Some(dir.path().join("resumed"));
        let Outcome::Plan(plan) = compile(&resumed, &mut |_| ()).unwrap() else {
            panic!("resumed to the end");
        };
        assert_eq!(plan.decode, direct.decode, "resumed from {stage:?}");
        assert_eq!(plan.keys, direct.keys, "resumed from {stage:?}");
    }
}
