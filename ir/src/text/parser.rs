//! A cursor over tokens with one method per thing a stage's grammar needs.

use miette::Diagnostic;
use std::str::FromStr;

use super::lexer::{self, Position, Token, TokenKind};

/// A text that is not what the grammar asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Diagnostic)]
#[error("{at}: expected {expected}, found {found}")]
#[diagnostic(code(text::parse))]
pub struct ParseError {
    /// Where.
    pub at: Position,
    /// What the grammar asks for there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl ParseError {
    /// An error at `at`.
    pub fn new(at: Position, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            at,
            expected: expected.into(),
            found: found.into(),
        }
    }
}

type Parsed<T> = Result<T, ParseError>;

/// A cursor over a text's tokens. Every method either consumes what it names or leaves the cursor where it was and says
/// what was expected.
#[derive(Debug, Clone)]
pub struct Parser {
    tokens: Vec<Token>,
    next: usize,
}

impl Parser {
    /// Starts at the first token of `text`; errors are malformed tokens (an unclosed string, `%x`).
    pub fn new(text: &str) -> Parsed<Self> {
        Ok(Self {
            tokens: lexer::tokens(text)?,
            next: 0,
        })
    }

    /// The next token.
    pub fn peek(&self) -> &TokenKind {
        &self.current().kind
    }

    /// Where the next token starts.
    pub fn position(&self) -> Position {
        self.current().at
    }

    fn current(&self) -> &Token {
        // The list ends in `End`, and `advance` never steps past it.
        &self.tokens[self.next]
    }

    fn advance(&mut self) {
        self.next = (self.next + 1).min(self.tokens.len() - 1);
    }

    /// The error "`expected` here, but found the next token".
    pub fn error(&self, expected: impl Into<String>) -> ParseError {
        ParseError::new(self.position(), expected, self.peek().to_string())
    }

    /// True if the next token is the word `word`.
    pub fn at_word(&self, word: &str) -> bool {
        matches!(self.peek(), TokenKind::Word(w) if w == word)
    }

    /// True if the next token is the sign `sign`.
    pub fn at_sign(&self, sign: char) -> bool {
        *self.peek() == TokenKind::Sign(sign)
    }

    fn eat(&mut self, here: bool) -> bool {
        if here {
            self.advance();
        }
        here
    }

    /// Consumes the word `word` if it is next.
    pub fn eat_word(&mut self, word: &str) -> bool {
        self.eat(self.at_word(word))
    }

    /// Consumes the sign `sign` if it is next.
    pub fn eat_sign(&mut self, sign: char) -> bool {
        self.eat(self.at_sign(sign))
    }

    /// Consumes the end of a line if it is next.
    pub fn eat_newline(&mut self) -> bool {
        self.eat(*self.peek() == TokenKind::Newline)
    }

    fn require(&self, consumed: bool, expected: impl FnOnce() -> String) -> Parsed<()> {
        if consumed {
            Ok(())
        } else {
            Err(self.error(expected()))
        }
    }

    /// The word `word`.
    pub fn keyword(&mut self, word: &str) -> Parsed<()> {
        let eaten = self.eat_word(word);
        self.require(eaten, || format!("`{word}`"))
    }

    /// The sign `sign`.
    pub fn sign(&mut self, sign: char) -> Parsed<()> {
        let eaten = self.eat_sign(sign);
        self.require(eaten, || format!("`{sign}`"))
    }

    /// `->`.
    pub fn arrow(&mut self) -> Parsed<()> {
        let eaten = self.eat(*self.peek() == TokenKind::Arrow);
        self.require(eaten, || "`->`".into())
    }

    /// The end of a line.
    pub fn newline(&mut self) -> Parsed<()> {
        let eaten = self.eat_newline();
        self.require(eaten, || "the end of the line".into())
    }

    /// The end of the text.
    pub fn end(&mut self) -> Parsed<()> {
        self.eat_newline();
        self.require(*self.peek() == TokenKind::End, || {
            "the end of the text".into()
        })
    }

    /// Any word; `what` names it in the error ("an op", "a state's name").
    pub fn word(&mut self, what: &str) -> Parsed<String> {
        match self.peek() {
            TokenKind::Word(word) => {
                let word = word.clone();
                self.advance();
                Ok(word)
            }
            _ => Err(self.error(what)),
        }
    }

    /// A quoted string.
    pub fn string(&mut self, what: &str) -> Parsed<String> {
        match self.peek() {
            TokenKind::Str(text) => {
                let text = text.clone();
                self.advance();
                Ok(text)
            }
            _ => Err(self.error(format!("{what} in double quotes"))),
        }
    }

    /// A quoted string read by its type's `FromStr`; the error names what the type says is wrong.
    pub fn string_as<T: FromStr>(&mut self, what: &str) -> Parsed<T>
    where
        T::Err: std::fmt::Display,
    {
        let at = self.position();
        let text = self.string(what)?;
        text.parse()
            .map_err(|e| ParseError::new(at, what, format!("{} ({e})", super::quoted(&text))))
    }

