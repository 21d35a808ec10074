//! Per-op times in the Trace Event Format (a JSON array of complete events), which Perfetto and chrome://tracing open.

use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A trace file that grows as operations end. The format allows the array to stay open, so it can be viewed at any time.
pub struct Trace {
    file: Mutex<BufWriter<File>>,
    start: Instant,
}

#[derive(Serialize)]
struct TraceEvent<'a> {
    name: &'a str,
    cat: &'a str,
    ph: &'static str,
    /// Microseconds.
    ts: u128,
    dur: u128,
    pid: u32,
    tid: u32,
    args: Args,
}

#[derive(Serialize)]
struct Args {
    position: u32,
    level: Option<u32>,
}

/// One operation that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// `layers.1.attention.q_proj`.
    pub site: &'a str,
    /// `linear`, `bootstrap`, …
    pub op: &'a str,
    /// Position of the token.
    pub position: u32,
    /// Level of its result.
    pub level: Option<u32>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Trace {
    /// A trace in a new file.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(b"[\n")?;
        Ok(Self {
            file: Mutex::new(file),
            start: Instant::now(),
        })
    }

    /// Adds an operation that ends now.
    pub fn add(&self, ended: Ended<'_>) -> std::io::Result<()> {
        let now = self.start.elapsed();
        let event = TraceEvent {
            name: ended.site,
            cat: ended.op,
            ph: "X",
            ts: now.saturating_sub(ended.elapsed).as_micros(),
            dur: ended.elapsed.as_micros(),
            pid: 1,
            tid: 1,
            args: Args {
                position: ended.position,
                level: ended.level,
            },
        };
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_writer(&mut *file, &event)?;
        file.write_all(b",\n")
    }

    /// Writes what is still buffered.
    pub fn flush(&self) -> std::io::Result<()> {
        self.file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_an_open_array_of_complete_events() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let trace = Trace::create(&path).unwrap();
        for site in ["layers.0.mlp", "layers.1.mlp"] {
            let ended = Ended {
                site,
                op: "linear",
                position: 3,
                level: Some(7),
                elapsed: Duration::from_millis(2),
            };
            trace.add(ended).unwrap();
        }
        trace.flush().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let closed = format!("{}]", text.trim_end().trim_end_matches(','));
        let events: serde_json::Value = serde_json::from_str(&closed).unwrap();
        assert_eq!(events[1]["name"], "layers.1.mlp");
        assert_eq!(events[1]["dur"], 2000);
        assert_eq!(events[1]["ph"], "X");
    }
}
