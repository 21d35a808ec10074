//! The embedding where the server holds the table: a product with the one-hot vector that the client sends, and the row of the token's
//! position where positions are learned.

use super::builder::{Builder, Draft, Val, real};
use super::linear::{self, Input, Landing, Output, periodic};
use super::model::Model;
use super::options::{Way, places};
use super::{LowerError, templates::unsupported};
use sotto_ir::decoder::{Inst, Op};
use sotto_ir::slot::{self, DataDecl, FeatureMap, PlainFactor, Recipe};

/// Emits the template; gives its index.
pub fn lower(model: &Model<'_>, draft: &mut Draft) -> Result<usize, LowerError> {
    let (mut table, mut positions) = (None, None);
    for inst in &model.decoder.embed.insts {
        let place = match &inst.op {
            Op::Embed { weight, .. } => table.replace((inst, weight)),
            Op::Position { weight, .. } => positions.replace((inst, weight)),
            Op::Add { .. } => None,
            other => return Err(unsupported(&inst.site, other.mnemonic())),
        };
        if place.is_some() {
            return Err(unsupported(&inst.site, "more than one table of a kind"));
        }
    }
    let table = table.ok_or_else(|| unsupported("embed", "no table lookup"))?;
    let mut b = Builder::new(draft);
    let mut x = look_up(&mut b, model, table);
    if let Some(positions) = positions {
        x = add_position(&mut b, model, positions, &x);
    }
    Ok(b.finish(crate::pack::EMBED, &[&x]))
}

fn look_up(b: &mut Builder<'_>, model: &Model<'_>, (inst, weight): (&Inst, &String)) -> Val {
    let facts = &model.decoder.model;
    let map = FeatureMap::plain(facts.vocab as u32);
    let input = Input {
        val: b.param(real(periodic(&map), 1.0)),
        map,
        affine: None,
    };
    let output = Output {
        site: inst.site.clone(),
        weight: weight.clone(),
        transposed: true,
        bias: None,
        map: FeatureMap::plain(facts.hidden as u32),
        centred: model.centred.contains(&inst.site),
        unit: model.residual,
    };
    let way = Way::default();
    let mut found = linear::lower(b, "", &input, &[output], &way, Landing::All);
    found.remove(0)
}

fn add_position(
    b: &mut Builder<'_>,
    model: &Model<'_>,
    (inst, weight): (&Inst, &String),
    x: &Val,
) -> Val {
    let rows = FeatureMap::plain(model.decoder.model.hidden as u32);
    let data = b.data(DataDecl {
        name: inst.site.clone(),
        per_layer: false,
        shape: vec![model.options.context, places(&rows)],
        recipe: Recipe::Rows {
            tensor: weight.clone(),
            rows,
            centred: model.centred.contains(&inst.site),
            scale: 1.0 / x.unit(),
        },
    });
    let row = PlainFactor::PositionRow {
        data,
        stride: 1,
        block: 1,
    };
    let plain = b.plain(&inst.site, vec![row]);
    let op = slot::Op::AddPlain { v: x.id, plain };
    b.emit(&inst.site, op, x.ty.clone())
}
