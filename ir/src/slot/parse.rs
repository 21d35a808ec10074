//! The text form's parser. It accepts what the printer prints, with free blanks, line breaks in lists and comments; whether
//! the result makes sense is the verifier's business.

mod data;

use super::parse_layout::{group, ty};
use super::print::SLOT_VERSION;
use super::{
    At, BootstrapKind, DataId, Form, Matrix, MatrixId, Node, Op, Pairing, Param, Plain,
    PlainFactor, PlainId, Poly, PolyId, Program, Stage, StateDecl, StateId, Step, Template,
    ValueId, ValueType,
};
use crate::text::{ParseError, Parser, TokenKind};
use data::data;
use std::str::FromStr;

pub(super) type Parsed<T> = Result<T, ParseError>;

/// How a stage's annotation is read.
pub trait ParseNote: Sized {
    /// What stands after the type of a value.
    fn parse(p: &mut Parser) -> Parsed<Self>;
}

impl ParseNote for () {
    fn parse(_: &mut Parser) -> Parsed<Self> {
        Ok(())
    }
}

impl ParseNote for At {
    fn parse(p: &mut Parser) -> Parsed<Self> {
        p.keyword("at")?;
        let (level, degree) = fraction(p)?;
        let degree = u8::try_from(degree).map_err(|_| p.error("degree 1 or 2 before this"))?;
        Ok(Self { level, degree })
    }
}

impl<S: Stage> FromStr for Program<S> {
    type Err = ParseError;

    fn from_str(text: &str) -> Parsed<Self> {
        let mut p = Parser::new(text)?;
        p.keyword(S::NAME)?;
        let at_version = p.clone();
        if p.number::<u32>("a version")? != SLOT_VERSION {
            let expected = format!("version {SLOT_VERSION} of the {} stage", S::NAME);
            return Err(at_version.error(expected));
        }
        p.newline()?;
        p.keyword("checkpoint")?;
        let model_digest = p.string("the checkpoint's digest")?;
        p.newline()?;
        p.keyword("program")?;
        let name = p.string("the program's name")?;
        p.next_attribute("slots")?;
        let slots = count(&mut p)?;
        p.next_attribute("block")?;
        let block = count(&mut p)?;
        p.next_attribute("capacity")?;
        let capacity = count(&mut p)?;
        p.newline()?;
        let program = Self {
            name,
            model_digest,
            slots,
            block,
            capacity,
            data: table(&mut p, "data", 'd', data)?,
            plains: table(&mut p, "plain", 'p', plain)?,
            matrices: table(&mut p, "matrix", 'm', matrix)?,
            polys: table(&mut p, "poly", 'f', poly)?,
            states: table(&mut p, "state", 's', state)?,
            templates: table(&mut p, "template", 't', template)?,
            steps: steps(&mut p)?,
        };
        p.end()?;
        Ok(program)
    }
}

pub(super) fn count(p: &mut Parser) -> Parsed<u32> {
    p.number("a count")
}

pub(super) fn real(p: &mut Parser) -> Parsed<f64> {
    p.number("a number")
}

/// `a/b`.
pub(super) fn fraction(p: &mut Parser) -> Parsed<(u32, u32)> {
    let a = count(p)?;
    p.sign('/')?;
    Ok((a, count(p)?))
}

/// A letter and a number: `p12`.
fn index(p: &mut Parser, letter: char) -> Parsed<u32> {
    let parsed = match p.peek() {
        TokenKind::Word(word) => word.strip_prefix(letter).and_then(|n| n.parse().ok()),
        _ => None,
    };
    let index = parsed.ok_or_else(|| p.error(format!("a name such as {letter}0")))?;
    p.word("a name")?;
    Ok(index)
}

/// `, x12`.
fn next_index(p: &mut Parser, letter: char) -> Parsed<u32> {
    p.sign(',')?;
    index(p, letter)
}

/// Lines `word x0 item`, numbered in order.
fn table<T>(
    p: &mut Parser,
    word: &str,
    letter: char,
    item: impl Fn(&mut Parser) -> Parsed<T>,
) -> Parsed<Vec<T>> {
    let mut items = Vec::new();
    while p.eat_word(word) {
        let here = p.clone();
        if index(p, letter)? as usize != items.len() {
            return Err(here.error(format!("{letter}{}, the next number", items.len())));
        }
        items.push(item(p)?);
        p.newline()?;
    }
    Ok(items)
}

