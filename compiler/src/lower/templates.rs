//! The whole program: which layers share a template, and the two ends.

use sotto_ir::decoder::{Decoder, Op, Template, Value};
use sotto_ir::plan::Placement;
use sotto_ir::slot::{Layout, Leveled, Program, Side, StateDecl, Step};
use std::ops::Range;

use super::attention::{shared_type, state_type};
use super::builder::{Builder, Draft};
use super::model::Model;
use super::norm::residual_unit;
use super::template::Lowering;
use super::{Choices, Geometry, LowerError, Options, Ranges};
use super::{centre, embed};
use crate::approx::levels;

/// Lowers a decoder to a packed `decode` program. Ranges of its values are those of the type only until
/// [`crate::pack::recalibrate`] has run it.
pub fn lower(
    decoder: &Decoder,
    ranges: &Ranges,
    options: &Options,
    choices: &Choices,
) -> Result<Draft, LowerError> {
    let model = model(decoder, ranges, options, choices)?;
    let draft = empty(&model);
    program(&model, draft, &groups(&model)?)
}

/// As [`lower`], of a model all of whose layers are as those that share the most: what a program costs can be told from it in a
/// fraction of the time.
pub fn lower_typical(
    decoder: &Decoder,
    ranges: &Ranges,
    options: &Options,
    choices: &Choices,
) -> Result<Draft, LowerError> {
    let model = model(decoder, ranges, options, choices)?;
    let mut draft = program(&model, empty(&model), &[typical(&groups(&model)?)])?;
    // the layers stand before the final template
    if let [.., layers, _] = &mut draft.program.steps[..] {
        (layers.first, layers.count) = (0, decoder.model.layers as u32);
    }
    Ok(draft)
}

/// The layers that share the most, the first of them where several do.
pub fn typical(groups: &[Range<u32>]) -> Range<u32> {
    let largest = groups.iter().rev().max_by_key(|layers| layers.len());
    largest.cloned().unwrap_or(0..1)
}

/// Lowers a decoder to a packed `prefill` program beside `decode`, whose data and states it shares: it takes `choices.block` tokens.
pub fn lower_block(
    decoder: &Decoder,
    ranges: &Ranges,
    options: &Options,
    choices: &Choices,
    decode: &Program<Leveled>,
) -> Result<Draft, LowerError> {
    let model = model(decoder, ranges, options, choices)?;
    let mut draft = empty(&model);
    draft.program.name = "prefill".into();
    draft.program.data = decode.data.clone();
    let layouts = |states: &[StateDecl]| -> Vec<Layout> {
        states.iter().map(|state| state.ty.layout.clone()).collect()
    };
    if layouts(&draft.program.states) != layouts(&decode.states) {
        return Err(unsupported("prefill", "a cache that lies unlike decode's"));
    }
    let shared = |name: &str, unit| StateDecl {
        name: format!("block.{name}"),
        ty: shared_type(&model.geometry, unit),
        level: None,
    };
    let [k, v] = model.state;
    draft
        .program
        .states
        .extend([shared("k", k), shared("v", v)]);
    program(&model, draft, &groups(&model)?)
}

/// All templates and steps.
fn program(
    model: &Model<'_>,
    mut draft: Draft,
    groups: &[Range<u32>],
) -> Result<Draft, LowerError> {
    if model.options.embedding == Placement::Server {
        let template = embed::lower(model, &mut draft)?;
        draft.program.steps.push(once(template));
    }
    for layers in groups {
        let (name, tag) = match groups.len() {
            1 => ("layer".to_string(), String::new()),
            _ => {
                let name = format!("layers.{}-{}", layers.start, layers.end - 1);
                (name.clone(), format!("@{name}"))
            }
        };
        let template = layer(model, &mut draft, layers.clone(), &name, &tag)?;
        draft.program.steps.push(Step {
            template,
            first: layers.start,
            count: layers.end - layers.start,
        });
    }
    let last = finale(model, &mut draft)?;
    draft.program.steps.push(once(last));
    Ok(draft)
}

fn once(template: usize) -> Step {
    Step {
        template,
        first: 0,
        count: 1,
    }
}

/// The refusal of what this lowering does not know.
pub fn unsupported(site: &str, what: &str) -> LowerError {
    LowerError::Unsupported {
        site: site.into(),
        what: what.into(),
    }
}

/// The shared facts of a lowering.
pub fn model<'a>(
    decoder: &'a Decoder,
    ranges: &'a Ranges,
    options: &'a Options,
    choices: &'a Choices,
) -> Result<Model<'a>, LowerError> {
    let geometry = Geometry::new(&decoder.model, options, choices)?;
    let mut model = Model {
        decoder,
        ranges,
        options,
        choices,
        geometry,
        residual: 0.0,
        state: [0.0; 2],
        centred: centre::sites(decoder),
    };
    centre::check(decoder, &model.centred)?;
    model.residual = residual(&model)?;
    model.state = state_units(&model)?;
    Ok(model)
}

