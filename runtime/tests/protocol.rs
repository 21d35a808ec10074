//! Client and server over a real connection, with an engine that computes on plain numbers instead of ciphertexts: the
//! protocol's own promises, apart from any cryptography.

use sotto_runtime::client::{
    ClientError, Connection, Generation, Listener, Request, Sampling, Sealer, Stop, Tokens,
    generate,
};
use sotto_runtime::keys::{KEY_FILE, KeyEntry, MANIFEST_VERSION, Manifest, NeededKey};
use sotto_runtime::proto::wire::{self, sotto_client::SottoClient};
use sotto_runtime::proto::{Fault, FaultCode};
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
const OTHER_KEY: &[u8] = b"another client";
/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);
const MOST_SESSIONS: usize = 3;

/// Next token = sum of all tokens so far mod the vocabulary. The byte 0xff is a ciphertext that it refuses.
struct Adder {
    needed: Vec<NeededKey>,
    steps: Arc<AtomicU32>,
    /// Sets of keys in memory, and tokens under way.
    sets: Arc<AtomicU32>,
    running: AtomicU32,
}

/// Counts itself while it lives.
struct Keys(Arc<AtomicU32>);

impl Drop for Keys {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Engine for Adder {
    type Keys = Keys;
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
    fn key_bytes(&self) -> u64 {
        KEY.len() as u64
    }
    fn most_sessions(&self) -> usize {
        MOST_SESSIONS
    }
    fn load_keys(&self, dir: &Path, _: &mut dyn FnMut(usize, usize)) -> Result<Keys, Fault> {
        let bytes = fs::read(dir.join(KEY_FILE))
            .map_err(|e| Fault::new(FaultCode::KeyDamaged, e.to_string(), "send again"))?;
        assert!(bytes == KEY || bytes == OTHER_KEY);
        let before = self.sets.fetch_add(1, Ordering::SeqCst);
        assert_eq!(before, 0, "a second set in memory");
        Ok(Keys(self.sets.clone()))
    }
    fn empty_state(&self) -> u32 {
        0
    }
    fn step(
        &self,
        _: &Keys,
        sum: &mut u32,
        block: u32,
        ciphertext: &[u8],
        watch: &dyn Watch,
    ) -> Result<StepOutput, Fault> {
        let rejected = |thing| Fault::new(FaultCode::CiphertextRejected, thing, "encrypt again");
        let (&[token, ..], true) = (ciphertext, ciphertext.len() == block.max(1) as usize) else {
            return Err(rejected("a ciphertext of another length"));
        };
        if token == 0xff {
            return Err(rejected("a ciphertext at level 3"));
        }
        self.steps.fetch_add(1, Ordering::SeqCst);
        let before = self.running.fetch_add(1, Ordering::SeqCst);
        assert_eq!(before, 0, "a second token under way");
        if token == NEVER_ENDS {
            while !watch.cancelled() {
                std::thread::sleep(Duration::from_millis(5));
            }
            self.running.fetch_sub(1, Ordering::SeqCst);
            return Err(Fault::new(FaultCode::Internal, "stopped", "nobody waits"));
        }
        watch.progress(&StepProgress::default());
        *sum += ciphertext
            .iter()
            .map(|token| u32::from(*token))
            .sum::<u32>();
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(StepOutput {
            ciphertexts: vec![vec![(*sum % VOCABULARY) as u8]],
            bootstraps: 2,
        })
    }
}

/// Takes a prompt in blocks of so many tokens.
struct Plain(u32);

impl Sealer for Plain {
    fn seal(&self, tokens: Tokens<'_>) -> Result<Vec<u8>, String> {
        Ok(match tokens {
            Tokens::One(token) => vec![token as u8],
            Tokens::Block(tokens) => tokens.iter().map(|token| *token as u8).collect(),
        })
    }
    fn open(&self, _: Tokens<'_>, ciphertexts: &[Vec<u8>]) -> Result<Vec<f64>, String> {
        let next = u32::from(ciphertexts[0][0]);
        let logit = |id| f64::from(u8::from(id == next));
        Ok((0..VOCABULARY).map(logit).collect())
    }
    fn vocabulary(&self) -> u32 {
        VOCABULARY
    }
    fn block(&self) -> u32 {
        self.0
    }
}

struct Silent(Vec<u32>);

impl Listener for Silent {
    fn begins(&mut self, _: u32, _: u32, _: u32) {}
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

/// A key folder that has `relinearise` for level 5.
fn key_folder(key: &[u8]) -> TempDir {
    let keys = tempfile::tempdir().unwrap();
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        parameters_digest: "parameters".into(),
        keys: vec![KeyEntry {
            name: "relinearise".into(),
            level: 5,
        }],
        bytes: key.len() as u64,
        checksum: blake3::hash(key).to_hex().to_string(),
    };
    fs::write(keys.path().join(KEY_FILE), key).unwrap();
    manifest.write(keys.path()).unwrap();
    keys
}

/// A server that needs `needed` at level 5, and a key folder that has `relinearise` for level 5.
async fn setup(needed: &str) -> Setup {
    start(needed, NEVER, false).await
}

/// The same, where a session gives way after `patience`, and which has the keys from the start or else is sent them.
async fn start(needed: &str, patience: Duration, preloaded: bool) -> Setup {
    let keys = key_folder(KEY);
    let store = tempfile::tempdir().unwrap();
    let steps = Arc::new(AtomicU32::new(0));
    let engine = Adder {
        needed: vec![NeededKey {
            name: needed.into(),
            level: 5,
        }],
        steps: steps.clone(),
        sets: Arc::default(),
        running: AtomicU32::new(0),
    };
    let mut service = Service::new(engine, KeyStore::open(store.path()).unwrap(), patience);
    if preloaded {
        service.preload(keys.path(), &mut |_, _| {}).await.unwrap();
    }
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

    async fn open_with(&self, keys: &TempDir) -> Result<Connection, ClientError> {
        Connection::open(&self.addr, "plan", keys.path(), |_, _| {}).await
    }

    /// Fingerprints in the store.
    fn stored(&self) -> Vec<String> {
        let entries = fs::read_dir(self.store.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
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
    run_in_blocks(connection, 1, prompt, max_tokens).await
}

async fn run_in_blocks(
    connection: &mut Connection,
    block: u32,
    prompt: &[u32],
    max_tokens: u32,
) -> Generation {
    let request = request(prompt, max_tokens, &[10]);
    let (_never, interrupt) = watch::channel(false);
    let mut heard = Silent(Vec::new());
    let made = generate(connection, &Plain(block), &request, &mut heard, interrupt)
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

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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

fn fingerprint(key: &[u8]) -> String {
    blake3::hash(key).to_hex().to_string()
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
