//! Text as it comes, and progress below it.
//!
//! Where both share a terminal, progress shows the line of text that still grows above its own line, so that neither can be drawn
//! over the other; complete lines are printed above both, and the last one when progress has gone. Where both go to one file or pipe,
//! text is written by whole lines.

use super::course::Course;
use super::{Failure, Meter, print};
use crate::client::{Listener, TextStream};
use crate::proto::wire;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use tokenizers::Tokenizer;
use tokio::sync::watch;

/// Characters of a growing line that are shown: more might not fit on a small terminal. The end shows all.
const SHOWN: usize = 600;

/// Shows a generation as it happens.
pub(super) struct Screen<'t> {
    pub meter: Meter,
    course: Course,
    stream: TextStream<'t>,
    lines: Lines,
    /// Whether text and progress are on one terminal, or in one file.
    shared: bool,
    /// The first failure to write text, and who is told to stop then.
    lost: Option<Failure>,
    quit: watch::Sender<bool>,
}

impl<'t> Screen<'t> {
    /// Shows the text to continue. If text cannot be written, `quit` becomes true.
    pub fn new(tokenizer: &'t Tokenizer, prompt: &str, quit: watch::Sender<bool>) -> Self {
        let meter = Meter::bar(1, "connecting");
        let terminal = io::stdout().is_terminal();
        let mut screen = Self {
            shared: terminal && meter.is_shown() || !terminal && one_file(),
            meter,
            course: Course::new(1),
            stream: TextStream::new(tokenizer),
            lines: Lines::default(),
            lost: None,
            quit,
        };
        screen.text(prompt);
        screen
    }

    fn text(&mut self, text: &str) {
        if !self.shared {
            return self.print(text);
        }
        let complete = self.lines.push(text);
        if !complete.is_empty() {
            self.meter.above(String::new());
            self.print(&complete);
        }
        self.meter.above(self.lines.shown());
    }

    fn print(&mut self, text: &str) {
        let printed = self.meter.aside(|| print(format_args!("{text}")));
        if let Err(failure) = printed {
            self.lost.get_or_insert(failure);
            self.quit.send_replace(true);
        }
    }

    fn show(&mut self, piece: Result<String, String>) {
        match piece {
            Ok(text) => self.text(&text),
            Err(cause) => self.meter.aside(|| eprintln!("{cause}")),
        }
    }

    /// Takes progress away and ends the line, so that all text stands alone.
    pub fn end(mut self) -> Result<(), Failure> {
        let rest = self.stream.finish();
        self.show(rest);
        drop(self.meter);
        self.lost.map_or(Ok(()), Err)?;
        print(format_args!("{}\n", self.lines.last))
    }
}

impl Listener for Screen<'_> {
    fn begins(&mut self, position: u32, count: u32, prompt: u32) {
        let what = if count > 1 {
            format!(
                "prompt tokens {} to {} of {prompt}",
                position + 1,
                position + count
            )
        } else if position < prompt {
            format!("prompt token {} of {prompt}", position + 1)
        } else {
            format!("token {}", position + 1 - prompt)
        };
        self.course.begin(&self.meter, 0, what);
    }

    fn progress(&mut self, progress: &wire::Progress) {
        self.course.hear(&self.meter, &progress.into());
    }

    fn token(&mut self, id: u32) {
        let piece = self.stream.push(id);
        self.show(piece);
    }
}

/// Whether standard output and standard error are the same file or pipe.
fn one_file() -> bool {
    let place = |fd: BorrowedFd<'_>| {
        let data = File::from(fd.try_clone_to_owned()?).metadata()?;
        io::Result::Ok((data.dev(), data.ino()))
    };
    let (out, err) = (io::stdout(), io::stderr());
    match (place(out.as_fd()), place(err.as_fd())) {
        (Ok(out), Ok(err)) => out == err,
        _ => false,
    }
}

/// Text in lines, of which the last one still grows.
#[derive(Default)]
struct Lines {
    last: String,
}

impl Lines {
    /// Adds text; returns the lines that it completes.
    fn push(&mut self, text: &str) -> String {
        self.last.push_str(text);
        let end = self.last.rfind('\n').map_or(0, |at| at + 1);
        let rest = self.last.split_off(end);
        std::mem::replace(&mut self.last, rest)
    }

    /// The growing line for a place where other things are drawn: its end if it is long, and nothing that moves the cursor.
    fn shown(&self) -> String {
        let skipped = self.last.chars().count().saturating_sub(SHOWN);
        let cut = if skipped > 0 { "…" } else { "" };
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let end = self.last.chars().skip(skipped).map(plain);
        cut.chars().chain(end).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the lines printed and the one that still grows come to.
    fn assembled(pieces: &[&str]) -> (String, String) {
        let mut lines = Lines::default();
        let printed = pieces.iter().map(|piece| lines.push(piece)).collect();
        (printed, lines.last)
    }

    #[test]
    fn every_piece_of_text_comes_once_and_in_order() {
        let pieces = ["Once", " upon\n", "", "a\n\nti", "me", "\n", "end"];
        let (printed, last) = assembled(&pieces);
        assert_eq!(printed, "Once upon\na\n\ntime\n");
        assert_eq!(last, "end");
        assert_eq!(printed + &last, pieces.concat());
        assert_eq!(assembled(&[]), Default::default());
    }

    #[test]
    fn a_growing_line_is_shown_whole_or_by_its_end() {
        let mut lines = Lines::default();
        lines.push("Grüße,\t日本\r🙂");
        assert_eq!(lines.shown(), "Grüße, 日本 🙂");
        lines.push(&"ä".repeat(SHOWN));
        assert_eq!(lines.shown(), format!("…{}", "ä".repeat(SHOWN)));
    }
}
