//! Ctrl-C and SIGTERM during the demo: a generation stops and keeps its text; anything else ends the process, without leaving
//! keys behind.

use crate::client::Unfinished;
use crate::commands::{INTERRUPTED, Signals};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Listens for interrupts.
pub(super) struct Interrupt {
    generating: Arc<AtomicBool>,
    receiver: watch::Receiver<bool>,
}

impl Interrupt {
    /// Begins to listen. An interrupt outside generation removes `temporary` and `unfinished` keys and ends the process; child
    /// processes notice by themselves.
    pub fn listen(runtime: &Runtime, temporary: Option<&Path>, unfinished: &Unfinished) -> Self {
        let generating = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = watch::channel(false);
        let (in_generation, temporary) = (generating.clone(), temporary.map(Path::to_path_buf));
        let unfinished = unfinished.clone();
        let mut signals = runtime.block_on(async { Signals::listen() });
        runtime.spawn(async move {
            loop {
                signals.next().await;
                // A second interrupt ends a generation that does not stop.
                if in_generation.load(Ordering::SeqCst) && !sender.send_replace(true) {
                    continue;
                }
                // Held to the end: whoever makes the keys waits meanwhile.
                let _held = unfinished.remove();
                if let Some(Err(cause)) = temporary.as_deref().map(std::fs::remove_dir_all) {
                    eprintln!("cannot remove the working folder: {cause}");
                }
                std::process::exit(INTERRUPTED.into());
            }
        });
        Self {
            generating,
            receiver,
        }
    }

    /// From now on an interrupt stops the generation.
    pub fn take_over(&self) -> watch::Receiver<bool> {
        self.generating.store(true, Ordering::SeqCst);
        self.receiver.clone()
    }

    /// The generation is over.
    pub fn hand_back(&self) {
        self.generating.store(false, Ordering::SeqCst);
    }
}
