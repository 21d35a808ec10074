//! Client and server over a real connection, with an engine that computes on plain numbers instead of ciphertexts: the
//! protocol's own promises, apart from any cryptography.

use sotto_runtime::client::{
    ClientError, Connection, Generation, Listener, Request, Sampling, Sealer, Stop, generate,
};
use sotto_runtime::keys::{KEY_FILE, KeyEntry, MANIFEST_VERSION, Manifest, NeededKey};
use sotto_runtime::proto::{Fault, FaultCode, wire};
use sotto_runtime::server::{Engine, KeyStore, Service, StepOutput, StepProgress, Watch, bind};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

const VOCABULARY: u32 = 11;
const CAPACITY: u32 = 8;
/// A token that the engine computes on until nobody waits for it.
const NEVER_ENDS: u8 = 0xfe;
const KEY: &[u8] = b"not a real key";

/// Next token = sum of all tokens so far mod the vocabulary. The byte 0xff is a ciphertext that it refuses.
struct Adder {
    needed: Vec<NeededKey>,
    steps: Arc<AtomicU32>,
}

impl Engine for Adder {
    type Keys = Vec<u8>;
    type State = u32;

    fn plan_digest(&self) -> &str {
        "plan"
    }
    fn parameters_digest(&self) -> &str {
        "parameters"
    }
    fn capacity(&self) -> u32 {
        CAPACITY
    }
    fn needed_keys(&self) -> &[NeededKey] {
        &self.needed
    }
    fn load_keys(&self, dir: &Path, _: &mut dyn FnMut(usize, usize)) -> Result<Vec<u8>, Fault> {
        fs::read(dir.join(KEY_FILE))
            .map_err(|e| Fault::new(FaultCode::KeyDamaged, e.to_string(), "send again"))
    }
    fn empty_state(&self) -> u32 {
        0
    }
    fn step(
        &self,
        keys: &Vec<u8>,
        sum: &mut u32,
        ciphertext: &[u8],
        watch: &dyn Watch,
    ) -> Result<StepOutput, Fault> {
        assert_eq!(keys, KEY);
        let rejected = |thing| Fault::new(FaultCode::CiphertextRejected, thing, "encrypt again");
        let &[token] = ciphertext else {
            return Err(rejected("a ciphertext of another length"));
        };
        if token == 0xff {
            return Err(rejected("a ciphertext at level 3"));
        }
        self.steps.fetch_add(1, Ordering::SeqCst);
        if token == NEVER_ENDS {
            while !watch.cancelled() {
                std::thread::sleep(Duration::from_millis(5));
            }
            return Err(Fault::new(FaultCode::Internal, "stopped", "nobody waits"));
        }
        watch.progress(&StepProgress::default());
        *sum += u32::from(token);
        Ok(StepOutput {
            ciphertexts: vec![vec![(*sum % VOCABULARY) as u8]],
            bootstraps: 2,
        })
    }
}

struct Plain;

impl Sealer for Plain {
    fn seal(&self, token: u32) -> Result<Vec<u8>, String> {
        Ok(vec![token as u8])
    }
    fn open(&self, ciphertexts: &[Vec<u8>]) -> Result<Vec<f64>, String> {
        let next = u32::from(ciphertexts[0][0]);
        let logit = |id| f64::from(u8::from(id == next));
        Ok((0..VOCABULARY).map(logit).collect())
    }
    fn vocabulary(&self) -> u32 {
        VOCABULARY
    }
}

struct Silent(Vec<u32>);

impl Listener for Silent {
    fn begins(&mut self, _: u32, _: u32) {}
    fn progress(&mut self, _: &wire::Progress) {}
    fn token(&mut self, id: u32) {
        self.0.push(id);
    }
}

struct Setup {
    keys: TempDir,
    store: TempDir,
    addr: String,
    steps: Arc<AtomicU32>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// A server that needs `needed` at level 5, and a key folder that has `relinearise` for level 5.
async fn setup(needed: &str) -> Setup {
    let keys = tempfile::tempdir().unwrap();
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        parameters_digest: "parameters".into(),
        keys: vec![KeyEntry {
            name: "relinearise".into(),
            level: 5,
        }],
        bytes: KEY.len() as u64,
        checksum: blake3::hash(KEY).to_hex().to_string(),
    };
    fs::write(keys.path().join(KEY_FILE), KEY).unwrap();
    manifest.write(keys.path()).unwrap();

    let store = tempfile::tempdir().unwrap();
    let steps = Arc::new(AtomicU32::new(0));
    let engine = Adder {
        needed: vec![NeededKey {
            name: needed.into(),
            level: 5,
        }],
        steps: steps.clone(),
    };
    let service = Service::new(engine, KeyStore::open(store.path()).unwrap());
    let server = bind("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
    let addr = server.addr().to_string();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let stopped = async {
            stopped.await.ok();
        };
        server.run(service, stopped).await.unwrap();
    });
    Setup {
        keys,
        store,
        addr,
        steps,
        stop: Some(stop),
        task,
    }
}

impl Setup {
    async fn open(&self, plan: &str) -> Result<Connection, ClientError> {
        Connection::open(&self.addr, plan, self.keys.path(), |_, _| {}).await
    }
}

