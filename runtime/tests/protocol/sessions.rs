//! Keys and sessions of several clients at one server.

use super::setup::*;
use sotto_runtime::keys::KEY_FILE;
use sotto_runtime::proto::wire::{self, sotto_client::SottoClient};
use sotto_runtime::proto::{Fault, FaultCode};
use sotto_runtime::server::Notice;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test]
async fn a_missing_key_is_named() {
    let setup = setup("rotate 16").await;
    let error = setup.open("plan").await.err().expect("refused");
    assert_eq!(fault(&error).code, FaultCode::KeyMissing);
    assert!(error.to_string().contains("`rotate 16`"), "{error}");
}

#[tokio::test]
async fn a_key_damaged_on_disk_is_refused() {
    let setup = setup("relinearise").await;
    let mut damaged = KEY.to_vec();
    damaged[0] ^= 1;
    fs::write(setup.keys.path().join(KEY_FILE), damaged).unwrap();
    let error = setup.open("plan").await.err().expect("refused");
    assert_eq!(fault(&error).code, FaultCode::KeyDamaged);
    assert_eq!(fs::read_dir(setup.store.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn whoever_runs_the_server_hears_of_sessions_but_not_their_whole_names() {
    let setup = setup("relinearise").await;
    let mut connection = setup.open("plan").await.unwrap();
    connection.step(0, 0, vec![3], |_| {}).await.unwrap();
    connection.close().await.unwrap();
    let heard = || setup.told.lock().unwrap().clone();
    until(|| matches!(heard().last(), Some(Notice::Closed { .. }))).await;
    let sessions: Vec<Notice> = heard().split_off(heard().len() - 3);
    let [
        Notice::Opened { session: opened },
        Notice::Stepped {
            session: stepped,
            tokens: 1,
            ..
        },
        Notice::Closed { session: closed },
    ] = &sessions[..]
    else {
        panic!("{:?}", heard());
    };
    assert_eq!((opened, opened), (stepped, closed));
    assert_eq!(opened.len(), 8);
}

#[tokio::test]
async fn sessions_are_apart() {
    let setup = setup("relinearise").await;
    let mut one = setup.open("plan").await.unwrap();
    one.step(0, 0, vec![3], |_| {}).await.unwrap();
    let mut two = setup.open("plan").await.unwrap();
    let answer = two.step(0, 0, vec![1], |_| {}).await.unwrap();
    assert_eq!(answer.ciphertexts, [[1]]);
    two.close().await.unwrap();
    let answer = one.step(1, 0, vec![1], |_| {}).await.unwrap();
    assert_eq!(answer.ciphertexts, [[4]]);
}

#[tokio::test]
async fn one_token_is_computed_at_a_time_and_the_next_waits_in_line() {
    let setup = setup("relinearise").await;
    let mut first = setup.open("plan").await.unwrap();
    let mut second = setup.open("plan").await.unwrap();
    let endless = tokio::spawn(async move { first.step(0, 0, vec![NEVER_ENDS], |_| {}).await });
    until(|| setup.steps.load(Ordering::SeqCst) == 1).await;
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let waiting = tokio::spawn(async move {
        let tell = |progress: &wire::Progress| heard.send(progress.site.clone()).unwrap();
        second.step(0, 0, vec![4], tell).await
    });
    let site = hears.recv().await.unwrap();
    assert!(site.contains("waiting"), "{site}");
    assert_eq!(setup.steps.load(Ordering::SeqCst), 1);
    endless.abort();
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(answer.ciphertexts, [[4]]);
}

#[tokio::test]
async fn a_session_has_one_token_under_way_or_in_line() {
    let setup = setup("relinearise").await;
    setup.open("plan").await.unwrap().close().await.unwrap();
    let address = format!("http://{}", setup.addr);
    let mut client = SottoClient::connect(address).await.unwrap();
    let open = wire::OpenRequest {
        plan_digest: "plan".into(),
        parameters_digest: "parameters".into(),
        keys_fingerprint: fingerprint(KEY),
    };
    let session = client.open(open).await.unwrap().into_inner().session;
    let token = |token| wire::StepRequest {
        session: session.clone(),
        position: 0,
        ciphertext: vec![token],
        block: 0,
    };
    let endless = client.step(token(NEVER_ENDS)).await.unwrap();
    let status = client.step(token(4)).await.unwrap_err();
    let fault = Fault::from_status(&status).unwrap();
    assert_eq!(fault.code, FaultCode::SessionBusy);
    drop(endless);
}

#[tokio::test]
async fn other_keys_wait_until_the_sessions_have_ended_and_then_take_their_place() {
    let setup = setup("relinearise").await;
    let others = key_folder(OTHER_KEY);
    let connection = setup.open("plan").await.unwrap();
    let error = setup.open_with(&others).await.err().expect("refused");
    assert_eq!(fault(&error).code, FaultCode::Memory);
    assert!(
        error.to_string().contains("other evaluation keys"),
        "{error}"
    );
    assert_eq!(setup.stored(), [fingerprint(KEY)], "nothing was sent");

    connection.close().await.unwrap();
    let mut other = setup.open_with(&others).await.unwrap();
    assert_eq!(run(&mut other, &[4], 1).await.tokens, [4]);
    assert_eq!(setup.stored(), [fingerprint(OTHER_KEY)]);

    other.close().await.unwrap();
    let mut back = setup.open("plan").await.expect("sent again");
    assert_eq!(run(&mut back, &[5], 1).await.tokens, [5]);
}

#[tokio::test]
async fn idle_sessions_give_way_to_other_keys_and_busy_ones_do_not() {
    let setup = start("relinearise", Duration::ZERO, false).await;
    let others = key_folder(OTHER_KEY);
    let mut connection = setup.open("plan").await.unwrap();
    let mut idle = setup.open("plan").await.unwrap();
    let endless =
        tokio::spawn(async move { connection.step(0, 0, vec![NEVER_ENDS], |_| {}).await });
    until(|| setup.steps.load(Ordering::SeqCst) == 1).await;
    let error = setup.open_with(&others).await.err().expect("refused");
    assert_eq!(fault(&error).code, FaultCode::Memory);

    endless.abort();
    let mut other = loop {
        match setup.open_with(&others).await {
            Ok(other) => break other,
            Err(error) => assert_eq!(fault(&error).code, FaultCode::Memory),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(run(&mut other, &[4], 1).await.tokens, [4]);
    let error = idle.step(0, 0, vec![1], |_| {}).await.unwrap_err();
    assert_eq!(fault(&error).code, FaultCode::UnknownSession);
}

#[tokio::test]
async fn sessions_are_as_many_as_memory_is_for() {
    let setup = setup("relinearise").await;
    let mut open = Vec::new();
    for _ in 0..MOST_SESSIONS {
        open.push(setup.open("plan").await.unwrap());
    }
    let error = setup.open("plan").await.err().expect("refused");
    assert_eq!(fault(&error).code, FaultCode::Memory);
    open.pop().unwrap().close().await.unwrap();
    setup.open("plan").await.unwrap();
}

#[tokio::test]
async fn the_keys_that_a_server_was_started_for_stay() {
    let setup = start("relinearise", NEVER, true).await;
    let others = key_folder(OTHER_KEY);
    let error = setup.open_with(&others).await.err().expect("refused");
    assert_eq!(fault(&error).code, FaultCode::KeyMissing);
    assert!(error.to_string().contains(&fingerprint(KEY)), "{error}");
    assert!(setup.stored().is_empty(), "nothing was sent");
    let mut connection = setup.open("plan").await.unwrap();
    assert_eq!(run(&mut connection, &[4], 1).await.tokens, [4]);
}

#[tokio::test]
async fn an_upload_larger_than_the_keys_is_refused() {
    let setup = setup("relinearise").await;
    let large = key_folder(&[KEY, KEY].concat());
    let error = setup.open_with(&large).await.err().expect("refused");
    assert_eq!(fault(&error).code, FaultCode::KeyDamaged);
    assert!(error.to_string().contains("28 bytes"), "{error}");
    assert!(setup.stored().is_empty());
    // A refused session is no session.
    let others = key_folder(OTHER_KEY);
    setup.open_with(&others).await.unwrap();
}
