//! Progress on standard error.

use crate::driver::News;
use indicatif::{ProgressBar, ProgressStyle};

/// One line of progress. It vanishes when it is dropped, and shows nothing where standard error is no terminal.
pub struct Meter {
    bar: ProgressBar,
    what: &'static str,
}

impl Meter {
    /// Nothing to show yet.
    pub fn new() -> Self {
        let style = "{msg} [{bar:30}] {pos}/{len} · {elapsed} · {eta} left";
        let bar = ProgressBar::new(0);
        bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Self { bar, what: "" }
    }

    /// How far work called `what` is; another name starts another line.
    pub fn set(&mut self, what: &'static str, done: usize, total: usize) {
        if self.what != what {
            self.what = what;
            self.bar.reset();
            self.bar.set_message(what);
        }
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
    }

    /// Shows what a compilation tells.
    pub fn hear(&mut self, news: News<'_>) {
        match news {
            News::Found(line) => self.bar.suspend(|| eprintln!("{line}")),
            News::Doing { what, done, total } => self.set(what, done, total),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
