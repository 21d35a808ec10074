//! The client's end of the protocol: open, send keys if the server lacks them, one round trip per token.

use super::error::ClientError;
use crate::keys::{KeyDirError, Manifest};
use crate::proto::wire::{self, key_upload, sotto_client::SottoClient, step_reply};
use crate::proto::{Fault, FaultCode, KEY_CHUNK, MAX_MESSAGE};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// Chunks that wait for the network.
const UPLOAD_QUEUE: usize = 4;

/// An open session on a server.
pub struct Connection {
    client: SottoClient<Channel>,
    server: String,
    session: String,
    capacity: u32,
}

/// What the server returned for one token.
#[derive(Clone, Debug)]
pub struct StepAnswer {
    /// The output ciphertexts, serialized.
    pub ciphertexts: Vec<Vec<u8>>,
    /// Seconds that the server computed.
    pub seconds: f64,
    /// Bootstraps that it ran.
    pub bootstraps: u32,
}

impl Connection {
    /// Opens a session for `plan_digest` under the evaluation keys in `key_dir`, which are sent if the server lacks them;
    /// `sent` hears the bytes sent so far and in all.
    pub async fn open(
        server: &str,
        plan_digest: &str,
        key_dir: &Path,
        sent: impl Fn(u64, u64) + Send + Sync + 'static,
    ) -> Result<Self, ClientError> {
        let manifest = Manifest::read(key_dir)?;
        let mut client = connect(server).await?;
        let request = wire::OpenRequest {
            plan_digest: plan_digest.into(),
            parameters_digest: manifest.parameters_digest.clone(),
            keys_fingerprint: manifest.fingerprint(),
        };
        let failed = |status| ClientError::from_status(server, "opening a session", &status);
        let mut reply = client.open(request.clone()).await;
        if let Err(status) = &reply
            && Fault::from_status(status).is_some_and(|fault| fault.code == FaultCode::KeysAbsent)
        {
            upload(&mut client, server, key_dir, &manifest, sent).await?;
            reply = client.open(request).await;
        }
        let reply = reply.map_err(failed)?.into_inner();
        Ok(Self {
            client,
            server: server.into(),
            session: reply.session,
            capacity: reply.capacity,
        })
    }

    /// Most tokens that the session can hold.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Address of the server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// One token: `ciphertext` up, one ciphertext down. `progress` hears how far the server is.
    pub async fn step(
        &mut self,
        position: u32,
        ciphertext: Vec<u8>,
        mut progress: impl FnMut(&wire::Progress),
    ) -> Result<StepAnswer, ClientError> {
        let during = format!("computing token {position}");
        let failed = |status| ClientError::from_status(&self.server, &during, &status);
        let request = wire::StepRequest {
            session: self.session.clone(),
            position,
            ciphertext,
        };
        let mut replies = self
            .client
            .step(request)
            .await
            .map_err(failed)?
            .into_inner();
        while let Some(reply) = replies.next().await {
            match reply.map_err(failed)?.part {
                Some(step_reply::Part::Progress(message)) => progress(&message),
                Some(step_reply::Part::Result(result)) => {
                    return Ok(StepAnswer {
                        ciphertexts: result.ciphertexts,
                        seconds: result.seconds,
                        bootstraps: result.bootstraps,
                    });
                }
                None => {}
            }
        }
        Err(ClientError::ServerGone {
            server: self.server.clone(),
            during,
            cause: "the reply ended without a result".into(),
        })
    }

    /// Ends the session, so that the server can drop its KV state.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let request = wire::CloseRequest {
            session: self.session,
        };
        self.client
            .close(request)
            .await
            .map_err(|status| ClientError::from_status(&self.server, "closing", &status))?;
        Ok(())
    }
}

async fn connect(server: &str) -> Result<SottoClient<Channel>, ClientError> {
    let unreachable = |cause: tonic::transport::Error| ClientError::Unreachable {
        server: server.into(),
        cause: std::error::Error::source(&cause).map_or_else(|| cause.to_string(), chain),
    };
    let endpoint = Endpoint::from_shared(format!("http://{server}")).map_err(|cause| {
        ClientError::input(
            format!("`{server}` is no address: {cause}"),
            "give --server as HOST:PORT, as `sotto serve` prints it",
        )
    })?;
    let channel = endpoint.connect().await.map_err(unreachable)?;
    Ok(SottoClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE))
}

/// The innermost cause, which says what the operating system said.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

async fn upload(
    client: &mut SottoClient<Channel>,
    server: &str,
    dir: &Path,
    manifest: &Manifest,
    sent: impl Fn(u64, u64) + Send + Sync + 'static,
) -> Result<(), ClientError> {
    let (sender, receiver) = mpsc::channel(UPLOAD_QUEUE);
    let (source, listed) = (dir.to_path_buf(), manifest.clone());
    let reader = tokio::task::spawn_blocking(move || send_keys(&source, &listed, &sender, &sent));
    let receipt = client.upload_keys(ReceiverStream::new(receiver)).await;
    // A failure to read comes before the server's complaint about the stream that it cut short.
    reader.await.map_err(|cause| ClientError::Seal {
        doing: "reading evaluation keys".into(),
        cause: cause.to_string(),
    })??;
    let receipt = receipt
        .map_err(|status| ClientError::from_status(server, "sending evaluation keys", &status))?
        .into_inner();
    if receipt.fingerprint != manifest.fingerprint() {
        return Err(ClientError::Refused {
            server: server.into(),
            fault: Fault::new(
                FaultCode::KeyDamaged,
                "the server stored other keys than were sent",
                "send them again",
            ),
        });
    }
    Ok(())
}

/// Reads every key file in order into `sender`; ends early, without error, when the server stops listening.
fn send_keys(
    dir: &Path,
    manifest: &Manifest,
    sender: &mpsc::Sender<wire::KeyUpload>,
    sent: &impl Fn(u64, u64),
) -> Result<(), KeyDirError> {
    let message = |part| wire::KeyUpload { part: Some(part) };
    let first = message(key_upload::Part::Manifest(manifest.to_wire()));
    if sender.blocking_send(first).is_err() {
        return Ok(());
    }
    let (mut done, total) = (0, manifest.bytes());
    for index in 0..manifest.keys.len() {
        let mut file = KeyFile::open(dir, index)?;
        let mut offset = 0;
        loop {
            let data = file.chunk()?;
            if data.is_empty() {
                break;
            }
            let length = data.len() as u64;
            let chunk = wire::KeyChunk {
                key: index as u32,
                offset,
                data,
            };
            if sender
                .blocking_send(message(key_upload::Part::Chunk(chunk)))
                .is_err()
            {
                return Ok(());
            }
            offset += length;
            done += length;
            sent(done, total);
        }
    }
    Ok(())
}

struct KeyFile {
    path: PathBuf,
    file: File,
}

impl KeyFile {
    fn open(dir: &Path, index: usize) -> Result<Self, KeyDirError> {
        let path = dir.join(Manifest::file_name(index));
        match File::open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(cause) => Err(KeyDirError::Read { path, cause }),
        }
    }

    /// The next bytes; empty at the end.
    fn chunk(&mut self) -> Result<Vec<u8>, KeyDirError> {
        let mut data = Vec::new();
        (&mut self.file)
            .take(KEY_CHUNK as u64)
            .read_to_end(&mut data)
            .map_err(|cause| KeyDirError::Read {
                path: self.path.clone(),
                cause,
            })?;
        Ok(data)
    }
}