    /// A number read as `T`: an integer type or `f64`.
    pub fn number<T: FromStr>(&mut self, what: &str) -> Parsed<T> {
        let parsed = match self.peek() {
            TokenKind::Number(text) => text.parse().ok(),
            _ => None,
        };
        match parsed {
            Some(number) => {
                self.advance();
                Ok(number)
            }
            None => Err(self.error(what)),
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self) -> Parsed<bool> {
        if self.eat_word("true") {
            return Ok(true);
        }
        let eaten = self.eat_word("false");
        self.require(eaten, || "`true` or `false`".into())?;
        Ok(false)
    }

    /// `%n`.
    pub fn value(&mut self) -> Parsed<u32> {
        match *self.peek() {
            TokenKind::Value(id) => {
                self.advance();
                Ok(id)
            }
            _ => Err(self.error("a value such as %3")),
        }
    }

    /// `@…`, without the `@`.
    pub fn site(&mut self) -> Parsed<String> {
        match self.peek() {
            TokenKind::Site(site) => {
                let site = site.clone();
                self.advance();
                Ok(site)
            }
            _ => Err(self.error("a site such as @layers.{i}.mlp.up_proj")),
        }
    }

    /// `name=`: the start of an attribute.
    pub fn attribute(&mut self, name: &str) -> Parsed<()> {
        self.keyword(name)?;
        self.sign('=')
    }

    /// `, name=`: an attribute after an operand or another attribute.
    pub fn next_attribute(&mut self, name: &str) -> Parsed<()> {
        self.sign(',')?;
        self.attribute(name)
    }

    /// `, name=` if it is next: an attribute that may be left out.
    pub fn optional_attribute(&mut self, name: &str) -> Parsed<bool> {
        let named = matches!(&self.tokens.get(self.next + 1), Some(t) if t.kind == TokenKind::Word(name.into()));
        if !(self.at_sign(',') && named) {
            return Ok(false);
        }
        self.next_attribute(name)?;
        Ok(true)
    }

    /// `open item, item, … close`; a comma after the last item is allowed.
    pub fn sequence<T>(
        &mut self,
        open: char,
        close: char,
        mut item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        self.sign(open)?;
        let mut items = Vec::new();
        while !self.eat_sign(close) {
            items.push(item(self)?);
            if !self.at_sign(close) && !self.eat_sign(',') {
                return Err(self.error(format!("`,` or `{close}`")));
            }
        }
        Ok(items)
    }

    /// `[item, item, …]`.
    pub fn list<T>(&mut self, item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.sequence('[', ']', item)
    }

    /// `{`, statements each on its own line, `}`.
    pub fn block<T>(
        &mut self,
        mut statement: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        self.sign('{')?;
        self.eat_newline();
        let mut statements = Vec::new();
        while !self.eat_sign('}') {
            statements.push(statement(self)?);
            if !self.at_sign('}') {
                self.newline()?;
            }
        }
        Ok(statements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_statement_reads_left_to_right() {
        let text = "\n; heading\n%3 = linear %2, weight=\"a.{i}\\\"b\" : [256,\n 4]  @layers.{i}.x ; note\n\n";
        let mut p = Parser::new(text).unwrap();
        assert_eq!(p.value(), Ok(3));
        p.sign('=').unwrap();
        assert_eq!(p.word("an op").unwrap(), "linear");
        assert_eq!(p.value(), Ok(2));
        assert!(!p.optional_attribute("bias").unwrap());
        assert!(p.optional_attribute("weight").unwrap());
        assert_eq!(p.string("a tensor name").unwrap(), "a.{i}\"b");
        p.sign(':').unwrap();
        assert_eq!(p.list(|p| p.number::<usize>("a size")).unwrap(), [256, 4]);
        assert_eq!(p.site().unwrap(), "layers.{i}.x");
        p.newline().unwrap();
        p.end().unwrap();
    }

    #[test]
    fn errors_name_place_expectation_and_finding() {
        let mut p = Parser::new("scale = 1e-6\nlayer %1").unwrap();
        p.keyword("scale").unwrap();
        p.sign('=').unwrap();
        assert_eq!(
            p.number::<u32>("a count").unwrap_err().to_string(),
            "line 1, column 9: expected a count, found the number 1e-6"
        );
        assert_eq!(p.number::<f64>("a scale"), Ok(1e-6));
        p.newline().unwrap();
        p.keyword("layer").unwrap();
        assert_eq!(
            p.string("a name").unwrap_err().to_string(),
            "line 2, column 7: expected a name in double quotes, found %1"
        );
    }

    #[test]
    fn malformed_tokens_are_located() {
        assert_eq!(
            Parser::new("x \"abc\ny").unwrap_err().at,
            Position { line: 1, column: 3 }
        );
        assert_eq!(
            Parser::new("\n %x").unwrap_err().at,
            Position { line: 2, column: 2 }
        );
        assert_eq!(
            Parser::new("é \"\\q\"").unwrap_err().at,
            Position { line: 1, column: 4 }
        );
    }

    #[test]
    fn blocks_are_lines_between_braces() {
        let mut p = Parser::new("{\n a\n\n b }\n{}").unwrap();
        assert_eq!(p.block(|p| p.word("a word")).unwrap(), ["a", "b"]);
        p.newline().unwrap();
        assert_eq!(p.block(|p| p.word("a word")).unwrap(), [""; 0]);
        assert!(
            Parser::new("{ a b }")
                .unwrap()
                .block(|p| p.word("a word"))
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn floats_round_trip_bit_for_bit(bits: u64) {
            let x = f64::from_bits(bits);
            let back: f64 = Parser::new(&crate::text::float(x).to_string()).unwrap().number("a float").unwrap();
            prop_assert!(back.to_bits() == bits || (x.is_nan() && back.is_nan()));
        }

        #[test]
        fn strings_round_trip(text in ".*\n?.*") {
            let printed = crate::text::quoted(&text).to_string();
            prop_assert_eq!(Parser::new(&printed).unwrap().string("text").unwrap(), text);
        }

        #[test]
        fn any_text_lexes_or_fails_without_panic(text in ".*") {
            if let Ok(mut p) = Parser::new(&text) {
                while p.end().is_err() {
                    p.advance();
                }
            }
        }
    }
}
