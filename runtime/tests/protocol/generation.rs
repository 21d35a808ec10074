//! One conversation: its prompt, its tokens, and what ends it.

use super::setup::*;
use sotto_runtime::client::{ClientError, Listener, Stop, generate};
use sotto_runtime::keys::KEY_FILE;
use sotto_runtime::proto::FaultCode;
use sotto_runtime::proto::wire;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

#[tokio::test]
async fn tokens_flow_and_keys_are_sent_once() {
    let setup = setup("relinearise").await;
    let mut connection = setup.open("plan").await.unwrap();
    let made = run(&mut connection, &[1, 2], 3).await;
    assert_eq!(made.tokens, [3, 6, 1]);
    assert!(matches!(made.stop, Stop::MaxTokens));
    // Two prompt tokens and two of the three new ones went up; the last new one need not.
    assert_eq!(setup.steps.load(Ordering::SeqCst), 4);
    assert_eq!(made.trips.len(), 4);
    assert!(made.trips.iter().all(|trip| trip.bootstraps == 2));
    assert_eq!(made.blocks(), None);
    connection.close().await.unwrap();

    fs::remove_file(setup.keys.path().join(KEY_FILE)).unwrap();
    let mut again = setup.open("plan").await.expect("the server has the keys");
    assert_eq!(run(&mut again, &[4], 1).await.tokens, [4]);
    assert_eq!(fs::read_dir(setup.store.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_prompt_goes_up_in_blocks_and_its_rest_by_itself() {
    let setup = setup("relinearise").await;
    let prompts: [(&[u32], &[Option<u32>]); 4] = [
        (&[1], &[None]),
        (&[1, 2], &[Some(2)]),
        (&[1, 2, 1, 1], &[Some(3), None]),
        (&[1, 2, 1, 1, 1], &[Some(3), Some(2)]),
    ];
    for (prompt, trips) in prompts {
        let mut connection = setup.open("plan").await.unwrap();
        let single = run(&mut connection, prompt, 2).await;
        connection.close().await.unwrap();
        let mut connection = setup.open("plan").await.unwrap();
        let made = run_in_blocks(&mut connection, 3, prompt, 2).await;
        assert_eq!(made.tokens, single.tokens, "{prompt:?}");
        let blocks: Vec<_> = made.trips.iter().map(|trip| trip.block).collect();
        assert_eq!(blocks, [trips, &[None]].concat(), "{prompt:?}");
        connection.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_repeated_block_is_answered_again_and_one_too_long_refused() {
    let setup = setup("relinearise").await;
    let mut connection = setup.open("plan").await.unwrap();
    let first = connection.step(0, 3, vec![1, 2, 3], |_| {}).await.unwrap();
    let repeated = connection.step(0, 3, vec![1, 2, 3], |_| {}).await.unwrap();
    assert_eq!(first.ciphertexts, repeated.ciphertexts);
    assert_eq!(setup.steps.load(Ordering::SeqCst), 1);
    let error = connection.step(1, 2, vec![2, 3], |_| {}).await.unwrap_err();
    assert_eq!(fault(&error).code, FaultCode::PositionMismatch);
    let long = vec![0; CAPACITY as usize - 2];
    let error = connection.step(3, CAPACITY - 2, long, |_| {}).await;
    assert_eq!(fault(&error.unwrap_err()).code, FaultCode::Capacity);
}

#[tokio::test]
async fn the_end_token_and_the_capacity_stop() {
    let setup = setup("relinearise").await;
    let mut connection = setup.open("plan").await.unwrap();
    let made = run(&mut connection, &[5, 5], 9).await;
    assert_eq!(made.tokens, [10]);
    assert!(matches!(made.stop, Stop::EndOfText));

    let mut connection = setup.open("plan").await.unwrap();
    let made = run(&mut connection, &[0, 0, 0], 99).await;
    assert!(matches!(made.stop, Stop::Capacity), "{:?}", made.stop);
    assert_eq!(made.tokens.len() as u32, CAPACITY - 3 + 1);
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_refused_before_anything_is_sent() {
    let setup = setup("relinearise").await;
    let mut connection = setup.open("plan").await.unwrap();
    let cases: [(&[u32], &str); 3] = [(&[1; 9], "holds 8"), (&[3, 11], "id 11"), (&[], "empty")];
    for (prompt, word) in cases {
        let request = request(prompt, 1, &[]);
        let (_never, interrupt) = watch::channel(false);
        let mut heard = Silent(Vec::new());
        let error = generate(&mut connection, &Plain(1), &request, &mut heard, interrupt)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(setup.steps.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn another_plan_is_refused() {
    let setup = setup("relinearise").await;
    let error = setup.open("other").await.err().expect("refused");
    assert_eq!(fault(&error).code, FaultCode::PlanMismatch);
}

#[tokio::test]
async fn a_refused_step_changes_nothing_and_a_repeated_one_is_answered_again() {
    let setup = setup("relinearise").await;
    let mut connection = setup.open("plan").await.unwrap();
    let first = connection.step(0, 0, vec![4], |_| {}).await.unwrap();
    let error = connection.step(1, 0, vec![0xff], |_| {}).await.unwrap_err();
    assert_eq!(fault(&error).code, FaultCode::CiphertextRejected);
    let error = connection.step(3, 0, vec![1], |_| {}).await.unwrap_err();
    assert_eq!(fault(&error).code, FaultCode::PositionMismatch);
    assert!(error.to_string().contains("position 3"), "{error}");
    // The same token at the same place: the connection may have broken before the answer arrived.
    let repeated = connection.step(0, 0, vec![4], |_| {}).await.unwrap();
    assert_eq!(first.ciphertexts, repeated.ciphertexts);
    // Another token at a place already taken is an error.
    let error = connection.step(0, 0, vec![5], |_| {}).await.unwrap_err();
    assert_eq!(fault(&error).code, FaultCode::PositionMismatch);
    let second = connection.step(1, 0, vec![4], |_| {}).await.unwrap();
    assert_eq!(second.ciphertexts, [[8]]);
    assert_eq!(setup.steps.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn past_the_capacity_the_server_refuses() {
    let setup = setup("relinearise").await;
    let mut connection = setup.open("plan").await.unwrap();
    for position in 0..CAPACITY {
        connection.step(position, 0, vec![0], |_| {}).await.unwrap();
    }
    let error = connection
        .step(CAPACITY, 0, vec![0], |_| {})
        .await
        .unwrap_err();
    assert_eq!(fault(&error).code, FaultCode::Capacity);
}

#[tokio::test]
async fn a_server_that_is_gone_is_named() {
    let mut setup = setup("relinearise").await;
    let connection = setup.open("plan").await.unwrap();
    drop(connection);
    setup.stop.take().unwrap().send(()).unwrap();
    (&mut setup.task).await.unwrap();
    let error = setup.open("plan").await.err().expect("nobody listens");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert!(error.is_remote());
    assert!(error.to_string().contains(&setup.addr), "{error}");
}

#[tokio::test]
async fn a_server_that_goes_mid_token_is_named() {
    let apart = tokio::runtime::Runtime::new().unwrap();
    let setup = apart.spawn(setup("relinearise")).await.unwrap();
    let mut connection = setup.open("plan").await.unwrap();
    connection.step(0, 0, vec![1], |_| {}).await.unwrap();
    let waiting =
        tokio::spawn(async move { connection.step(1, 0, vec![NEVER_ENDS], |_| {}).await });
    until(|| setup.steps.load(Ordering::SeqCst) == 2).await;
    apart.shutdown_background();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::ServerGone { .. }), "{error}");
    for words in [setup.addr.as_str(), "token 1", "text so far is kept"] {
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_client_that_goes_mid_token_stops_the_token_and_changes_nothing() {
    let setup = setup("relinearise").await;
    let mut connection = setup.open("plan").await.unwrap();
    let waited = tokio::time::timeout(
        Duration::from_millis(100),
        connection.step(0, 0, vec![NEVER_ENDS], |_| {}),
    );
    assert!(waited.await.is_err(), "that token never ends");
    // The engine notices within milliseconds; until then the session is busy.
    let answer = loop {
        match connection.step(0, 0, vec![4], |_| {}).await {
            Ok(answer) => break answer,
            Err(error) => assert_eq!(fault(&error).code, FaultCode::SessionBusy),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(answer.ciphertexts, [[4]]);
}

/// Interrupts after the first new token.
struct StopAfterOne(watch::Sender<bool>);

impl Listener for StopAfterOne {
    fn begins(&mut self, _: u32, _: u32, _: u32) {}
    fn progress(&mut self, _: &wire::Progress) {}
    fn token(&mut self, _: u32) {
        self.0.send(true).unwrap();
    }
}

#[tokio::test]
async fn an_interrupt_keeps_the_tokens() {
    let setup = setup("relinearise").await;
    let mut connection = setup.open("plan").await.unwrap();
    let (sender, interrupt) = watch::channel(false);
    let mut listener = StopAfterOne(sender);
    let request = request(&[1], 5, &[]);
    let made = generate(
        &mut connection,
        &Plain(1),
        &request,
        &mut listener,
        interrupt,
    )
    .await
    .unwrap();
    assert_eq!(made.tokens, [1]);
    assert!(matches!(made.stop, Stop::Interrupted));
}