fn steps(p: &mut Parser) -> Parsed<Vec<Step>> {
    let mut steps = Vec::new();
    while p.eat_word("step") {
        let template = index(p, 't')? as usize;
        p.next_attribute("first")?;
        let first = count(p)?;
        p.next_attribute("count")?;
        let count = count(p)?;
        p.newline()?;
        steps.push(Step {
            template,
            first,
            count,
        });
    }
    Ok(steps)
}

pub(super) fn one_of(p: &mut Parser, yes: &str, no: &str) -> Parsed<bool> {
    let found = p.eat_word(yes);
    if !found && !p.eat_word(no) {
        return Err(p.error(format!("`{yes}` or `{no}`")));
    }
    Ok(found)
}

fn value(p: &mut Parser) -> Parsed<ValueId> {
    p.value().map(ValueId)
}

fn typed<S: Stage>(p: &mut Parser) -> Parsed<(ValueType, S::Note)> {
    Ok((ty(p)?, S::Note::parse(p)?))
}

fn template<S: Stage>(p: &mut Parser) -> Parsed<Template<S>> {
    let name = p.string("the template's name")?;
    let params = p.sequence('(', ')', |p| {
        let value = value(p)?;
        p.sign(':')?;
        let (ty, note) = typed::<S>(p)?;
        Ok(Param { value, ty, note })
    })?;
    p.arrow()?;
    let results = p.list(value)?;
    let nodes = p.block(node)?;
    Ok(Template {
        name,
        params,
        nodes,
        results,
    })
}

fn node<S: Stage>(p: &mut Parser) -> Parsed<Node<S>> {
    let mut results = Vec::new();
    while let TokenKind::Value(_) = p.peek() {
        results.push(value(p)?);
        if !p.eat_sign(',') {
            p.sign('=')?;
            break;
        }
    }
    let op = op(p)?;
    let (mut types, mut notes) = (Vec::new(), Vec::new());
    for i in 0..results.len() {
        p.sign(if i == 0 { ':' } else { ',' })?;
        let (ty, note) = typed::<S>(p)?;
        types.push(ty);
        notes.push(note);
    }
    Ok(Node {
        results,
        op,
        types,
        notes,
        site: p.site()?,
    })
}

fn op(p: &mut Parser) -> Parsed<Op<ValueId>> {
    let here = p.clone();
    let name = p.word("an operation")?;
    if name == "sum_groups" {
        return sum_groups(p);
    }
    let v = value(p)?;
    let attribute = |p: &mut Parser| p.sign(',');
    Ok(match name.as_str() {
        "rotate" => {
            p.next_attribute("by")?;
            let by = p.number("a step")?;
            Op::Rotate { v, by }
        }
        "conjugate" => Op::Conjugate { v },
        "mul_i" => Op::MulI { v },
        "neg" => Op::Neg { v },
        "rescale" => Op::Rescale { v },
        "add" | "sub" | "mul" => {
            attribute(p)?;
            let (a, b) = (v, value(p)?);
            match name.as_str() {
                "add" => Op::Add { a, b },
                "sub" => Op::Sub { a, b },
                _ => Op::Mul { a, b },
            }
        }
        "add_plain" => Op::AddPlain {
            v,
            plain: PlainId(next_index(p, 'p')?),
        },
        "mul_plain" => Op::MulPlain {
            v,
            plain: PlainId(next_index(p, 'p')?),
        },
        "add_const" => {
            p.next_attribute("c")?;
            Op::AddConst { v, c: real(p)? }
        }
        "mul_const" => {
            p.next_attribute("c")?;
            Op::MulConst { v, c: real(p)? }
        }
        "fold" => {
            p.next_attribute("step")?;
            let step = p.number("a step")?;
            p.next_attribute("count")?;
            let count = count(p)?;
            Op::Fold { v, step, count }
        }
        "fold_current" => {
            p.next_attribute("count")?;
            let count = count(p)?;
            Op::FoldCurrent { v, count }
        }
        "apply" => {
            attribute(p)?;
            let (matrix, v) = (v, value(p)?);
            p.next_attribute("step")?;
            let step = count(p)?;
            p.next_attribute("count")?;
            let count = self::count(p)?;
            p.next_attribute("baby")?;
            let baby = self::count(p)?;
            Op::Apply {
                matrix,
                v,
                step,
                count,
                baby,
            }
        }
        "linear" => Op::Linear {
            v,
            matrix: MatrixId(next_index(p, 'm')?),
        },
        "poly" => Op::Poly {
            v,
            poly: PolyId(next_index(p, 'f')?),
        },
        "append" => Op::Append {
            v,
            state: StateId(next_index(p, 's')?),
        },
        "drop" => {
            p.next_attribute("level")?;
            Op::Drop {
                v,
                level: count(p)?,
            }
        }
        "bootstrap" => {
            p.next_attribute("slots")?;
            let slots = count(p)?;
            attribute(p)?;
            let complex = one_of(p, "complex", "real")?;
            let kind = BootstrapKind { slots, complex };
            Op::Bootstrap { v, kind }
        }
        _ => return Err(here.error("an operation such as `add`")),
    })
}

