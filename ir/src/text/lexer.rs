//! Text to tokens. See the module above for the token table.

use std::fmt;

use super::ParseError;

/// A place in a text, both counted from 1; columns count characters, not bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Character within the line, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// What a token is, with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKind {
    /// An op name, attribute name or symbolic constant.
    Word(String),
    /// A number as written; the parser reads it as the integer or float type it needs.
    Number(String),
    /// A quoted string, escapes resolved.
    Str(String),
    /// `%n`.
    Value(u32),
    /// `@…`, without the `@`.
    Site(String),
    /// `->`.
    Arrow,
    /// Any other single character.
    Sign(char),
    /// End of a line outside parentheses and brackets; never twice in a row.
    Newline,
    /// End of the text.
    End,
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "`{word}`"),
            Self::Number(number) => write!(f, "the number {number}"),
            Self::Str(text) => write!(f, "the string {}", super::quoted(text)),
            Self::Value(id) => write!(f, "%{id}"),
            Self::Site(site) => write!(f, "@{site}"),
            Self::Arrow => write!(f, "`->`"),
            Self::Sign(sign) => write!(f, "`{sign}`"),
            Self::Newline => write!(f, "the end of the line"),
            Self::End => write!(f, "the end of the text"),
        }
    }
}

/// A token and where it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it starts.
    pub at: Position,
}

/// All tokens of `text`, ending in one [`TokenKind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, ParseError> {
    let mut lexer = Lexer {
        rest: text.chars().peekable(),
        at: Position { line: 1, column: 1 },
        depth: 0,
        tokens: Vec::new(),
    };
    while lexer.token()? {}
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    at: Position,
    /// How many `(` and `[` are open: inside, a line break is a blank.
    depth: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.at = Position {
                line: self.at.line + 1,
                column: 1,
            };
        } else {
            self.at.column += 1;
        }
        Some(c)
    }

    fn take_while(&mut self, into: &mut String, keep: impl Fn(char) -> bool) {
        while let Some(&c) = self.rest.peek() {
            if !keep(c) {
                break;
            }
            into.push(c);
            self.bump();
        }
    }

    /// Lexes one token (or skips one blank or comment); false after the end.
    fn token(&mut self) -> Result<bool, ParseError> {
        let at = self.at;
        let Some(c) = self.bump() else {
            self.newline(at);
            self.tokens.push(Token {
                kind: TokenKind::End,
                at,
            });
            return Ok(false);
        };
        let kind = match c {
            '\n' => {
                if self.depth == 0 {
                    self.newline(at);
                }
                return Ok(true);
            }
            c if c.is_whitespace() => return Ok(true),
            ';' => {
                self.take_while(&mut String::new(), |c| c != '\n');
                return Ok(true);
            }
            '"' => TokenKind::Str(self.string(at)?),
            '%' => self.value(at)?,
            '@' => {
                let mut site = String::new();
                self.take_while(&mut site, |c| !c.is_whitespace());
                TokenKind::Site(site)
            }
            '-' if self.rest.peek() == Some(&'>') => {
                self.bump();
                TokenKind::Arrow
            }
            '-' if matches!(self.rest.peek(), Some('0'..='9' | 'i')) => self.number("-".into()),
            '0'..='9' => self.number(c.into()),
            c if c.is_alphabetic() || c == '_' => {
                let mut word = String::from(c);
                self.take_while(&mut word, |c| c.is_alphanumeric() || c == '_' || c == '.');
                if word == "inf" || word == "NaN" {
                    TokenKind::Number(word)
                } else {
                    TokenKind::Word(word)
                }
            }
            c => {
                match c {
                    '(' | '[' => self.depth += 1,
                    ')' | ']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
                TokenKind::Sign(c)
            }
        };
        self.tokens.push(Token { kind, at });
        Ok(true)
    }

    fn newline(&mut self, at: Position) {
        let wanted = self
            .tokens
            .last()
            .is_some_and(|last| last.kind != TokenKind::Newline);
        if wanted {
            self.tokens.push(Token {
                kind: TokenKind::Newline,
                at,
            });
        }
    }

    fn number(&mut self, mut number: String) -> TokenKind {
        self.take_while(&mut number, |c| {
            c.is_ascii_alphanumeric() || c == '.' || c == '_'
        });
        // An exponent's sign belongs to the number: 1e-6, 2.5E+3.
        if number.ends_with(['e', 'E']) && matches!(self.rest.peek(), Some('-' | '+')) {
            number.extend(self.bump());
            self.take_while(&mut number, |c| c.is_ascii_digit());
        }
        TokenKind::Number(number)
    }

    fn value(&mut self, at: Position) -> Result<TokenKind, ParseError> {
        let mut digits = String::new();
        self.take_while(&mut digits, |c| c.is_ascii_digit());
        match digits.parse() {
            Ok(id) => Ok(TokenKind::Value(id)),
            Err(_) => Err(ParseError::new(
                at,
                "a value number after `%`, at most 4294967295",
                format!("`%{digits}`"),
            )),
        }
    }

    fn string(&mut self, at: Position) -> Result<String, ParseError> {
        let mut text = String::new();
        loop {
            let here = self.at;
            match self.bump() {
                Some('"') => return Ok(text),
                Some('\\') => match self.bump() {
                    Some(c @ ('"' | '\\')) => text.push(c),
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    other => {
                        let found =
                            other.map_or("the end of the text".into(), |c| format!("`\\{c}`"));
                        return Err(ParseError::new(
                            here,
                            "one of the escapes \\\" \\\\ \\n \\t",
                            found,
                        ));
                    }
                },
                Some('\n') => {
                    return Err(ParseError::new(
                        at,
                        "a closing `\"` on the same line",
                        "the end of the line",
                    ));
                }
                None => return Err(ParseError::new(at, "a closing `\"`", "the end of the text")),
                Some(c) => text.push(c),
            }
        }
    }
}
