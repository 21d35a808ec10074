//! Progress on standard error.

use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Once;
use std::time::Duration;

/// How often a waiting line moves.
const TICK: Duration = Duration::from_millis(120);
/// A line of work in pieces, and in bytes. What is going on comes last and is cut to the terminal's width.
const PIECES: &str = "[{bar:20}] {pos}/{len} · {elapsed} · {eta} left · {wide_msg}";
/// A line of work of which the message says how far it is.
const STEPS: &str = "[{bar:10}] {elapsed} · {wide_msg}";
const BYTES: &str = "[{bar:10}] {binary_bytes}/{binary_total_bytes} · {eta} left · {wide_msg}";

/// One line of progress. It vanishes when it is dropped, and shows nothing where standard error is no terminal.
pub struct Meter {
    bar: ProgressBar,
    line: &'static str,
    /// Whether there is text above.
    topped: bool,
}

impl Meter {
    /// A line for `total` pieces of work.
    pub fn bar(total: u64, message: impl Into<String>) -> Self {
        let bar = ProgressBar::new(total).with_message(message.into());
        bar.set_style(style(PIECES));
        bar.enable_steady_tick(TICK);
        Self {
            bar,
            line: PIECES,
            topped: false,
        }
    }

    /// A line for steps, of which the message says how far they are.
    pub fn steps() -> Self {
        let mut meter = Self::bar(1, "");
        meter.in_steps();
        meter.set(0, 1);
        meter
    }

    /// Counts bytes from now on.
    pub fn in_bytes(&mut self) {
        self.line = BYTES;
        self.restyle();
    }

    /// Leaves it to the message to say how far the work is.
    pub fn in_steps(&mut self) {
        self.line = STEPS;
        self.restyle();
    }

    /// How far the work is.
    pub fn set(&self, done: u64, total: u64) {
        set(&self.bar, done, total);
    }

    /// For work elsewhere: hears how far it is. Where the line shows nothing, `announce` of the total is printed once.
    pub fn reporter(
        &self,
        announce: impl Fn(u64) -> String + Send + Sync + 'static,
    ) -> impl Fn(u64, u64) + Send + Sync + 'static {
        let (bar, once) = (self.bar.clone(), Once::new());
        move |done, total| {
            if bar.is_hidden() {
                once.call_once(|| eprintln!("{}", announce(total)));
            }
            set(&bar, done, total);
        }
    }

    /// Says it on a line of its own where the line shows nothing.
    pub fn announce(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{line}");
        }
    }

    /// What is going on now.
    pub fn say(&self, message: impl Into<String>) {
        self.bar.set_message(message.into());
    }

    /// Whether anything is shown.
    pub fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Shows a line of text above the progress, in place of the one before.
    pub fn above(&mut self, text: String) {
        self.topped = !text.is_empty();
        self.restyle();
        self.bar.set_prefix(text);
    }

    fn restyle(&self) {
        let style = match self.topped {
            true => style(&format!("{{prefix}}\n{}", self.line)),
            false => style(self.line),
        };
        self.bar.set_style(style);
    }

    /// Runs `print` while the line is out of the way.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn set(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Bytes for people.
pub fn human_bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
