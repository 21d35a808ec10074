//! LayerNorm as RMSNorm: the residual stream without its mean.
//!
//! With C = I − 11ᵀ/d, which takes a vector's mean off, LayerNorm(x) = g ⊙ Cx / √(mean((Cx)²) + ε) + b: an RMSNorm of Cx. Everything that
//! reads the stream x is a LayerNorm, and everything that writes to it is a table or a linear map, so C moves into those: rows of the
//! tables of tokens and positions, W and bias of the projections that end there, become C·row, C·W and C·bias (`centred` in their
//! recipes, computed in float64 when they are packed), and the stream holds Cx. No mean is ever computed on ciphertexts: that would be a
//! fold over d slots and a level, twice a layer. The gain g goes into the next linear map as RMSNorm's does, and b becomes W·b in that
//! map's bias ([`Recipe::Constant`](sotto_ir::slot::Recipe::Constant)). As equations between real numbers all of this is exact.
//!
//! So at the sites that [`sites`] names, slots hold a vector less its mean, and whoever compares them with the decoder takes the mean
//! off there: [`centre`].

use super::LowerError;
use super::templates::unsupported;
use sotto_ir::decoder::{Decoder, Inst, Op, Template, Value};
use std::collections::BTreeSet;

/// x less its mean.
pub fn centre(x: &mut [f64]) {
    let mean = x.iter().sum::<f64>() / x.len().max(1) as f64;
    x.iter_mut().for_each(|x| *x -= mean);
}

/// Sites of the decoder whose vectors are on a residual stream that LayerNorms read; none of a decoder of other norms.
pub fn sites(decoder: &Decoder) -> BTreeSet<String> {
    let mut sites = BTreeSet::new();
    if !has_layer_norms(decoder) {
        return sites;
    }
    for (_, template) in decoder.templates() {
        let stream = stream(decoder, template);
        let defined = template.insts.iter().filter(|inst| {
            let result = inst.result.map(|(value, _)| value);
            result.is_some_and(|value| stream.contains(&value))
        });
        sites.extend(defined.map(|inst| inst.site.clone()));
    }
    sites
}

/// Refuses a decoder in which C cannot move as the module says, given its [`sites`].
pub fn check(decoder: &Decoder, sites: &BTreeSet<String>) -> Result<(), LowerError> {
    if !has_layer_norms(decoder) {
        return Ok(());
    }
    for (_, template) in decoder.templates() {
        let stream = stream(decoder, template);
        for inst in &template.insts {
            check_writer(inst, sites)?;
            check_reader(inst, &stream, sites)?;
        }
    }
    Ok(())
}

fn check_writer(inst: &Inst, sites: &BTreeSet<String>) -> Result<(), LowerError> {
    match inst.op {
        Op::Embed { .. } | Op::Position { .. } | Op::Linear { .. } | Op::Add { .. } => Ok(()),
        _ if sites.contains(&inst.site) => Err(unsupported(
            &inst.site,
            "what is neither table, linear map nor sum, on a residual stream that LayerNorms read,",
        )),
        _ => Ok(()),
    }
}

fn check_reader(
    inst: &Inst,
    stream: &BTreeSet<Value>,
    sites: &BTreeSet<String>,
) -> Result<(), LowerError> {
    let reads = inst.op.operands().iter().any(|x| stream.contains(x));
    let refuse = |what| Err(unsupported(&inst.site, what));
    match inst.op {
        Op::LayerNorm { .. } if !reads => refuse("a LayerNorm of other than the residual stream"),
        Op::LayerNorm { .. } => Ok(()),
        Op::Add { .. } if sites.contains(&inst.site) => Ok(()),
        _ if reads => {
            refuse("what reads, without its norm, a residual stream that LayerNorms read,")
        }
        _ => Ok(()),
    }
}

fn has_layer_norms(decoder: &Decoder) -> bool {
    let templates = decoder.templates();
    let mut insts = templates.iter().flat_map(|(_, template)| &template.insts);
    insts.any(|inst| matches!(inst.op, Op::LayerNorm { .. }))
}

/// The values of a template that are on the stream: what it takes of it and returns to it, and what those sums are made of.
fn stream(decoder: &Decoder, template: &Template) -> BTreeSet<Value> {
    let mut stream = BTreeSet::new();
    if !std::ptr::eq(template, &decoder.embed) {
        stream.insert(template.param.0);
    }
    if !std::ptr::eq(template, &decoder.final_) {
        stream.insert(template.result);
    }
    for inst in template.insts.iter().rev() {
        let on = inst
            .result
            .is_some_and(|(value, _)| stream.contains(&value));
        if let (true, Op::Add { .. }) = (on, &inst.op) {
            stream.extend(inst.op.operands());
        }
    }
    stream
}
