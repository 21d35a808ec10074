//! The gRPC service over an [`Engine`].

use super::engine::{Engine, StepProgress, Watch};
use super::sessions::{Sessions, StepReply};
use super::store::{KeyStore, Upload};
use crate::keys::Manifest;
use crate::proto::wire::{self, key_upload, step_reply};
use crate::proto::{Fault, FaultCode};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Progress messages are at least this far apart.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Messages that wait for a slow reader before progress is skipped.
const REPLY_QUEUE: usize = 8;

/// One set of keys in memory; a second set replaces it, since a set takes gigabytes.
struct Loaded<E: Engine> {
    fingerprint: String,
    keys: Arc<E::Keys>,
}

/// Serves one plan to any number of sessions.
pub struct Service<E: Engine> {
    engine: Arc<E>,
    store: Arc<KeyStore>,
    loaded: Arc<Mutex<Option<Loaded<E>>>>,
    sessions: Arc<Sessions<E>>,
}

impl<E: Engine> Service<E> {
    /// A service for `engine` that keeps uploaded keys in `store`.
    pub fn new(engine: E, store: KeyStore) -> Self {
        Self {
            engine: Arc::new(engine),
            store: Arc::new(store),
            loaded: Arc::new(Mutex::new(None)),
            sessions: Arc::new(Sessions::new()),
        }
    }