fn sum_groups(p: &mut Parser) -> Parsed<Op<ValueId>> {
    let args = p.list(value)?;
    let template = next_index(p, 't')? as usize;
    p.next_attribute("states")?;
    let states = p.list(|p| index(p, 's').map(StateId))?;
    Ok(Op::SumGroups {
        template,
        states,
        args,
    })
}

/// Tokens, features, and tokens inside the features, one if it is not said.
/// A stride, 1 if there is none.
fn apart(p: &mut Parser) -> Parsed<u32> {
    if p.eat_word("by") { count(p) } else { Ok(1) }
}

/// The tokens of a block, one if there is none.
fn of_block(p: &mut Parser) -> Parsed<u32> {
    if p.eat_word("block") { count(p) } else { Ok(1) }
}

fn factor(p: &mut Parser) -> Parsed<PlainFactor> {
    let here = p.clone();
    Ok(match p.word("a factor")?.as_str() {
        "const" => PlainFactor::Const(real(p)?),
        "vector" => {
            let data = DataId(index(p, 'd')?);
            let stride = apart(p)?;
            PlainFactor::Vector { data, stride }
        }
        "position_row" => {
            let data = DataId(index(p, 'd')?);
            let stride = apart(p)?;
            let block = of_block(p)?;
            PlainFactor::PositionRow {
                data,
                stride,
                block,
            }
        }
        "current_token" => {
            let (group, block) = (group(p)?, of_block(p)?);
            PlainFactor::CurrentToken { group, block }
        }
        "cached_tokens" => {
            let (group, block) = (group(p)?, of_block(p)?);
            PlainFactor::CachedTokens { group, block }
        }
        "first" => {
            let (first, width) = fraction(p)?;
            PlainFactor::FirstOf { width, first }
        }
        "last" => PlainFactor::LastOf { width: count(p)? },
        "inverse_count" => PlainFactor::InverseCount {
            block: of_block(p)?,
        },
        _ => return Err(here.error("a plaintext factor such as `const`")),
    })
}

fn plain(p: &mut Parser) -> Parsed<Plain> {
    let name = p.string("the plaintext's name")?;
    p.sign(',')?;
    let factors = p.list(factor)?;
    Ok(Plain { name, factors })
}

fn matrix(p: &mut Parser) -> Parsed<Matrix> {
    let name = p.string("the matrix's name")?;
    p.sign(',')?;
    let here = p.clone();
    let form: fn(u32) -> Form = match p.word("a form")?.as_str() {
        "spread" => |stride| Form::Spread { stride },
        "gather" => |stride| Form::Gather { stride },
        "mix" => |run| Form::Mix { run },
        _ => return Err(here.error("`spread`, `gather` or `mix`")),
    };
    let form = form(count(p)?);
    let block = of_block(p)?;
    p.sign(',')?;
    let here = p.clone();
    let pairing = match p.word("what is paired")?.as_str() {
        "unpaired" => Pairing::None,
        "outputs" => Pairing::Outputs,
        "inputs" => Pairing::Inputs,
        _ => return Err(here.error("`unpaired`, `outputs` or `inputs`")),
    };
    p.next_attribute("in")?;
    let in_width = count(p)?;
    p.next_attribute("out")?;
    let out_width = count(p)?;
    p.next_attribute("baby")?;
    let baby = count(p)?;
    let data = DataId(next_index(p, 'd')?);
    Ok(Matrix {
        name,
        in_width,
        out_width,
        form,
        block,
        pairing,
        baby,
        data,
    })
}

fn poly(p: &mut Parser) -> Parsed<Poly> {
    let name = p.string("the polynomial's name")?;
    p.next_attribute("error")?;
    let error = real(p)?;
    p.sign(',')?;
    let coefficients = p.list(real)?;
    Ok(Poly {
        name,
        coefficients,
        error,
    })
}

fn state(p: &mut Parser) -> Parsed<StateDecl> {
    let name = p.string("the state's name")?;
    p.sign(':')?;
    let ty = ty(p)?;
    let level = if p.eat_word("at") {
        Some(count(p)?)
    } else {
        None
    };
    Ok(StateDecl { name, ty, level })
}
