//! Pieces of every stage's printer.

use std::fmt;

struct With<F>(F);

impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Display for With<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0)(f)
    }
}

/// `text` in double quotes, escaped so that the lexer reads it back unchanged.
pub fn quoted(text: &str) -> impl fmt::Display {
    With(move |f: &mut fmt::Formatter<'_>| {
        f.write_str("\"")?;
        for c in text.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    })
}

/// The shortest decimal that parses back to the same float (`1.0`, `1e-6`, `inf`, `NaN`).
pub fn float(x: f64) -> impl fmt::Display {
    With(move |f: &mut fmt::Formatter<'_>| write!(f, "{x:?}"))
}

/// `items` in brackets: `[1, 2, 3]`.
pub fn list<I>(items: I) -> impl fmt::Display
where
    I: IntoIterator + Clone,
    I::Item: fmt::Display,
{
    With(move |f: &mut fmt::Formatter<'_>| {
        f.write_str("[")?;
        for (i, item) in items.clone().into_iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{item}")?;
        }
        f.write_str("]")
    })
}
