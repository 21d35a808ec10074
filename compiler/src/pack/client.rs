//! What the client sends and receives, in the clear.

use crate::lower::{centre, centred};
use num_complex::Complex64;
use sotto_ir::decoder::{Decoder, Op, WeightError, WeightSource};
use sotto_ir::plan::Placement;
use sotto_ir::slot::{Layout, Program, Slots, Stage};
use std::collections::BTreeSet;

/// The slot vector of a run's tokens, one or a block of them, the first at a position: embeddings in the residual stream's unit, or one-hot vectors where the
/// server holds the table (the first template tells which). A block that is not full repeats its last token.
pub fn input<S: Stage>(
    program: &Program<S>,
    decoder: &Decoder,
    weights: &dyn WeightSource,
    (tokens, position): (&[u32], usize),
) -> Result<Slots, WeightError> {
    let centred = centred(decoder);
    let first = &program.templates[program.steps[0].template];
    let ty = &first.params[0].ty;
    let block = program.block as usize;
    let mut values = vec![Complex64::ZERO; ty.layout.period() as usize];
    for r in 0..block {
        let Some(&token) = tokens.get(r).or(tokens.last()) else {
            break;
        };
        if first.name == super::EMBED {
            values[token as usize * block + r] = 1.0.into();
            continue;
        }
        let at = position + r.min(tokens.len().saturating_sub(1));
        let features = embedding(decoder, weights, &centred, (token, at))?;
        for (f, x) in features.into_iter().enumerate() {
            values[f * block + r] = (x / ty.unit).into();
        }
    }
    Ok(Slots::new(values).expect("widths are powers of two"))
}

/// What the client adds up for a token at a position: the rows of its tables, less their mean where the slots have none.
fn embedding(
    decoder: &Decoder,
    weights: &dyn WeightSource,
    centred: &BTreeSet<String>,
    (token, position): (u32, usize),
) -> Result<Vec<f64>, WeightError> {
    let mut sum = vec![0.0; decoder.model.hidden];
    for inst in &decoder.embed.insts {
        let (weight, row) = match &inst.op {
            Op::Embed { weight, .. } => (weight, token as usize),
            Op::Position { weight, .. } => (weight, position),
            _ => continue,
        };
        let mut row: Vec<f64> = (weights.rows(weight, row..row + 1)?.data.into_iter())
            .map(f64::from)
            .collect();
        if centred.contains(&inst.site) {
            centre(&mut row);
        }
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    Ok(sum)
}

/// Who computes the head: the last template's result is logits, or the final hidden state.
pub fn returns<S: Stage>(program: &Program<S>, decoder: &Decoder) -> Placement {
    let head = decoder.final_.definition(decoder.final_.result);
    let site = head.map_or("", |inst| inst.site.as_str());
    let last = program
        .steps
        .last()
        .map(|step| &program.templates[step.template]);
    let computed = last.is_some_and(|template| template.nodes.iter().any(|n| n.site == site));
    if computed {
        Placement::Server
    } else {
        Placement::Client
    }
}

/// The real-world vector that a program's results hold, end to end.
pub fn output<S: Stage>(program: &Program<S>, results: &[Slots]) -> Vec<f64> {
    let last = program
        .steps
        .last()
        .map(|step| &program.templates[step.template]);
    let typed = |index: usize| {
        let template = last?;
        let value = template.results.get(index)?;
        let node = template
            .nodes
            .iter()
            .find(|node| node.results.contains(value))?;
        node.types.first()
    };
    let vector = |(index, slots): (usize, &Slots)| -> Vec<f64> {
        let (count, stride, unit) = match typed(index).map(|ty| (&ty.layout, ty.unit)) {
            Some((Layout::Periodic { count, .. }, unit)) => (*count as usize, 1, unit),
            Some((Layout::Strided { count, stride, .. }, unit)) => {
                (*count as usize, *stride as usize, unit)
            }
            _ => (slots.period(), 1, 1.0),
        };
        let features = (0..count).map(|f| slots.at(f * stride).re * unit);
        features.collect()
    };
    results.iter().enumerate().flat_map(vector).collect()
}
