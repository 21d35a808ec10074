//! Writing traces; [`sotto_ir::trace`] says what they hold, and reads them.
//!
//! An event is written whole and at once: whoever ends the process, the file holds every operation that ended before, and viewers
//! open it, since the format allows the array to stay open. A file that cannot be written to is told once and given up; the run goes on.

use serde::Serialize;
use sotto_ckks::Yardstick;
use sotto_ir::exec::{Event, Moment};
use sotto_ir::plan::Plan;
use sotto_ir::trace::{self, OpArgs, PLAN, PlanMark, RUN, RunArgs, YARDSTICK};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Transforms that one look at the yardstick averages: two milliseconds before every token, of which each takes seconds.
const LOOK: u32 = 16;

/// A trace file that grows as operations end; whole once it is dropped.
pub struct Trace {
    path: PathBuf,
    inner: Mutex<Inner>,
    start: Instant,
}

struct Inner {
    /// None once writing has failed.
    file: Option<File>,
    /// None for times that are not normalized.
    yardstick: Option<Yardstick>,
}

/// One run of a program in a trace.
pub struct TracedRun<'t> {
    trace: &'t Trace,
    args: RunArgs,
    began: Duration,
}

impl Trace {
    /// A trace in a new file, in place of what was there.
    ///
    /// # Errors
    /// If the file cannot be made or written to.
    pub fn create(path: &Path, plan: &Plan, digest: &str) -> io::Result<Self> {
        let mut file = File::create(path)?;
        let mark = PlanMark {
            plan: digest.into(),
            model: plan.model.name.clone(),
            threads: rayon::current_num_threads() as u32,
        };
        let mark = event("i", (PLAN, ""), Duration::ZERO, Duration::ZERO, mark);
        file.write_all(format!("[\n{}", serde_json::to_string(&mark)?).as_bytes())?;
        Ok(Self {
            path: path.into(),
            inner: Mutex::new(Inner {
                file: Some(file),
                yardstick: Some(Yardstick::default()),
            }),
            start: Instant::now(),
        })
    }

    /// The same of an engine with this yardstick. Only the processor's normalizes times: a card keeps its speed, and its transforms say
    /// nothing of a table that was measured elsewhere.
    pub fn by(mut self, yardstick: Yardstick) -> Self {
        let inner = self.inner.get_mut();
        let inner = inner.unwrap_or_else(PoisonError::into_inner);
        inner.yardstick = yardstick.is_processors().then_some(yardstick);
        self
    }

    /// Begins a run of `program` on so many tokens; looks at the yardstick first.
    pub fn run(&self, program: &str, position: u32, tokens: u32) -> TracedRun<'_> {
        let now = self.start.elapsed();
        let seconds = self.inner().yardstick.as_mut().map(|y| y.seconds(LOOK));
        if let Some(seconds) = seconds {
            let milliseconds = seconds * 1e3;
            let look = trace::Yardstick { milliseconds };
            self.write(&event("C", (YARDSTICK, ""), now, Duration::ZERO, look));
        }
        TracedRun {
            trace: self,
            args: RunArgs {
                program: program.into(),
                position,
                tokens,
            },
            began: self.start.elapsed(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<A: Serialize>(&self, event: &trace::Event<A>) {
        let mut inner = self.inner();
        let Some(file) = &mut inner.file else {
            return;
        };
        let written = serde_json::to_string(event)
            .map_err(io::Error::from)
            .and_then(|line| file.write_all(format!(",\n{line}").as_bytes()));
        if let Err(cause) = written {
            inner.file = None;
            let path = self.path.display();
            eprintln!("the trace {path} ends here: {cause}; the tokens go on");
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Some(file) = &mut self.inner().file {
            // Without it the file is still a trace.
            let _closed = file.write_all(b"\n]\n");
        }
    }
}

impl TracedRun<'_> {
    /// Adds an operation that ends now; any other event changes nothing.
    pub fn hear<Ct>(&self, event: &Event<'_, Ct>) {
        let Moment::After { elapsed, .. } = event.moment else {
            return;
        };
        let args = OpArgs {
            program: self.args.program.clone(),
            template: event.template.into(),
            index: event.index as u32,
            layer: event.layer,
            group: event.group,
            position: self.args.position,
            level: event.instr.at.first().map(|at| at.level),
        };
        let began = self.trace.start.elapsed().saturating_sub(elapsed);
        let names = (event.site(), event.instr.op.name());
        self.trace
            .write(&self::event("X", (&names.0, names.1), began, elapsed, args));
    }

    /// The run has come to its end.
    pub fn end(self) {
        let (first, count) = (self.args.position, self.args.tokens);
        let name = match count {
            1 => format!("token {first}"),
            _ => format!("tokens {first} to {}", first + count.saturating_sub(1)),
        };
        let elapsed = self.trace.start.elapsed().saturating_sub(self.began);
        self.trace
            .write(&event("X", (&name, RUN), self.began, elapsed, self.args));
    }
}

fn event<A>(
    kind: &str,
    (name, category): (&str, &str),
    began: Duration,
    took: Duration,
    args: A,
) -> trace::Event<A> {
    let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
    trace::Event {
        name: name.into(),
        cat: category.into(),
        ph: kind.into(),
        ts: micros(began),
        dur: micros(took),
        pid: 1,
        tid: 1,
        args,
    }
}
