//! Every error has a code of its own, and `tests/ERRORS.md` lists them all.
//!
//! The list is made of the sources: of each variant its code, its documentation and its message. `SOTTO_BLESS=1` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// One error, as its source has it.
#[derive(Debug)]
struct Coded {
    code: String,
    meaning: String,
    message: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every source file of the product.
fn sources() -> Vec<PathBuf> {
    let mut open: Vec<PathBuf> = ["compiler/src", "ir", "runtime"]
        .map(|folder| root().join(folder))
        .into();
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => open.push(path),
                Some(extension) if extension == "rs" => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// The attribute that starts at a line: its text without line breaks, and the line after it.
fn attribute(lines: &[&str], start: usize) -> (String, usize) {
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate().skip(start) {
        // a line that ends in a backslash goes on without the next one's blanks
        let line = line.trim();
        text += line.strip_suffix('\\').unwrap_or(line);
        if line.ends_with(")]") {
            return (text, i + 1);
        }
        if !line.ends_with('\\') && !line.ends_with('(') {
            text.push(' ');
        }
    }
    panic!("an attribute without an end: {text}");
}

/// The text of an attribute's first string.
fn message(attribute: &str) -> String {
    let mut text = String::new();
    let mut rest = attribute.chars().skip_while(|c| *c != '"').skip(1);
    while let Some(c) = rest.next() {
        match c {
            '"' => break,
            '\\' => text.extend(rest.next().map(|c| if c == 'n' { ' ' } else { c })),
            c => text.push(c),
        }
    }
    text
}

/// The documentation above a line, attributes aside, up to its first full stop's line.
fn meaning(lines: &[&str], end: usize) -> String {
    let above = lines[..end].iter().rev().map(|line| line.trim());
    let mut docs: Vec<&str> = above
        .skip_while(|line| line.starts_with("#["))
        .map_while(|line| line.strip_prefix("///"))
        .map(str::trim)
        .collect();
    docs.reverse();
    docs.join(" ")
}

/// The errors of a file; what has no code is a complaint.
fn errors(path: &Path, complaints: &mut Vec<String>) -> Vec<Coded> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for at in 0..lines.len() {
        if !lines[at].trim_start().starts_with("#[error(") {
            continue;
        }
        let (error, next) = attribute(&lines, at);
        let diagnostic = lines[next].trim();
        if diagnostic == "#[diagnostic(transparent)]" {
            continue;
        }
        let code = diagnostic
            .strip_prefix("#[diagnostic(code(")
            .and_then(|rest| rest.strip_suffix("))]"));
        let Some(code) = code else {
            complaints.push(format!("{}:{}: no code", path.display(), next + 1));
            continue;
        };
        found.push(Coded {
            code: code.into(),
            meaning: meaning(&lines, at),
            message: message(&error),
        });
    }
    found
}

fn list(errors: &BTreeMap<String, Coded>) -> String {
    let mut list = String::from(
        "# Errors\n\n\
         What `sottoc` and `sotto` refuse or report, as `error[CODE]: message`. A message names the place and, where there is one, the \
         remedy; braces stand for what is filled in. Exit codes are in the README. Three codes have no entry below: `command` (the command \
         line, or a file that could not be written), `check` (a check found against what it checked) and `server` (server or transport).\n\n\
         Made from the sources by `cargo test -p sotto-tests --test errors`.\n",
    );
    let mut area = "";
    for (code, error) in errors {
        let (of, _) = code.split_once("::").unwrap();
        if of != area {
            area = of;
            write!(
                list,
                "\n## {area}\n\n| code | what happened | message |\n|---|---|---|\n"
            )
            .unwrap();
        }
        let cell = |text: &str| {
            text.replace('|', "\\|")
                .replace("{{", "{")
                .replace("}}", "}")
        };
        let (meaning, message) = (cell(&error.meaning), cell(&error.message));
        writeln!(list, "| `{code}` | {meaning} | {message} |").unwrap();
    }
    list
}

#[test]
fn every_error_has_a_code_of_its_own_and_is_listed() {
    let mut complaints = Vec::new();
    let mut all = BTreeMap::new();
    for path in sources() {
        for error in errors(&path, &mut complaints) {
            let code = error.code.clone();
            if !code.contains("::") || error.meaning.is_empty() {
                complaints.push(format!(
                    "{code}: in {} without an area or a meaning",
                    path.display()
                ));
            }
            if let Some(other) = all.insert(code.clone(), error) {
                complaints.push(format!("{code}: twice, also for {other:?}"));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(all.len() > 200, "{} errors found", all.len());
    let (path, list) = (root().join("tests/ERRORS.md"), list(&all));
    if std::env::var_os("SOTTO_BLESS").is_some() {
        std::fs::write(&path, &list).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == list,
        "tests/ERRORS.md is not what the sources say: SOTTO_BLESS=1 writes it anew"
    );
}
