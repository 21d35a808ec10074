//! The gRPC service over an [`Engine`].

use super::engine::{Engine, Watch};
use super::held::{Held, Turn};
use super::lock;
use super::notice::{Ear, Notice, shown};
use super::sessions::{Sessions, StepReply};
use super::store::{KeyStore, Upload};
use crate::StepProgress;
use crate::keys::Manifest;
use crate::proto::wire::{self, key_upload, step_reply};
use crate::proto::{Fault, FaultCode};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Progress messages are at least this far apart.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Messages that wait for a slow reader before progress is skipped.
const REPLY_QUEUE: usize = 8;
/// How long a sender of keys may pause before its place goes to another.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(60);
/// What progress says instead of a site while another token is computed.
const IN_LINE: &str = "waiting for another token of this server";

/// Serves one plan to any number of sessions under one set of keys at a time. One token is computed at a time; others wait in
/// line.
pub struct Service<E: Engine> {
    engine: Arc<E>,
    store: Arc<KeyStore>,
    held: Arc<Held<E>>,
    sessions: Arc<Sessions<E>>,
    /// Fingerprint of the only keys to serve, if the server was started for a set.
    only: Option<String>,
    /// One upload at a time.
    uploads: Semaphore,
    tell: Ear,
}

impl<E: Engine> Service<E> {
    /// A service for `engine` that keeps uploaded keys in `store`. A session that has been idle for `patience` gives way to
    /// another client.
    pub fn new(engine: E, store: KeyStore, patience: Duration) -> Self {
        Self {
            engine: Arc::new(engine),
            store: Arc::new(store),
            held: Arc::new(Held::nothing()),
            sessions: Arc::new(Sessions::new(patience)),
            only: None,
            uploads: Semaphore::new(1),
            tell: Arc::new(|_| {}),
        }
    }

    /// The same, with somebody who hears what happens.
    pub fn telling(mut self, tell: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        self.tell = Arc::new(tell);
        self
    }

    /// Loads keys that are already on the server's disk and serves these alone: nobody else's can take their place. Returns
    /// the fingerprint; `progress` hears how many keys are loaded.
    pub async fn preload(
        &mut self,
        dir: &Path,
        progress: &mut (dyn FnMut(usize, usize) + Send),
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
        let fingerprint = manifest.checksum;
        let mut turn = self.held.turn().await;
        turn.load(&self.engine, &fingerprint, dir, progress)?;
        self.only = Some(fingerprint.clone());
        Ok(fingerprint)
    }

    /// Refuses keys other than those that the server was started for.
    fn check_served(&self, fingerprint: &str) -> Result<(), Fault> {
        match &self.only {
            Some(only) if only != fingerprint => Err(Fault::new(
                FaultCode::KeyMissing,
                format!("the server serves the evaluation keys {only} alone, not {fingerprint}"),
                "start another with `sotto serve` and these keys, or without --keys",
            )),
            _ => Ok(()),
        }
    }

    /// Has the keys of a fingerprint in memory. There is an open session under them, so that nobody replaces them afterwards.
    async fn ready(&self, fingerprint: &str) -> Result<(), Fault> {
        if self.held.fingerprint().as_deref() == Some(fingerprint) {
            return Ok(());
        }
        let mut turn = self.held.turn().await;
        let (engine, store) = (self.engine.clone(), self.store.clone());
        let (fingerprint, tell) = (fingerprint.to_string(), self.tell.clone());
        blocking(move || {
            if turn.keys(&fingerprint).is_some() {
                return Ok(());
            }
            let dir = store
                .find(&fingerprint)
                .ok_or_else(|| keys_absent(&fingerprint))?;
            tell(&Notice::Loading);
            let replaced = turn.load(&engine, &fingerprint, &dir, &mut |_, _| {})?;
            replaced.map_or(Ok(()), |old| store.remove(&old))
        })
        .await
    }

