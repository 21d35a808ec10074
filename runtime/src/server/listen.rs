//! Binding and serving.

use super::engine::Engine;
use super::service::Service;
use crate::proto::{MAX_MESSAGE, wire::sotto_server::SottoServer};
use miette::Diagnostic;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;

/// Bytes that a client may have on their way. Evaluation keys are gigabytes: with little more than one chunk in flight, each would
/// wait for the network's round trip.
const WINDOW: u32 = 16 << 20;

/// Why the server does not listen.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum ListenError {
    /// An address that other machines can reach, without consent.
    #[error(
        "{0} can be reached from other machines, and the protocol has neither authentication nor encryption of its own; \
         bind a loopback address, or pass --allow-remote"
    )]
    #[diagnostic(code(serve::remote))]
    Remote(SocketAddr),
    /// The address cannot be bound.
    #[error("cannot listen on {addr}: {cause}; choose another --addr")]
    #[diagnostic(code(serve::bind))]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The cause.
        cause: std::io::Error,
    },
    /// Serving failed.
    #[error("serving failed: {0}")]
    #[diagnostic(code(serve::serve))]
    Serve(#[from] tonic::transport::Error),
}

/// A bound server.
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
}

/// Binds `addr`; one that is not loopback needs `allow_remote`.
pub async fn bind(addr: SocketAddr, allow_remote: bool) -> Result<Server, ListenError> {
    if !addr.ip().is_loopback() && !allow_remote {
        return Err(ListenError::Remote(addr));
    }
    let failed = |cause| ListenError::Bind { addr, cause };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok(Server { listener, addr })
}

impl Server {
    /// The address in use, with the port that the system chose.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `stop` completes.
    pub async fn run<E: Engine>(
        self,
        service: Service<E>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ListenError> {
        let service = SottoServer::new(service)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        // Without delay: window updates are small, and held back until the client's (itself delayed) acknowledgement they let
        // through one window of an upload in 40 ms.
        let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
        tonic::transport::Server::builder()
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, stop)
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reachable_address_needs_consent() {
        let addr: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let error = bind(addr, false).await.err().expect("refused");
        assert!(error.to_string().contains("--allow-remote"), "{error}");
    }
}
