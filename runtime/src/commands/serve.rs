//! `sotto serve`.

use super::{Consent, Failure, Meter, interrupted, runtime};
use crate::cpu::{CpuEngine, EngineOptions};
use crate::plan::PlanDir;
use crate::server::{KeyStore, ListenError, Service, bind};
use crate::trace::Trace;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Run a plan for clients. The server is given the plan and evaluation keys, never a secret key.
///
/// Prints `listening on ADDR` when it is ready. Memory holds one client's evaluation keys: others are refused until its sessions
/// have ended or idled for long. One token is computed at a time, the next ones wait in line.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sotto serve --plan tiny.plan --addr 127.0.0.1:7411
  sotto serve --plan tiny.plan --keys keys/evaluation --memory 16000000000 --trace trace.json")]
pub struct Args {
    /// The plan directory.
    #[arg(long)]
    plan: PathBuf,
    /// A folder of evaluation keys to have ready, so that their client need not send them; keys of others are refused.
    #[arg(long, value_name = "EVALKEYS_DIR")]
    keys: Option<PathBuf>,
    /// Where keys that clients send are kept, those in use and those that came last [default: a temporary folder, removed at the
    /// end].
    #[arg(long, value_name = "DIR")]
    key_store: Option<PathBuf>,
    /// Address to listen on; port 0 lets the system choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    addr: SocketAddr,
    /// Allow an address that other machines can reach. Nothing authenticates them, and the connection is not encrypted.
    #[arg(long)]
    allow_remote: bool,
    /// Bytes of memory to use: a plan that needs more is refused, what is left over keeps plaintexts encoded.
    #[arg(long, value_name = "BYTES")]
    memory: Option<u64>,
    /// A session that nothing has happened in for so long gives way to another client.
    #[arg(long, value_name = "MINUTES", default_value_t = 30)]
    idle_minutes: u32,
    /// End when standard input does: whoever started the server has gone.
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
    /// Write per-op times to this file, for Perfetto or chrome://tracing.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    consent: Consent,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let engine = engine(args)?;
    let (store, _temporary) = store(args.key_store.as_deref())?;
    let patience = Duration::from_secs(60 * u64::from(args.idle_minutes));
    let mut service = Service::new(engine, store, patience);
    runtime()?.block_on(async {
        let server = bind(args.addr, args.allow_remote)
            .await
            .map_err(listen_failure)?;
        if let Some(keys) = &args.keys {
            let meter = Meter::bar(0, "loading keys");
            service
                .preload(keys, &mut |done, total| {
                    meter.set(done as u64, total as u64)
                })
                .await
                .map_err(Failure::input)?;
        }
        println!("listening on {}", server.addr());
        server
            .run(service, ended(args.until_stdin_ends))
            .await
            .map_err(listen_failure)
    })
}

fn engine(args: &Args) -> Result<CpuEngine, Failure> {
    let dir = PlanDir::open(&args.plan).map_err(Failure::input)?;
    args.consent.check(dir.plan())?;
    let data = dir.data().map_err(Failure::input)?;
    dir.check().map_err(Failure::input)?;
    let trace = args.trace.as_deref().map(create_trace).transpose()?;
    let options = EngineOptions {
        memory: args.memory,
        trace,
    };
    CpuEngine::new(dir.plan().clone(), dir.digest(), data, options).map_err(Failure::input)
}

fn create_trace(path: &Path) -> Result<Trace, Failure> {
    Trace::create(path).map_err(|cause| {
        Failure::Input(format!(
            "cannot write the trace to {}: {cause}; choose another --trace",
            path.display()
        ))
    })
}

/// The store of uploaded keys, and the temporary folder it lives in unless the user chose one.
fn store(chosen: Option<&Path>) -> Result<(KeyStore, Option<TempDir>), Failure> {
    let failed = |cause: std::io::Error| {
        Failure::Input(format!(
            "cannot store keys: {cause}; choose another --key-store"
        ))
    };
    if let Some(dir) = chosen {
        return Ok((KeyStore::open(dir).map_err(failed)?, None));
    }
    let temporary = tempfile::Builder::new()
        .prefix("sotto-keys-")
        .tempdir()
        .map_err(failed)?;
    let store = KeyStore::open(temporary.path()).map_err(failed)?;
    Ok((store, Some(temporary)))
}

fn listen_failure(error: ListenError) -> Failure {
    match error {
        ListenError::Remote(_) => Failure::input(error),
        ListenError::Bind { .. } | ListenError::Serve(_) => Failure::Remote(error.to_string()),
    }
}

/// Completes at Ctrl-C, SIGTERM or, if asked, the end of standard input.
async fn ended(with_stdin: bool) {
    tokio::select! {
        () = interrupted() => {}
        () = stdin_ended(), if with_stdin => {}
    }
}

/// Completes when nobody can write to standard input any more.
async fn stdin_ended() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // Not a blocking task: those would hold up the end of the runtime.
    std::thread::spawn(move || {
        let _bytes = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _unheard = sender.send(());
    });
    let _ended = receiver.await;
}
