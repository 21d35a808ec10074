//! Progress on standard error.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// How often a waiting line moves.
const TICK: Duration = Duration::from_millis(120);

/// One line of progress: a bar where the amount of work is known, else a spinner. It vanishes when it is dropped, and shows
/// nothing where standard error is no terminal.
pub struct Meter(ProgressBar);

impl Meter {
    /// A line for work of unknown size.
    pub fn spinner(message: impl Into<String>) -> Self {
        let bar = ProgressBar::new_spinner().with_message(message.into());
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// A line for `total` pieces of work.
    pub fn bar(total: u64, message: impl Into<String>) -> Self {
        let bar = ProgressBar::new(total).with_message(message.into());
        let style = "{msg} [{bar:30}] {pos}/{len} · {elapsed} · {eta} left";
        bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Bytes instead of pieces.
    pub fn bytes(message: impl Into<String>) -> Self {
        let bar = ProgressBar::new(0).with_message(message.into());
        let style = "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} · {eta} left";
        bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Self(bar)
    }

    /// How far the work is.
    pub fn set(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// What is going on now.
    pub fn say(&self, message: impl Into<String>) {
        self.0.set_message(message.into());
    }

    /// Prints a line above.
    pub fn println(&self, line: &str) {
        self.0.suspend(|| eprintln!("{line}"));
    }

    /// Runs `print` while the line is out of the way.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Bytes for people.
pub fn human_bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
