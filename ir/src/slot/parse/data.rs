//! Data declarations and their recipes.

use super::{Parsed, count, fraction, real};
use crate::slot::{DataDecl, FeatureMap, MatrixPart, Recipe, Shift};
use crate::text::Parser;

fn feature_map(p: &mut Parser) -> Parsed<FeatureMap> {
    if p.eat_word("plain") {
        let count = self::count(p)?;
        let first = match p.eat_word("from") {
            true => self::count(p)?,
            false => 0,
        };
        return Ok(FeatureMap::Plain { first, count });
    }
    p.keyword("heads")?;
    let (heads, heads_padded) = fraction(p)?;
    p.keyword("kv")?;
    let kv_heads = count(p)?;
    p.keyword("lanes")?;
    let (head_dim, lanes) = fraction(p)?;
    Ok(FeatureMap::Heads {
        heads,
        kv_heads,
        head_dim,
        heads_padded,
        lanes,
    })
}

fn rows(p: &mut Parser) -> Parsed<FeatureMap> {
    p.keyword("rows")?;
    feature_map(p)
}

fn scale(p: &mut Parser) -> Parsed<f64> {
    p.keyword("scale")?;
    real(p)
}

fn part(p: &mut Parser) -> Parsed<MatrixPart> {
    let tensor = p.string("a tensor's name")?;
    let transposed = p.eat_word("transposed");
    let rows = rows(p)?;
    p.keyword("columns")?;
    let columns = feature_map(p)?;
    let gain = if p.eat_word("gain") {
        Some(p.string("a gain tensor's name")?)
    } else {
        None
    };
    let centred = p.eat_word("centred");
    Ok(MatrixPart {
        tensor,
        transposed,
        rows,
        columns,
        gain,
        centred,
        scale: scale(p)?,
    })
}

fn shift(p: &mut Parser) -> Parsed<Shift> {
    let by = p.string("a tensor's name")?;
    p.keyword("through")?;
    Ok(Shift {
        weight: p.string("a tensor's name")?,
        transposed: p.eat_word("transposed"),
        by,
    })
}

fn constant(p: &mut Parser) -> Parsed<Recipe> {
    let own = if p.eat_word("own") {
        Some(p.string("a tensor's name")?)
    } else {
        None
    };
    let shift = if p.eat_word("shift") {
        Some(shift(p)?)
    } else {
        None
    };
    Ok(Recipe::Constant {
        own,
        shift,
        rows: rows(p)?,
        centred: p.eat_word("centred"),
        scale: scale(p)?,
    })
}

fn recipe(p: &mut Parser) -> Parsed<Recipe> {
    let here = p.clone();
    Ok(match p.word("a recipe")?.as_str() {
        "matrix" => Recipe::Matrix(p.list(part)?),
        "vector" => Recipe::Vector {
            tensor: p.string("a tensor's name")?,
            rows: rows(p)?,
            scale: scale(p)?,
        },
        "constant" => constant(p)?,
        "rows_of" => Recipe::Rows {
            tensor: p.string("a tensor's name")?,
            rows: rows(p)?,
            centred: p.eat_word("centred"),
            scale: scale(p)?,
        },
        "values" => Recipe::Values(p.list(|p| p.list(real))?),
        "rope_cos" => Recipe::RopeCos {
            map: rows(p)?,
            scale: scale(p)?,
        },
        "rope_sin" => Recipe::RopeSin {
            map: rows(p)?,
            scale: scale(p)?,
        },
        _ => {
            return Err(here.error(
                "`matrix`, `vector`, `constant`, `rows_of`, `values`, `rope_cos` or `rope_sin`",
            ));
        }
    })
}

pub(super) fn data(p: &mut Parser) -> Parsed<DataDecl> {
    let name = p.string("the data's name")?;
    p.sign(',')?;
    let per_layer = p.eat_word("per_layer");
    if per_layer {
        p.sign(',')?;
    }
    p.attribute("shape")?;
    let shape = p.list(count)?;
    p.sign(',')?;
    Ok(DataDecl {
        name,
        per_layer,
        shape,
        recipe: recipe(p)?,
    })
}
