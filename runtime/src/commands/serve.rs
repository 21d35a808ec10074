//! `sotto serve`.

use super::engines::{EngineArgs, EngineName};
use super::traces::create_trace;
use super::{Consent, Failure, Meter, Signals, human_bytes, print, runtime};
use crate::cipher::{EngineOptions, PlanEngine, Room};
use crate::keys::MANIFEST_FILE;
use crate::plan::PlanDir;
use crate::server::{KeyStore, ListenError, Notice, Service, bind};
use bytesize::ByteSize;
use sotto_ckks::Context;
use sotto_ckks::engine::{Cpu, Engine};
use std::io::{self, Write};
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
  sotto serve --plan tiny.plan --keys keys/evaluation --memory 16GiB --trace trace.json")]
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
    /// Memory to use, as in 16GiB: a plan that needs more is refused, what is left over keeps plaintexts encoded.
    #[arg(long, value_name = "BYTES")]
    memory: Option<ByteSize>,
    /// A session that nothing has happened in for so long gives way to another client.
    #[arg(long, value_name = "MINUTES", default_value_t = 30)]
    idle_minutes: u32,
    /// End when standard input does: whoever started the server has gone.
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
    /// Write per-op times to this file, for Perfetto, chrome://tracing or `sotto trace`.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    consent: Consent,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    args.keys.as_deref().map_or(Ok(()), check_keys)?;
    let dir = PlanDir::open(&args.plan).map_err(Failure::input)?;
    args.consent.check(dir.plan())?;
    dir.check().map_err(Failure::input)?;
    match args.engine.backend {
        EngineName::Cpu => {
            args.engine.card.unused()?;
            let context = Context::new(dir.plan().params.clone()).map_err(Failure::input)?;
            serve(args, plan_engine(args, &dir, Cpu::new(&context), None)?)
        }
        EngineName::Gpu => {
            let (gpu, room) = args
                .engine
                .card
                .open_for(dir.plan(), args.memory.map(|m| m.as_u64()))?;
            serve(args, plan_engine(args, &dir, gpu, Some(room))?)
        }
    }
}

fn serve<E: Engine>(args: &Args, engine: PlanEngine<E>) -> Result<(), Failure> {
    let (store, _temporary) = store(args.key_store.as_deref())?;
    let patience = Duration::from_secs(60 * u64::from(args.idle_minutes));
    let mut service = Service::new(engine, store, patience).telling(tell);
    runtime()?.block_on(async {
        let server = bind(args.addr, args.allow_remote)
            .await
            .map_err(listen_failure)?;
        if let Some(keys) = &args.keys {
            let meter = Meter::bar(0, "loading keys, encoding weights");
            meter.announce("loading keys, encoding weights");
            service
                .preload(keys, &mut |done, total| {
                    meter.set(done as u64, total as u64)
                })
                .await
                .map_err(Failure::input)?;
        }
        let signals = Signals::listen();
        match print(format_args!("listening on {}\n", server.addr())) {
            // Clients may know the address all the same.
            Err(Failure::Unheard) => {}
            printed => printed?,
        }
        server
            .run(service, ended(signals, args.until_stdin_ends))
            .await
            .map_err(listen_failure)
    })
}

/// Refuses a client's whole key folder, which holds its secret key.
fn check_keys(dir: &Path) -> Result<(), Failure> {
    let (dir, inner) = (dir.display(), dir.join("evaluation"));
    if !inner.join(MANIFEST_FILE).is_file() {
        return Ok(());
    }
    Err(Failure::Input(format!(
        "--keys {dir} is a client's whole key folder, secret key included: pass --keys {}, and keep {dir} where the client runs",
        inner.display()
    )))
}

/// Says what happens on the server: keys that come, sessions, tokens.
fn tell(notice: &Notice) {
    // Whoever started the server may no longer read: no reason to fail a client.
    let _unheard = writeln!(io::stderr(), "{}", words(notice));
}

fn words(notice: &Notice) -> String {
    match notice {
        Notice::Receiving { bytes } => {
            format!("receiving {} of evaluation keys", human_bytes(*bytes))
        }
        Notice::Received { bytes, seconds } => format!(
            "received {} of evaluation keys in {seconds:.1} s",
            human_bytes(*bytes)
        ),
        Notice::Lost { cause } => format!("evaluation keys did not arrive: {cause}"),
        Notice::Loading => "loading keys, encoding weights".into(),
        Notice::Opened { session } => format!("session {session} begins"),
        Notice::Stepped {
            session,
            tokens,
            seconds,
        } => format!("session {session}: {seconds:.1} s to its token {tokens}"),
        Notice::Failed { session, cause } => format!("session {session}: {cause}"),
        Notice::Closed { session } => format!("session {session} ends"),
    }
}

/// The plan on an engine, which has memory of its own where `room` is given.
fn plan_engine<E: Engine>(
    args: &Args,
    dir: &PlanDir,
    engine: E,
    room: Option<Room>,
) -> Result<PlanEngine<E>, Failure> {
    let data = dir.data().map_err(Failure::input)?;
    let trace = args.trace.as_deref().map(|path| create_trace(path, dir));
    let trace = trace.transpose()?;
    let options = EngineOptions {
        memory: args.memory.map(|memory| memory.as_u64()),
        room,
        matrices: args.engine.card.matrices(),
        trace,
    };
    PlanEngine::on(engine, dir.plan().clone(), dir.digest(), data, options).map_err(Failure::input)
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
        ListenError::Bind { .. } | ListenError::Serve(_) => Failure::remote(error),
    }
}

/// Completes at Ctrl-C, SIGTERM or, if asked, the end of standard input.
async fn ended(mut signals: Signals, with_stdin: bool) {
    tokio::select! {
        () = signals.next() => {}
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
