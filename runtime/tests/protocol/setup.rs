//! The engine that computes on plain numbers, its server, and its client.

use sotto_runtime::StepProgress;
use sotto_runtime::client::{
    ClientError, Connection, Generation, Listener, Request, Sampling, Sealer, Tokens, generate,
};
use sotto_runtime::keys::{KEY_FILE, KeyEntry, MANIFEST_VERSION, Manifest, NeededKey};
use sotto_runtime::proto::wire;
use sotto_runtime::proto::{Fault, FaultCode};
use sotto_runtime::server::{Engine, KeyStore, Notice, Service, StepOutput, Watch, bind};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub const VOCABULARY: u32 = 11;
pub const CAPACITY: u32 = 8;
/// A token that the engine computes on until nobody waits for it.
pub const NEVER_ENDS: u8 = 0xfe;
pub const KEY: &[u8] = b"not a real key";
pub const OTHER_KEY: &[u8] = b"another client";
/// Longer than any test.
pub const NEVER: Duration = Duration::from_secs(3600);
pub const MOST_SESSIONS: usize = 3;

/// Next token = sum of all tokens so far mod the vocabulary. The byte 0xff is a ciphertext that it refuses.
pub struct Adder {
    needed: Vec<NeededKey>,
    pub steps: Arc<AtomicU32>,
    /// Sets of keys in memory, and tokens under way.
    sets: Arc<AtomicU32>,
    running: AtomicU32,
}

/// Counts itself while it lives.
pub struct Keys(Arc<AtomicU32>);

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
pub struct Plain(pub u32);

impl Sealer for Plain {
    fn seal(&self, tokens: Tokens<'_>, _: u32) -> Result<Vec<u8>, String> {
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

pub struct Silent(pub Vec<u32>);

impl Listener for Silent {
    fn begins(&mut self, _: u32, _: u32, _: u32) {}
    fn progress(&mut self, _: &wire::Progress) {}
    fn token(&mut self, id: u32) {
        self.0.push(id);
    }
}

pub struct Setup {
    pub keys: TempDir,
    pub store: TempDir,
    pub addr: String,
    /// What the service has told.
    pub told: Arc<Mutex<Vec<Notice>>>,
    pub steps: Arc<AtomicU32>,
    pub stop: Option<oneshot::Sender<()>>,
    pub task: JoinHandle<()>,
}

/// A key folder that has `relinearise` for level 5.
pub fn key_folder(key: &[u8]) -> TempDir {
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
pub async fn setup(needed: &str) -> Setup {
    start(needed, NEVER, false).await
}

/// The same, where a session gives way after `patience`, and which has the keys from the start or else is sent them.
pub async fn start(needed: &str, patience: Duration, preloaded: bool) -> Setup {
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
    let told: Arc<Mutex<Vec<Notice>>> = Arc::default();
    let ear = told.clone();
    let hear = move |notice: &Notice| ear.lock().unwrap().push(notice.clone());
    let keep = KeyStore::open(store.path()).unwrap();
    let mut service = Service::new(engine, keep, patience).telling(hear);
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
        told,
        stop: Some(stop),
        task,
    }
}

impl Setup {
    pub async fn open(&self, plan: &str) -> Result<Connection, ClientError> {
        Connection::open(&self.addr, plan, self.keys.path(), |_, _| {}).await
    }

    pub async fn open_with(&self, keys: &TempDir) -> Result<Connection, ClientError> {
        Connection::open(&self.addr, "plan", keys.path(), |_, _| {}).await
    }

    /// Fingerprints in the store.
    pub fn stored(&self) -> Vec<String> {
        let entries = fs::read_dir(self.store.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

pub fn fault(error: &ClientError) -> &Fault {
    match error {
        ClientError::Refused { fault, .. } => fault,
        other => panic!("no refusal: {other}"),
    }
}

pub fn request(prompt: &[u32], max_tokens: u32, end: &[u32]) -> Request {
    Request {
        prompt: prompt.to_vec(),
        max_tokens,
        sampling: Sampling::GREEDY,
        end: end.to_vec(),
    }
}

pub async fn run(connection: &mut Connection, prompt: &[u32], max_tokens: u32) -> Generation {
    run_in_blocks(connection, 1, prompt, max_tokens).await
}

pub async fn run_in_blocks(
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

pub async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn fingerprint(key: &[u8]) -> String {
    blake3::hash(key).to_hex().to_string()
}
