//! The client's end of the protocol: open, send keys if the server lacks them, one round trip per token.

use super::error::ClientError;
use crate::keys::{KEY_FILE, KeyDirError, Manifest};
use crate::proto::wire::{self, key_upload, sotto_client::SottoClient, step_reply};
use crate::proto::{Fault, FaultCode, KEY_CHUNK, MAX_MESSAGE};
use std::fs::File;
use std::io::Read;
use std::path::Path;
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
            keys_fingerprint: manifest.checksum.clone(),
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

    /// One token, or a block of so many: `ciphertext` up, one token's scores down. `progress` hears how far the server is.
    pub async fn step(
        &mut self,
        position: u32,
        block: u32,
        ciphertext: Vec<u8>,
        mut progress: impl FnMut(&wire::Progress),
    ) -> Result<StepAnswer, ClientError> {
        let during = format!("computing token {position}");
        let failed = |status| ClientError::from_status(&self.server, &during, &status);
        let request = wire::StepRequest {
            session: self.session.clone(),
            position,
            ciphertext,
            block,
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
    if receipt.fingerprint != manifest.checksum {
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

/// Reads the key file into `sender`; ends early, without error, when the server stops listening.
fn send_keys(
    dir: &Path,
    manifest: &Manifest,
    sender: &mpsc::Sender<wire::KeyUpload>,
    sent: &impl Fn(u64, u64),
) -> Result<(), KeyDirError> {
    let path = dir.join(KEY_FILE);
    let failed = |cause| KeyDirError::Read {
        path: path.clone(),
        cause,
    };
    let send = |part| sender.blocking_send(wire::KeyUpload { part: Some(part) });
    let mut file = File::open(&path).map_err(failed)?;
    if send(key_upload::Part::Manifest(manifest.to_wire())).is_err() {
        return Ok(());
    }
    let mut offset = 0;
    loop {
        let mut data = Vec::with_capacity(KEY_CHUNK);
        let read = (&mut file).take(KEY_CHUNK as u64).read_to_end(&mut data);
        let length = read.map_err(failed)? as u64;
        if length == 0 || send(key_upload::Part::Chunk(wire::KeyChunk { offset, data })).is_err() {
            return Ok(());
        }
        offset += length;
        sent(offset, manifest.bytes);
    }
}
