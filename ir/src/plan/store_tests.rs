//! Plan directories: what is written reads back, the same bytes for the same plan, and every damage is told.

use super::*;
use crate::exec::{Clear, Executor, Session, ignore};
use crate::slot::tests::{attention, input, weights};
use crate::slot::{DataError, DataSource, Slots};
use crate::testing::{TOP, level, plan};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn write_to(dir: &Path) -> Plan {
    let mut plan = plan(&level(&attention()));
    let mut writer = PlanWriter::create(dir).unwrap();
    writer
        .write_arrays(
            &plan.decode,
            Weights::Checkpoint,
            &weights(),
            Encoding::I16,
            &mut |_, _| (),
        )
        .unwrap();
    plan.client.tokenizer = Some(writer.write_client_file("tokenizer.json", b"{}").unwrap());
    let mut table = writer.client_table("embedding.f32").unwrap();
    table.write(&[1.0]).unwrap();
    table.write(&[-2.5]).unwrap();
    plan.client.embedding_table = Some(table.finish().unwrap());
    writer.finish(plan).unwrap()
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = vec![];
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_owned();
                found.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_plan_reads_back_and_has_the_same_bytes_twice() {
    let temp = tempfile::tempdir().unwrap();
    let (a, b) = (temp.path().join("a"), temp.path().join("b"));
    let written = write_to(&a);
    write_to(&b);
    assert_eq!(files(&a), files(&b));
    let (read, digest) = Plan::open(&a).unwrap();
    assert_eq!(read, written);
    assert_eq!(Plan::open(&b).unwrap().1, digest);
    // Two layers' weights, plan.ron, two client files.
    assert_eq!(files(&a).len(), 5);
    assert_eq!(read.arrays.len(), 2);

    let tokenizer = read.client.tokenizer.unwrap();
    assert_eq!(tokenizer.read(&a).unwrap(), b"{}");
    let table = read.client.embedding_table.unwrap();
    assert_eq!(table.read_table(&a).unwrap(), [1.0, -2.5]);
}

#[test]
fn a_written_plan_runs_within_the_stated_weight_error() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("plan");
    let plan = Arc::new(write_to(&dir));
    // The client's side is not there for the server.
    fs::remove_dir_all(dir.join("client")).unwrap();
    let data = PlanData::open(&dir, plan.clone()).unwrap();
    data.check().unwrap();
    let exact = weights();
    for array in &plan.arrays {
        let packed = data.load(array.data, array.layer).unwrap();
        let exact = exact.load(array.data, array.layer).unwrap();
        let deviation = packed.iter().zip(&exact[..]).map(|(a, b)| (a - b).abs());
        let worst = deviation.fold(0.0, f64::max);
        assert!(worst > 0.0 && worst <= array.error && array.error <= array.scale * 0.501);
    }
    let run = |data: Arc<dyn DataSource + Send + Sync>| {
        let executor = Executor::new(plan.clone(), data, Clear::for_plan(&plan), 0);
        let x = Slots::real(&input(0)).unwrap();
        let x = executor.backend().encrypt(x, TOP).unwrap();
        let out = executor
            .decode(&mut Session::default(), vec![x], &mut ignore)
            .unwrap();
        out[0].slots.clone()
    };
    let error = run(Arc::new(data))
        .zip(&run(Arc::new(exact)), |a, b| a - b)
        .max_part();
    assert!(error > 0.0 && error < 1e-4, "{error}");
}

#[test]
fn a_plan_without_weights_reads_and_computes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("plan");
    let mut plan = plan(&level(&attention()));
    plan.model.weights = Weights::None;
    let mut writer = PlanWriter::create(&dir).unwrap();
    let nothing = crate::slot::MemoryData::default();
    writer
        .write_arrays(
            &plan.decode,
            Weights::None,
            &nothing,
            Encoding::I16,
            &mut |_, _| (),
        )
        .unwrap();
    writer.finish(plan).unwrap();
    let (plan, _) = Plan::open(&dir).unwrap();
    assert!(plan.arrays.is_empty());
    plan.check_arrays(&dir).unwrap();
    let refused = PlanData::open(&dir, Arc::new(plan)).unwrap_err();
    assert!(matches!(refused, PlanError::NoWeights { dir: named } if named == dir));
}