fn fault(error: &ClientError) -> &Fault {
    match error {
        ClientError::Refused { fault, .. } => fault,
        other => panic!("no refusal: {other}"),
    }
}

fn request(prompt: &[u32], max_tokens: u32, end: &[u32]) -> Request {
    Request {
        prompt: prompt.to_vec(),
        max_tokens,
        sampling: Sampling::GREEDY,
        end: end.to_vec(),
    }
}

async fn run(connection: &mut Connection, prompt: &[u32], max_tokens: u32) -> Generation {
    let request = request(prompt, max_tokens, &[10]);
    let (_never, interrupt) = watch::channel(false);
    let mut heard = Silent(Vec::new());
    let made = generate(connection, &Plain, &request, &mut heard, interrupt)
        .await
        .unwrap();
    assert_eq!(heard.0, made.tokens);
    made
}

#[tokio::test]
async fn tokens_flow_and_keys_are_sent_once() {
    let setup = setup("relinearise").await;
    let mut connection = setup.open("plan").await.unwrap();
    let made = run(&mut connection, &[1, 2], 3).await;
    assert_eq!(made.tokens, [3, 6, 1]);
    assert!(matches!(made.stop, Stop::MaxTokens));
    // Two prompt tokens and two of the three new ones went up; the last new one need not.
    assert_eq!(setup.steps.load(Ordering::SeqCst), 4);
    assert_eq!(made.bootstraps, [2, 2, 2, 2]);
    connection.close().await.unwrap();

    fs::remove_file(setup.keys.path().join(KEY_FILE)).unwrap();
    let mut again = setup.open("plan").await.expect("the server has the keys");
    assert_eq!(run(&mut again, &[4], 1).await.tokens, [4]);
    assert_eq!(fs::read_dir(setup.store.path()).unwrap().count(), 1);
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
        let error = generate(&mut connection, &Plain, &request, &mut heard, interrupt)
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
async fn a_refused_step_changes_nothing_and_a_repeated_one_is_answered_again() {
    let setup = setup("relinearise").await;
    let mut connection = setup.open("plan").await.unwrap();
    let first = connection.step(0, vec![4], |_| {}).await.unwrap();
    let error = connection.step(1, vec![0xff], |_| {}).await.unwrap_err();
    assert_eq!(fault(&error).code, FaultCode::CiphertextRejected);
    let error = connection.step(3, vec![1], |_| {}).await.unwrap_err();
    assert_eq!(fault(&error).code, FaultCode::PositionMismatch);
    assert!(error.to_string().contains("position 3"), "{error}");
    // The same token at the same place: the connection may have broken before the answer arrived.
    let repeated = connection.step(0, vec![4], |_| {}).await.unwrap();
    assert_eq!(first.ciphertexts, repeated.ciphertexts);
    // Another token at a place already taken is an error.
    let error = connection.step(0, vec![5], |_| {}).await.unwrap_err();
    assert_eq!(fault(&error).code, FaultCode::PositionMismatch);
    let second = connection.step(1, vec![4], |_| {}).await.unwrap();
    assert_eq!(second.ciphertexts, [[8]]);
    assert_eq!(setup.steps.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn past_the_capacity_the_server_refuses() {
    let setup = setup("relinearise").await;
    let mut connection = setup.open("plan").await.unwrap();
    for position in 0..CAPACITY {
        connection.step(position, vec![0], |_| {}).await.unwrap();
    }
    let error = connection
        .step(CAPACITY, vec![0], |_| {})
        .await
        .unwrap_err();
    assert_eq!(fault(&error).code, FaultCode::Capacity);
}

#[tokio::test]
async fn sessions_are_apart() {
    let setup = setup("relinearise").await;
    let mut one = setup.open("plan").await.unwrap();
    one.step(0, vec![3], |_| {}).await.unwrap();
    let mut two = setup.open("plan").await.unwrap();
    let answer = two.step(0, vec![1], |_| {}).await.unwrap();
    assert_eq!(answer.ciphertexts, [[1]]);
    two.close().await.unwrap();
    let answer = one.step(1, vec![1], |_| {}).await.unwrap();
    assert_eq!(answer.ciphertexts, [[4]]);
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
    connection.step(0, vec![1], |_| {}).await.unwrap();
    let waiting = tokio::spawn(async move { connection.step(1, vec![NEVER_ENDS], |_| {}).await });
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
        connection.step(0, vec![NEVER_ENDS], |_| {}),
    );
    assert!(waited.await.is_err(), "that token never ends");
    // The engine notices within milliseconds; until then the session is busy.
    let answer = loop {
        match connection.step(0, vec![4], |_| {}).await {
            Ok(answer) => break answer,
            Err(error) => assert_eq!(fault(&error).code, FaultCode::SessionBusy),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(answer.ciphertexts, [[4]]);
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Interrupts after the first new token.
struct StopAfterOne(watch::Sender<bool>);

impl Listener for StopAfterOne {
    fn begins(&mut self, _: u32, _: u32) {}
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
    let made = generate(&mut connection, &Plain, &request, &mut listener, interrupt)
        .await
        .unwrap();
    assert_eq!(made.tokens, [1]);
    assert!(matches!(made.stop, Stop::Interrupted));
}