/// The residual stream's unit: it covers every vector added to the stream, and suits the norms' windows.
fn residual(model: &Model<'_>) -> Result<f64, LowerError> {
    let Decoder {
        embed,
        layer,
        final_,
        model: facts,
        ..
    } = model.decoder;
    let mut reach = 0.0f64;
    let mut norms = Vec::new();
    let all = 0..facts.layers as u32;
    for (template, layers) in [(embed, 0..1), (layer, all), (final_, 0..1)] {
        for inst in &template.insts {
            match &inst.op {
                Op::Embed { .. } | Op::Position { .. } => {
                    reach = reach.max(model.span(&inst.site, "", layers.clone())?.reach());
                }
                Op::Add { a, b } => {
                    let terms = [a, b].into_iter().filter_map(|v| template.definition(*v));
                    for inst in terms.chain([inst]) {
                        reach = reach.max(model.span(&inst.site, "", layers.clone())?.reach());
                    }
                }
                Op::RmsNorm { .. } | Op::LayerNorm { .. } => {
                    for i in layers.clone() {
                        norms.push((facts.hidden, model.norm_window(&inst.site, i..i + 1)?));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(residual_unit(reach * model.options.margin, &norms))
}

fn state_units(model: &Model<'_>) -> Result<[f64; 2], LowerError> {
    let template = &model.decoder.layer;
    let appends = template.insts.iter().filter_map(|inst| match inst.op {
        Op::KvAppend { k, v, .. } => Some([k, v]),
        _ => None,
    });
    let appends: Vec<[Value; 2]> = appends.collect();
    let [[k, v]] = appends[..] else {
        return Err(unsupported("layer", "a layer with other than one KV state"));
    };
    let reach = |value| {
        let layers = 0..model.decoder.model.layers as u32;
        model.reach_through_rope(template, value, layers)
    };
    Ok([reach(k)?, reach(v)?])
}

fn empty(model: &Model<'_>) -> Draft {
    let state = |name: &str, side, unit| StateDecl {
        name: name.into(),
        ty: state_type(&model.geometry, side, unit),
        level: None,
    };
    let program = Program {
        name: "decode".into(),
        model_digest: model.decoder.checkpoint.to_string(),
        slots: model.options.slots,
        block: model.geometry.block,
        capacity: model.options.context,
        data: Vec::new(),
        plains: Vec::new(),
        matrices: Vec::new(),
        polys: Vec::new(),
        states: vec![
            state("k", Side::Rows, model.state[0]),
            state("v", Side::Columns, model.state[1]),
        ],
        templates: Vec::new(),
        steps: Vec::new(),
    };
    Draft {
        program,
        approximations: Vec::new(),
    }
}

fn layer(
    model: &Model<'_>,
    draft: &mut Draft,
    layers: Range<u32>,
    name: &str,
    tag: &str,
) -> Result<usize, LowerError> {
    let b = Builder::new(draft);
    Lowering::new(model, &model.decoder.layer, layers, tag, b).run(name, None)
}

/// The final norm and, unless the client computes it, the head.
fn finale(model: &Model<'_>, draft: &mut Draft) -> Result<usize, LowerError> {
    let template = &model.decoder.final_;
    let result = match model.options.head {
        Placement::Server => None,
        Placement::Client => {
            let head = template.definition(template.result);
            let head =
                head.ok_or_else(|| unsupported("final", "a final template without a head"))?;
            Some(head.op.operands()[0])
        }
    };
    let lowering = Lowering::new(model, template, 0..1, "", Builder::new(draft));
    match model.geometry.block {
        1 => lowering.run(crate::pack::FINAL, result),
        _ => lowering.run_last(crate::pack::FINAL, result),
    }
}

/// Levels that a layer may spend, over all approximations of a template, on sharing it with layers whose ranges are wider.
const SHARING: u32 = 1;

/// Layers with one template.
struct Shared {
    layers: Range<u32>,
    /// Largest degrees that any of them needs alone.
    worst: Vec<u32>,
    /// Levels that the one with the narrowest ranges needs alone.
    least: u32,
}

impl Shared {
    fn alone(model: &Model<'_>, layer: u32) -> Result<Shared, LowerError> {
        let worst = degrees(model, layer..layer + 1)?;
        Ok(Shared {
            layers: layer..layer + 1,
            least: spent(&worst),
            worst,
        })
    }

    /// With the layer after, if both are served at degrees that one of them needs anyway and at few more levels than either needs.
    fn with(&self, model: &Model<'_>, next: &Shared) -> Option<Shared> {
        let worst = self.worst.iter().zip(&next.worst);
        let worst: Vec<u32> = worst.map(|(a, b)| *a.max(b)).collect();
        let (layers, least) = (
            self.layers.start..next.layers.end,
            self.least.min(next.least),
        );
        // ranges whose union no degree covers stay apart
        let joint = degrees(model, layers.clone()).ok()?;
        let covered = joint
            .iter()
            .zip(&worst)
            .all(|(joint, worst)| joint <= worst);
        (covered && spent(&joint) <= least + SHARING).then_some(Shared {
            layers,
            worst,
            least,
        })
    }
}

/// Levels that approximations of these degrees consume.
fn spent(degrees: &[u32]) -> u32 {
    degrees.iter().map(|&degree| levels(degree as usize)).sum()
}

/// Layers that share a template, greedily from the first.
pub fn groups(model: &Model<'_>) -> Result<Vec<Range<u32>>, LowerError> {
    let mut groups: Vec<Shared> = Vec::new();
    for layer in 0..model.decoder.model.layers as u32 {
        let next = Shared::alone(model, layer)?;
        let both = groups.last().and_then(|last| last.with(model, &next));
        if both.is_some() {
            groups.pop();
        }
        groups.push(both.unwrap_or(next));
    }
    Ok(groups.into_iter().map(|shared| shared.layers).collect())
}

/// One template of the decoder alone, by the model's choices.
pub fn draft(
    model: &Model<'_>,
    template: &Template,
    layers: Range<u32>,
) -> Result<Draft, LowerError> {
    let mut draft = empty(model);
    let b = Builder::new(&mut draft);
    Lowering::new(model, template, layers, "", b).run("draft", None)?;
    Ok(draft)
}

/// Degrees of the approximations that a template for these layers has, in order.
fn degrees(model: &Model<'_>, layers: Range<u32>) -> Result<Vec<u32>, LowerError> {
    let draft = draft(model, &model.decoder.layer, layers)?;
    let polys = draft.program.polys.iter();
    Ok(polys.map(|poly| poly.degree()).collect())
}