#[test]
fn nothing_half_written_stays_and_nothing_foreign_is_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("plan");
    let mut writer = PlanWriter::create(&dir).unwrap();
    let decl = &plan(&level(&attention())).decode.data[0];
    let mut infinite = crate::slot::MemoryData::default();
    infinite.insert(DataId(0), 3, [1.0, f64::INFINITY]);
    let bad = writer.write_array(DataId(0), decl, 3, &infinite, Encoding::I16);
    assert!(matches!(
        bad,
        Err(PlanError::NotFinite {
            layer: 3,
            entry: 1,
            ..
        })
    ));
    drop(writer);
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);

    write_to(&dir);
    fs::write(dir.join("server/leftover"), "x").unwrap();
    write_to(&dir);
    assert!(!dir.join("server/leftover").exists());
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);

    let other = temp.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("letter"), "dear").unwrap();
    assert!(matches!(
        PlanWriter::create(&other),
        Err(PlanError::Occupied { .. })
    ));
}

#[test]
fn errors_name_file_and_expectation() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("plan");
    assert!(matches!(Plan::open(&dir), Err(PlanError::NoPlan { .. })));
    let plan = Arc::new(write_to(&dir));
    let ron = dir.join("plan.ron");
    let text = fs::read_to_string(&ron).unwrap();
    let open = |text: &str| {
        fs::write(&ron, text).unwrap();
        Plan::open(&dir).unwrap_err()
    };
    let header = format!("sotto plan {PLAN_VERSION} ");
    let newer = text.replacen(&header, "sotto plan 99 ", 1);
    assert!(matches!(open(&newer), PlanError::Version { found: 99, .. }));
    assert!(matches!(open("hello\n"), PlanError::Header { .. }));
    assert!(matches!(open(""), PlanError::Header { .. }));
    assert!(matches!(
        open(&text.replace("capacity: 7,", "capacity: 8,")),
        PlanError::Digest { .. }
    ));
    let body = format!("(version: {PLAN_VERSION},\n  compiler: 3)\n");
    let digest = super::write::digest(body.as_bytes());
    let wrong = open(&format!("// {header}{digest}\n{body}")).to_string();
    assert!(wrong.contains("plan.ron:3:"), "{wrong}");
    fs::write(&ron, &text).unwrap();

    let file = &plan.arrays[0].file;
    let path = dir.join(&file.path);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[1..]).unwrap();
    let open = |plan: &Arc<Plan>| PlanData::open(&dir, plan.clone());
    assert!(matches!(
        open(&plan),
        Err(PlanError::Size {
            expected: 32,
            found: 31,
            ..
        })
    ));
    fs::remove_file(&path).unwrap();
    let missing = open(&plan).unwrap_err();
    assert!(matches!(missing, PlanError::Missing { expected: 32, .. }));
    assert!(missing.to_string().contains(&file.path));

    let mut outside = (*plan).clone();
    outside.arrays[0].file.path = "server/../../secret".into();
    assert!(matches!(
        open(&Arc::new(outside)),
        Err(PlanError::Path { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_plan_text_is_refused(at: prop::sample::Index, flip in 1u8..=255, cut: bool) {
        let text = super::write::plan_text(&plan(&level(&attention()))).unwrap();
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= flip;
        }
        prop_assert!(Plan::parse(&bytes, Path::new("plan.ron")).is_err());
    }

    #[test]
    fn a_damaged_array_is_refused(at: prop::sample::Index, flip in 1u8..=255, cut: bool) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("plan");
        let plan = Arc::new(write_to(&dir));
        let path = dir.join(&plan.arrays[1].file.path);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= flip;
        }
        fs::write(&path, bytes).unwrap();
        match PlanData::open(&dir, plan.clone()) {
            Err(e) => prop_assert!(matches!(e, PlanError::Size { .. }), "{}", e),
            Ok(data) => {
                let damaged = |e: &PlanError| matches!(e, PlanError::Digest { .. });
                prop_assert!(data.check().is_err_and(|e| damaged(&e)));
                let array = &plan.arrays[1];
                let loaded = data.load(array.data, array.layer);
                let refused = matches!(loaded, Err(DataError::Read { .. }));
                prop_assert!(refused);
                prop_assert!(data.load(plan.arrays[0].data, plan.arrays[0].layer).is_ok());
            }
        }
    }
}