    /// Loads keys that are already on the server's disk, so that clients with this fingerprint need not send them. Returns
    /// the fingerprint; `progress` hears how many keys are loaded.
    pub fn preload(
        &self,
        dir: &Path,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<String, Fault> {
        let manifest = Manifest::read(dir)?;
        if manifest.parameters_digest != self.engine.parameters_digest() {
            return Err(Fault::new(
                FaultCode::ParametersMismatch,
                format!(
                    "the keys in {} belong to other parameters than the plan",
                    dir.display()
                ),
                "generate keys with this plan",
            ));
        }
        manifest.check_covers(self.engine.needed_keys())?;
        let fingerprint = manifest.checksum.clone();
        load(&*self.engine, &self.loaded, &fingerprint, dir, progress)?;
        Ok(fingerprint)
    }

    fn check_identity(&self, request: &wire::OpenRequest) -> Result<(), Fault> {
        if request.plan_digest != self.engine.plan_digest() {
            return Err(Fault::new(
                FaultCode::PlanMismatch,
                format!(
                    "the client has plan {}, the server runs {}",
                    request.plan_digest,
                    self.engine.plan_digest()
                ),
                "use the same plan on both sides",
            ));
        }
        if request.parameters_digest != self.engine.parameters_digest() {
            return Err(Fault::new(
                FaultCode::ParametersMismatch,
                format!(
                    "the client's keys belong to parameters {}, the plan to {}",
                    request.parameters_digest,
                    self.engine.parameters_digest()
                ),
                "generate keys with this plan",
            ));
        }
        Ok(())
    }
}

/// The keys of a fingerprint, read from `dir` unless they are in memory.
fn load<E: Engine>(
    engine: &E,
    loaded: &Mutex<Option<Loaded<E>>>,
    fingerprint: &str,
    dir: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Arc<E::Keys>, Fault> {
    let mut slot = loaded.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(current) = slot.as_ref()
        && current.fingerprint == fingerprint
    {
        return Ok(current.keys.clone());
    }
    Manifest::read(dir)?.check_covers(engine.needed_keys())?;
    *slot = None;
    let keys = Arc::new(engine.load_keys(dir, progress)?);
    *slot = Some(Loaded {
        fingerprint: fingerprint.to_string(),
        keys: keys.clone(),
    });
    Ok(keys)
}

#[tonic::async_trait]
impl<E: Engine> wire::sotto_server::Sotto for Service<E> {
    type StepStream = ReceiverStream<Result<wire::StepReply, Status>>;

    async fn open(
        &self,
        request: Request<wire::OpenRequest>,
    ) -> Result<Response<wire::OpenReply>, Status> {
        let request = request.into_inner();
        self.check_identity(&request)?;
        let fingerprint = request.keys_fingerprint;
        let in_memory = self
            .loaded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .is_some_and(|loaded| loaded.fingerprint == fingerprint);
        let dir = match self.store.find(&fingerprint) {
            Some(dir) => dir,
            None if in_memory => PathBuf::new(),
            None => return Err(keys_absent(&fingerprint).into()),
        };
        let (engine, loaded) = (self.engine.clone(), self.loaded.clone());
        let sessions = self.sessions.clone();
        let capacity = engine.capacity();
        let session = blocking(move || {
            let keys = load(&*engine, &loaded, &fingerprint, &dir, &mut |_, _| {})?;
            sessions.begin(&engine, keys)
        })
        .await?;
        Ok(Response::new(wire::OpenReply { session, capacity }))
    }

    async fn upload_keys(
        &self,
        request: Request<Streaming<wire::KeyUpload>>,
    ) -> Result<Response<wire::KeyReceipt>, Status> {
        let mut stream = request.into_inner();
        let first = stream.next().await.transpose()?.and_then(|m| m.part);
        let Some(key_upload::Part::Manifest(manifest)) = first else {
            return Err(Fault::new(
                FaultCode::KeyDamaged,
                "an upload without a manifest",
                "send the manifest first",
            )
            .into());
        };
        let mut upload = self.store.receive(
            manifest,
            self.engine.parameters_digest(),
            self.engine.needed_keys(),
        )?;
        while let Some(message) = stream.next().await.transpose()? {
            let Some(key_upload::Part::Chunk(chunk)) = message.part else {
                return Err(Fault::new(
                    FaultCode::KeyDamaged,
                    "a second manifest in an upload",
                    "send one manifest, then chunks",
                )
                .into());
            };
            upload = blocking(move || take(upload, chunk)).await?;
        }
        let store = self.store.clone();
        let (fingerprint, bytes) = blocking(move || store.admit(upload)).await?;
        Ok(Response::new(wire::KeyReceipt { fingerprint, bytes }))
    }

    async fn step(
        &self,
        request: Request<wire::StepRequest>,
    ) -> Result<Response<Self::StepStream>, Status> {
        let request = request.into_inner();
        let session = self.sessions.find(&request.session)?;
        let engine = self.engine.clone();
        let (sender, receiver) = mpsc::channel(REPLY_QUEUE);
        tokio::task::spawn_blocking(move || {
            let watch = ChannelWatch {
                sender: sender.clone(),
                last: Mutex::new(Instant::now()),
            };
            let reply = session
                .step(&engine, request.position, &request.ciphertext, &watch)
                .map(result_message)
                .map_err(Status::from);
            // A closed channel means that the client has gone; the reply stays with the session.
            let _gone = sender.blocking_send(reply);
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn close(
        &self,
        request: Request<wire::CloseRequest>,
    ) -> Result<Response<wire::CloseReply>, Status> {
        self.sessions.end(&request.into_inner().session)?;
        Ok(Response::new(wire::CloseReply {}))
    }
}

fn take(mut upload: Upload, chunk: wire::KeyChunk) -> Result<Upload, Fault> {
    upload.take(&chunk)?;
    Ok(upload)
}

fn keys_absent(fingerprint: &str) -> Fault {
    Fault::new(
        FaultCode::KeysAbsent,
        format!("the server has no evaluation keys {fingerprint}"),
        "send them first",
    )
}

fn result_message(reply: StepReply) -> wire::StepReply {
    wire::StepReply {
        part: Some(step_reply::Part::Result(wire::StepResult {
            ciphertexts: reply.output.ciphertexts.clone(),
            seconds: reply.elapsed.as_secs_f64(),
            bootstraps: reply.output.bootstraps,
        })),
    }
}

/// Runs `work` off the async threads; a panic in it is an internal fault, not the end of the server.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|cause| {
            Err(Fault::new(
                FaultCode::Internal,
                format!("the server failed: {cause}"),
                "report it with the server's output",
            ))
        })
}

/// Sends progress to the client, skipping messages that would wait.
struct ChannelWatch {
    sender: mpsc::Sender<Result<wire::StepReply, Status>>,
    last: Mutex<Instant>,
}

impl Watch for ChannelWatch {
    fn progress(&self, progress: &StepProgress) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() < PROGRESS_EVERY {
            return;
        }
        *last = Instant::now();
        let message = wire::StepReply {
            part: Some(step_reply::Part::Progress(wire::Progress {
                done: progress.done,
                total: progress.total,
                bootstraps_done: progress.bootstraps,
                site: progress.site.clone(),
            })),
        };
        // A full queue means a slow reader; the next message says more anyway.
        let _full = self.sender.try_send(Ok(message));
    }

    fn cancelled(&self) -> bool {
        self.sender.is_closed()
    }
}
