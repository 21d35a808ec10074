//! Client and server on real ciphertexts over a real connection, on an INSECURE small ring: a small plan, written and read as the
//! compiler's are, with a matrix, a polynomial, KV state and a bootstrap.

mod common;

use common::{VOCABULARY, World, expected};
use sotto_ckks::{Context, SecretKey};
use sotto_ir::fidelity::largest;
use sotto_runtime::cipher::{EngineOptions, PlanEngine};
use sotto_runtime::client::{
    CkksSealer, ClientError, ClientModel, Connection, Keyring, KeyringError, Sealer, Tokens,
};
use sotto_runtime::keys::{KEY_FILE, Manifest};
use sotto_runtime::proto::FaultCode;
use sotto_runtime::server::Engine;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

/// The fault that the server answered with.
fn refused(error: &ClientError) -> (FaultCode, String) {
    match error {
        ClientError::Refused { fault, .. } => (fault.code, fault.thing.clone()),
        other => panic!("no refusal: {other}"),
    }
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    largest(a.iter().zip(b).map(|(x, y)| (x - y).abs()))
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_steps_equal_the_plain_function() {
    let world = World::start().await;
    let sealer = world.sealer();
    let mut connection = world.open().await.unwrap();
    let tokens = [3, 0, 5, 5];
    for (position, &token) in tokens.iter().enumerate() {
        let sealed = sealer.seal(Tokens::One(token), position as u32).unwrap();
        let answer = connection
            .step(position as u32, 0, sealed, |_| {})
            .await
            .unwrap();
        assert_eq!(answer.ciphertexts.len(), 1);
        assert_eq!(answer.bootstraps, 1);
        let logits = sealer.open(Tokens::One(0), &answer.ciphertexts).unwrap();
        let difference = largest_difference(&logits, &expected(&tokens[..=position]));
        assert!(difference < 1e-3, "step {position}: off by {difference}");
    }
    let error = connection
        .step(
            tokens.len() as u32,
            0,
            sealer.seal(Tokens::One(1), 0).unwrap(),
            |_| {},
        )
        .await
        .unwrap_err();
    assert_eq!(refused(&error).0, FaultCode::Capacity);
    assert!(
        sealer.seal(Tokens::One(VOCABULARY), 0).is_err(),
        "an id outside the vocabulary"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ciphertexts_that_do_not_belong_are_refused_and_the_session_goes_on() {
    let world = World::start().await;
    let sealer = world.sealer();
    let mut connection = world.open().await.unwrap();

    let context = Context::new(world.plan().params.clone()).unwrap();
    let model = Arc::new(ClientModel::load(&world.dir).unwrap());
    let stranger = SecretKey::generate(&context).unwrap();
    let other_key = CkksSealer::new(context.clone(), stranger, model.clone());
    let sealed = other_key.seal(Tokens::One(1), 0).unwrap();
    let error = connection.step(0, 0, sealed, |_| {}).await.unwrap_err();
    let (code, thing) = refused(&error);
    assert_eq!(code, FaultCode::CiphertextRejected);
    assert!(thing.contains("of key"), "{thing}");

    let level = world.plan().client.input.level as usize - 1;
    let low = world.encrypt_at(&context, level).to_bytes(&context);
    let error = connection.step(0, 0, low, |_| {}).await.unwrap_err();
    let (code, thing) = refused(&error);
    assert_eq!(code, FaultCode::CiphertextRejected);
    assert!(thing.contains(&format!("level {level}")), "{thing}");

    let mut damaged = sealer.seal(Tokens::One(1), 0).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 4;
    let error = connection.step(0, 0, damaged, |_| {}).await.unwrap_err();
    assert_eq!(refused(&error).0, FaultCode::CiphertextRejected);

    let sealed = sealer.seal(Tokens::One(2), 0).unwrap();
    let answer = connection.step(0, 0, sealed, |_| {}).await.unwrap();
    let logits = sealer.open(Tokens::One(0), &answer.ciphertexts).unwrap();
    assert!(largest_difference(&logits, &expected(&[2])) < 1e-3);
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluation_keys_that_lack_one_are_refused_by_name() {
    let world = World::start().await;
    let dir = world.keys().evaluation();
    let mut manifest = Manifest::read(&dir).unwrap();
    let lost = manifest.keys.pop().unwrap();
    manifest.write(&dir).unwrap();
    let error = world.open().await.err().expect("refused");
    let (code, thing) = refused(&error);
    assert_eq!(code, FaultCode::KeyMissing);
    assert!(thing.contains(&lost.name), "{thing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_lies_about_its_file_does_not_help() {
    let world = World::start().await;
    let dir = world.keys().evaluation();
    // The file of a set that lacks a key, under a manifest that claims it.
    let fewer = world.keys_without_last("fewer");
    let mut manifest = Manifest::read(&dir).unwrap();
    let bytes = fs::read(fewer.join(KEY_FILE)).unwrap();
    manifest.bytes = bytes.len() as u64;
    manifest.checksum = blake3::hash(&bytes).to_hex().to_string();
    fs::write(dir.join(KEY_FILE), bytes).unwrap();
    manifest.write(&dir).unwrap();
    let error = world.open().await.err().expect("refused");
    assert_eq!(refused(&error).0, FaultCode::KeyMissing);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_plan_is_refused() {
    let world = World::start().await;
    let digest = format!("blake3:{}", "0".repeat(64));
    let keys = world.keys().evaluation();
    let opened = Connection::open(&world.addr, &digest, &keys, |_, _| {});
    let error = opened.await.err().expect("refused");
    assert_eq!(refused(&error).0, FaultCode::PlanMismatch);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_key_is_its_owners_alone_and_keys_are_never_overwritten() {
    let world = World::start().await;
    let secret = world.folder().join("keys/secret.key");
    let mode = fs::metadata(secret).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let context = Context::new(world.plan().params.clone()).unwrap();
    let again = world.keys().generate(world.plan(), &context, |_, _| {});
    assert!(matches!(again, Err(KeyringError::Exists(_))), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_written_leave_nothing() {
    let world = World::start().await;
    let context = Context::new(world.plan().params.clone()).unwrap();
    let full = world.folder().join("file");
    fs::write(&full, "a file where a folder should be").unwrap();
    let keys = Keyring::at(&full.join("keys"));
    let error = keys
        .generate(world.plan(), &context, |_, _| {})
        .unwrap_err();
    assert!(matches!(error, KeyringError::Write { .. }), "{error}");
    let left: Vec<_> = fs::read_dir(world.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with(".keys"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_key_that_others_may_read_is_refused() {
    let world = World::start().await;
    let context = Context::new(world.plan().params.clone()).unwrap();
    let file = world.folder().join("keys/secret.key");
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let error = world.keys().secret(&context).unwrap_err();
        assert!(matches!(error, KeyringError::Exposed { .. }), "{error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    world.keys().secret(&context).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_folder_holds_the_secret_key_and_what_the_server_gets() {
    let world = World::start().await;
    let entries = fs::read_dir(world.folder().join("keys")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["evaluation", "secret.key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_shape_is_refused() {
    let world = World::start().await;
    let sealer = world.sealer();
    let context = Context::new(world.plan().params.clone()).unwrap();
    let level = world.plan().client.outputs[0].level as usize;
    let at = |level| world.encrypt_at(&context, level).to_bytes(&context);
    let refused = |answer: &[Vec<u8>], words: &str| {
        let error = sealer.open(Tokens::One(0), answer).unwrap_err();
        assert!(error.contains(words), "{error}");
    };
    refused(&[], "0 ciphertexts");
    refused(&[at(level), at(level)], "2 ciphertexts");
    refused(&[at(level + 1)], &format!("at level {}", level + 1));
    sealer.open(Tokens::One(0), &[at(level)]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_of_a_key_file_is_known_beforehand() {
    let world = World::start().await;
    let options = EngineOptions::default();
    let data = world.dir.data().unwrap();
    let plan = world.dir.plan().clone();
    let engine = PlanEngine::new(plan, world.dir.digest(), data, options).unwrap();
    let found = Manifest::read(&world.keys().evaluation()).unwrap().bytes;
    let computed = engine.key_bytes();
    assert!(found <= computed, "{found} bytes, {computed} computed");
    assert!(
        computed < found + found / 8,
        "{found} bytes, {computed} computed"
    );
}
