//! What the client sends and receives, in the clear.

use num_complex::Complex64;
use sotto_ir::decoder::{Decoder, Op, WeightError, WeightSource};
use sotto_ir::plan::Placement;
use sotto_ir::slot::{Layout, Program, Slots, Stage};

/// The slot vector of a run's tokens, one or a block of them: embeddings in the residual stream's unit, or one-hot vectors where the
/// server holds the table (the first template tells which). A block that is not full repeats its last token.
pub fn input<S: Stage>(
    program: &Program<S>,
    decoder: &Decoder,
    weights: &dyn WeightSource,
    tokens: &[u32],
) -> Result<Slots, WeightError> {
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
        for inst in &decoder.embed.insts {
            if let Op::Embed { weight, .. } = &inst.op {
                let token = token as usize;
                let row = weights.rows(weight, token..token + 1)?.data;
                for (f, &x) in row.iter().enumerate() {
                    values[f * block + r] = (f64::from(x) / ty.unit).into();
                }
            }
        }
    }
    Ok(Slots::new(values).expect("widths are powers of two"))
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
