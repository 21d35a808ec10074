//! The text forms of layouts and types, read.

use super::parse::{Parsed, count, fraction, one_of, real};
use super::{Group, Layout, Side, TokenMatrix, ValueType};
use crate::text::Parser;

fn layout(p: &mut Parser) -> Parsed<Layout> {
    if !p.eat_word("block") {
        return flat(p);
    }
    let tokens = count(p)?;
    p.keyword("of")?;
    // blocks do not nest, so that the parser does not follow a file into the depth
    Ok(Layout::Block {
        tokens,
        each: Box::new(flat(p)?),
    })
}

/// A layout that is no block.
fn flat(p: &mut Parser) -> Parsed<Layout> {
    let here = p.clone();
    Ok(match p.word("a layout")?.as_str() {
        "periodic" => {
            let (count, width) = fraction(p)?;
            Layout::Periodic { count, width }
        }
        "strided" => {
            let (features, width) = fraction(p)?;
            p.keyword("by")?;
            let stride = count(p)?;
            Layout::Strided {
                count: features,
                width,
                stride,
            }
        }
        "tokens" => Layout::Tokens(group(p)?),
        "matrix" => Layout::Matrix(token_matrix(p)?),
        "scalar" => Layout::Scalar,
        "partial" => Layout::Partial { period: count(p)? },
        _ => {
            return Err(here.error(
                "`periodic`, `strided`, `tokens`, `matrix`, `block`, `scalar` or `partial`",
            ));
        }
    })
}

fn token_matrix(p: &mut Parser) -> Parsed<TokenMatrix> {
    let side = match one_of(p, "rows", "columns")? {
        true => Side::Rows,
        false => Side::Columns,
    };
    let (lanes, heads) = fraction(p)?;
    p.keyword("baby")?;
    let baby = count(p)?;
    let inner = match p.eat_word("inside") {
        true => count(p)?,
        false => 1,
    };
    Ok(TokenMatrix {
        lanes,
        heads,
        inner,
        baby,
        side,
    })
}

pub(super) fn ty(p: &mut Parser) -> Parsed<ValueType> {
    let layout = layout(p)?;
    let complex = one_of(p, "complex", "real")?;
    p.keyword("range")?;
    let range = real(p)?;
    p.keyword("unit")?;
    let unit = real(p)?;
    Ok(ValueType {
        layout,
        complex,
        range,
        unit,
    })
}

pub(super) fn group(p: &mut Parser) -> Parsed<Group> {
    let (tokens, width) = fraction(p)?;
    let inner = match p.eat_word("inside") {
        true => count(p)?,
        false => 1,
    };
    Ok(Group {
        tokens,
        width,
        inner,
    })
}
