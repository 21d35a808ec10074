//! What verifiers and checkers report: every rule that does not hold, each with the statement that breaks it.

use std::fmt::{self, Display};

/// One rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where: a table entry, a template, a file.
    pub place: String,
    /// The printed statement, if it is one's.
    pub statement: Option<String>,
    /// What does not hold.
    pub message: String,
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        let mut statement = self.statement.iter();
        statement.try_for_each(|statement| write!(f, "\n    {statement}"))
    }
}

/// Everything that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[diagnostic(code(verify::violations))]
pub struct Violations {
    /// Of what: `the leveled stage`, `the plan`.
    pub subject: &'static str,
    /// In the order of the text.
    pub list: Vec<Violation>,
}

impl Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} breaks {} rules:", self.subject, self.list.len())?;
        let mut list = self.list.iter();
        list.try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

/// Collects violations of one place after another.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) list: Vec<Violation>,
    place: String,
    statement: Option<String>,
}

impl Report {
    /// What follows is about `place`, and no statement.
    pub(crate) fn at(&mut self, place: impl Display) {
        self.place = place.to_string();
        self.statement = None;
    }

    /// What follows is about a statement of the same place.
    pub(crate) fn statement(&mut self, statement: impl Display) {
        self.statement = Some(statement.to_string());
    }

    /// `message` unless `holds`; the same value back.
    pub(crate) fn require(&mut self, holds: bool, message: impl FnOnce() -> String) -> bool {
        if !holds {
            self.list.push(Violation {
                place: self.place.clone(),
                statement: self.statement.clone(),
                message: message(),
            });
        }
        holds
    }

    /// Nothing, or everything.
    pub(crate) fn finish(self, subject: &'static str) -> Result<(), Violations> {
        if self.list.is_empty() {
            return Ok(());
        }
        let list = self.list;
        Err(Violations { subject, list })
    }
}
