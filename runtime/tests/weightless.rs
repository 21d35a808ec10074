//! A plan without weights has keys made for it, and nothing else.

mod common;

use common::write_plan;
use sotto_ckks::Context;
use sotto_ir::plan::{Plan, PlanError, PlanWriter, Weights};
use sotto_runtime::client::{ClientModel, Keyring, ModelError};
use sotto_runtime::plan::{CheckError, PlanDir};
use std::path::Path;

/// The test plan as `sottoc compile --weights none` would have left it.
fn write_weightless(dir: &Path) {
    let whole = dir.with_extension("whole");
    write_plan(&whole);
    let (mut plan, _) = Plan::open(&whole).unwrap();
    plan.model.weights = Weights::None;
    plan.client.embedding_table = None;
    plan.client.tokenizer = None;
    PlanWriter::create(dir).unwrap().finish(plan).unwrap();
}

#[test]
fn keys_are_made_and_both_ends_refuse() {
    let temp = tempfile::tempdir().unwrap();
    let at = temp.path().join("plan");
    write_weightless(&at);
    let dir = PlanDir::open(&at).unwrap();
    let context = Context::new(dir.plan().params.clone()).unwrap();
    let keys = temp.path().join("keys");
    let made = Keyring::at(&keys).generate(dir.plan(), &context, |_, _| ());
    assert!(!made.unwrap().manifest.keys.is_empty());

    let server = dir.data().unwrap_err();
    assert!(matches!(server, PlanError::NoWeights { .. }));
    let checked = dir.check().unwrap_err();
    assert!(matches!(
        checked,
        CheckError::Files(PlanError::NoWeights { .. })
    ));
    let client = ClientModel::load(&dir).err().unwrap();
    assert!(matches!(
        client,
        ModelError::Plan(PlanError::NoWeights { .. })
    ));
    let said = client.to_string();
    assert!(
        said.contains("without weights") && said.contains("--weights synthetic:SEED"),
        "{said}"
    );
}