    /// Takes an upload whose manifest has come: every chunk, and what they come to.
    async fn take_all(
        &self,
        mut upload: Upload,
        stream: &mut Streaming<wire::KeyUpload>,
    ) -> Result<wire::KeyReceipt, Status> {
        while let Some(message) = next(stream).await? {
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
        // Keys that are being loaded have a session already.
        let in_use = self
            .sessions
            .fingerprint()
            .or_else(|| self.held.fingerprint());
        let admitted = blocking(move || store.admit(upload, in_use.as_deref())).await?;
        let (fingerprint, bytes) = admitted;
        Ok(wire::KeyReceipt { fingerprint, bytes })
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
        self.check_served(&fingerprint)?;
        let beginning = self.sessions.begin(&self.engine, &fingerprint)?;
        self.ready(&fingerprint).await?;
        let session = beginning.keep();
        (self.tell)(&Notice::Opened {
            session: shown(&session),
        });
        Ok(Response::new(wire::OpenReply {
            session,
            capacity: self.engine.capacity(),
        }))
    }

    async fn upload_keys(
        &self,
        request: Request<Streaming<wire::KeyUpload>>,
    ) -> Result<Response<wire::KeyReceipt>, Status> {
        let mut stream = request.into_inner();
        let _one_at_a_time = self.uploads.try_acquire().map_err(|_| upload_busy())?;
        let first = next(&mut stream).await?.and_then(|m| m.part);
        let Some(key_upload::Part::Manifest(manifest)) = first else {
            return Err(Fault::new(
                FaultCode::KeyDamaged,
                "an upload without a manifest",
                "send the manifest first",
            )
            .into());
        };
        self.check_served(&manifest.checksum)?;
        let bytes = manifest.bytes;
        let upload = self.store.receive(
            manifest,
            self.engine.parameters_digest(),
            self.engine.needed_keys(),
            self.engine.key_bytes(),
        )?;
        (self.tell)(&Notice::Receiving { bytes });
        let started = Instant::now();
        let receipt = self.take_all(upload, &mut stream).await;
        (self.tell)(&match &receipt {
            Ok(receipt) => Notice::Received {
                bytes: receipt.bytes,
                seconds: started.elapsed().as_secs_f64(),
            },
            Err(status) => Notice::Lost {
                cause: status.message().into(),
            },
        });
        Ok(Response::new(receipt?))
    }

    async fn step(
        &self,
        request: Request<wire::StepRequest>,
    ) -> Result<Response<Self::StepStream>, Status> {
        let wire::StepRequest {
            session,
            position,
            ciphertext,
            block,
        } = request.into_inner();
        let claim = self.sessions.find(&session)?.claim()?;
        let (sender, receiver) = mpsc::channel(REPLY_QUEUE);
        let (engine, held) = (self.engine.clone(), self.held.clone());
        if let Some(reply) = claim.known(&engine, position, block, &ciphertext)? {
            // The queue is empty, and the reader is here.
            let _sent = sender.try_send(Ok(result_message(reply)));
            return Ok(Response::new(ReceiverStream::new(receiver)));
        }
        let tell = self.tell.clone();
        tokio::spawn(async move {
            let Some(turn) = in_line(&held, &sender).await else {
                return;
            };
            tokio::task::spawn_blocking(move || {
                let watch = ChannelWatch {
                    sender: sender.clone(),
                    last: Mutex::new(Instant::now()),
                };
                let reply = claim.compute(&engine, turn, block, &ciphertext, &watch);
                // before the client can end the session, so that the two are told in order
                tell(&stepped(
                    &session,
                    position.saturating_add(block.max(1)),
                    &reply,
                ));
                // A closed channel means that the client has gone; the reply stays with the session.
                let _gone = sender.blocking_send(reply.map(result_message).map_err(Status::from));
            });
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn close(
        &self,
        request: Request<wire::CloseRequest>,
    ) -> Result<Response<wire::CloseReply>, Status> {
        let session = request.into_inner().session;
        self.sessions.end(&session)?;
        (self.tell)(&Notice::Closed {
            session: shown(&session),
        });
        Ok(Response::new(wire::CloseReply {}))
    }
}

/// What came of a token, for whoever runs the server.
fn stepped(session: &str, tokens: u32, reply: &Result<StepReply, Fault>) -> Notice {
    let session = shown(session);
    match reply {
        Ok(reply) => Notice::Stepped {
            session,
            tokens,
            seconds: reply.elapsed.as_secs_f64(),
        },
        Err(fault) => Notice::Failed {
            session,
            cause: fault.to_string(),
        },
    }
}

type Replies = mpsc::Sender<Result<wire::StepReply, Status>>;

/// Waits for a turn, telling the client so; None when the client has gone.
async fn in_line<E: Engine>(held: &Held<E>, sender: &Replies) -> Option<Turn<E>> {
    let turn = held.turn();
    tokio::pin!(turn);
    let mut again = tokio::time::interval(PROGRESS_EVERY);
    loop {
        tokio::select! {
            biased;
            turn = &mut turn => return Some(turn),
            () = sender.closed() => return None,
            _ = again.tick() => {
                let waiting = StepProgress { site: IN_LINE.into(), ..StepProgress::default() };
                // A full queue means a slow reader, who has read this before.
                let _full = sender.try_send(Ok(progress_message(&waiting)));
            }
        }
    }
}

/// The next message of an upload; a sender that pauses for too long is refused.
async fn next(stream: &mut Streaming<wire::KeyUpload>) -> Result<Option<wire::KeyUpload>, Status> {
    match tokio::time::timeout(UPLOAD_PATIENCE, stream.next()).await {
        Ok(message) => message.transpose(),
        Err(_) => Err(Fault::new(
            FaultCode::KeyDamaged,
            format!("an upload that paused for {} s", UPLOAD_PATIENCE.as_secs()),
            "send the keys again",
        )
        .into()),
    }
}

fn upload_busy() -> Fault {
    Fault::new(
        FaultCode::Storage,
        "another client is sending its evaluation keys",
        "try again when it has finished",
    )
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

fn progress_message(progress: &StepProgress) -> wire::StepReply {
    wire::StepReply {
        part: Some(step_reply::Part::Progress(progress.into())),
    }
}

/// Sends progress to the client, skipping messages that would wait.
struct ChannelWatch {
    sender: Replies,
    last: Mutex<Instant>,
}

impl Watch for ChannelWatch {
    fn progress(&self, progress: &StepProgress) {
        let mut last = lock(&self.last);
        if last.elapsed() < PROGRESS_EVERY {
            return;
        }
        *last = Instant::now();
        // A full queue means a slow reader; the next message says more anyway.
        let _full = self.sender.try_send(Ok(progress_message(progress)));
    }

    fn cancelled(&self) -> bool {
        self.sender.is_closed()
    }
}
