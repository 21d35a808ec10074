//! The text form shared by every stage: an assembly-like language, one statement per line.
//!
//! ```text
//! template layer(%0: [64]) -> %7 {          ; a comment runs to the end of the line
//!   %1 = rmsnorm %0, weight="model.layers.{i}.input_layernorm.weight", eps=1e-6 : [64]  @layers.{i}.attention_norm
//!   …
//! }
//! ```
//!
//! The tokens:
//!
//! | token | written | used for |
//! |---|---|---|
//! | word | `rmsnorm`, `kv.0`, `_x` | op names, attribute names, symbolic constants |
//! | number | `-3`, `2.5`, `1e-6`, `inf`, `NaN` | integers and floats; floats print shortest and parse back bit for bit |
//! | string | `"…"` with `\"`, `\\`, `\n`, `\t` | names from outside: checkpoint tensors, digests |
//! | value | `%12` | SSA values |
//! | site | `@layers.{i}.mlp.up_proj` | where in the model a statement comes from, to the next blank |
//! | sign | `->` or one of `= : , . ( ) [ ] { } × * + - / < > \| !` and so on | structure |
//!
//! A statement ends with its line; inside `(…)` and `[…]` a line break is a blank, so long lists may wrap. Blank lines and
//! comments mean nothing.
//!
//! A stage's parser is a recursive descent over [`Parser`]; its printer is a [`std::fmt::Display`] that uses [`quoted`]
//! for strings, [`float`] for floats and [`list`] for lists, which together guarantee that what prints parses back.

mod lexer;
mod parser;
mod print;

pub use lexer::{Position, Token, TokenKind};
pub use parser::{ParseError, Parser};
pub use print::{float, list, quoted};
