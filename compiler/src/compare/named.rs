//! Programs of different stages or structures, at the sites that both name.
//!
//! Slots do not hold everything as the decoder has it: of a norm neither gain nor bias, which the next matrix has, and of a residual stream
//! that LayerNorms read no mean ([`crate::lower`]'s `centre`). What is held against slots is brought to that form first.

use super::features::{Features, readable};
use super::run::{Ranges, RunError, Runner, checkpoint_of, start};
use super::values::EXACT;
use super::{Alignment, CompareError, Divergence, Options, Side, Verdict, at_layer, slot_view};
use crate::driver::StageFile;
use crate::frontend::Checkpoint;
use crate::lower::{centre, centred};
use crate::view::{Given, SlotView};
use sotto_ir::decoder::{self, Decoder, Interpreter, KvCache, Observation, WeightSource};
use sotto_ir::golden::Golden;
use sotto_ir::plan::OutputKind;
use sotto_ir::slot::Recipe;
use std::collections::{BTreeSet, HashMap};

/// Largest error where approximations are held against exact functions, or against other approximations.
const APPROXIMATE: f64 = 0.02;

/// A site's features after a token.
struct Named {
    /// With the layer's number.
    site: String,
    layer: Option<u32>,
    op: String,
    values: Vec<f64>,
    bound: Option<f64>,
}

/// Whatever has named vectors, token by token.
trait Source {
    /// The vectors of the next token in order; with them, why there are no more.
    fn step(&mut self, position: usize, token: u32) -> (Vec<Named>, Option<RunError>);
    /// Values that left their range.
    fn ranges(&mut self) -> Ranges {
        Ranges::default()
    }
}

/// What the ends of the model are called, which a golden file does not say.
#[derive(Clone, Default)]
struct Ends {
    /// What a layer returns.
    layer: Option<String>,
    /// What the last layer's is after the norm, gain and all.
    hidden: Option<String>,
    /// The head's answer.
    logits: Option<String>,
}

/// Runs both and compares every site that both have.
pub(super) fn compare(
    a: &Given,
    b: &Given,
    options: &Options<'_>,
) -> Result<Verdict, CompareError> {
    let checkpoint = options.checkpoint;
    let ends = (ends(a, checkpoint)?, ends(b, checkpoint)?);
    let mut sources = (
        source(a, b, &ends.1, checkpoint)?,
        source(b, a, &ends.0, checkpoint)?,
    );
    let exact = slot_view(a).is_none() && slot_view(b).is_none();
    let by_kind = if exact { EXACT } else { APPROXIMATE };
    let mut verdict = Verdict {
        alignment: Alignment::Sites,
        tolerance: options.tolerance.unwrap_or(by_kind),
        steps: 0,
        values: 0,
        largest: 0.0,
        divergence: None,
        failure: None,
        differences: vec![],
        escapes: Default::default(),
    };
    for (position, &token) in options.tokens.iter().enumerate() {
        let (first, why_a) = sources.0.step(position, token);
        let (second, why_b) = sources.1.step(position, token);
        hold_all(position, &first, &second, &mut verdict);
        if verdict.divergence.is_some() {
            break;
        }
        let failure = [(Side::A, why_a), (Side::B, why_b)];
        verdict.failure = failure
            .into_iter()
            .find_map(|(side, why)| Some((side, why?)));
        if verdict.failure.is_some() {
            break;
        }
        if verdict.values == 0 {
            return Err(CompareError::Nothing);
        }
        verdict.steps += 1;
    }
    verdict.escapes = (sources.0.ranges().escapes(), sources.1.ranges().escapes());
    Ok(verdict)
}

/// One token's vectors, in the first one's order.
fn hold_all(position: usize, first: &[Named], second: &[Named], verdict: &mut Verdict) {
    let theirs: HashMap<&str, &Named> = second.iter().map(|n| (n.site.as_str(), n)).collect();
    for ours in first {
        let theirs = theirs.get(ours.site.as_str());
        let Some(theirs) = theirs.filter(|n| n.values.len() == ours.values.len()) else {
            continue;
        };
        verdict.values += 1;
        let found = hold(position, ours, theirs);
        if found.error > verdict.tolerance {
            verdict.divergence = Some(found);
            return;
        }
        verdict.largest = verdict.largest.max(found.error);
    }
}

fn hold(position: usize, a: &Named, b: &Named) -> Divergence {
    let mut furthest = (0, 0.0);
    for (f, (x, y)) in a.values.iter().zip(&b.values).enumerate() {
        let d = (x - y).abs();
        let d = if d.is_nan() { f64::INFINITY } else { d };
        if d > furthest.1 {
            furthest = (f, d);
        }
    }
    let reach = |n: &Named| n.values.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    let (index, difference) = furthest;
    let error = if difference == 0.0 {
        0.0
    } else {
        difference / reach(a)
    };
    Divergence {
        position,
        site: a.site.clone(),
        layer: a.layer,
        group: None,
        op: a.op.clone(),
        error,
        difference,
        index,
        reached: (reach(a), reach(b)),
        declared: (a.bound, b.bound),
    }
}

/// What a side calls its ends; nothing of a golden file.
fn ends(given: &Given, checkpoint: Option<&Checkpoint>) -> Result<Ends, CompareError> {
    if let Given::Stage(file) = given
        && let StageFile::Decoder(decoder) = &**file
    {
        let site = |t: &decoder::Template, v| t.definition(v).map(|inst| inst.site.clone());
        let head = decoder.final_.definition(decoder.final_.result);
        let hidden = head.and_then(|inst| inst.op.operands().first().copied());
        return Ok(Ends {
            layer: site(&decoder.layer, decoder.layer.result),
            hidden: hidden.and_then(|v| site(&decoder.final_, v)),
            logits: head.map(|inst| inst.site.clone()),
        });
    }
    let Some(view) = slot_view(given) else {
        return Ok(Ends::default());
    };
    let result = |step: &sotto_ir::slot::Step| {
        let template = view.templates.get(step.template)?;
        let value = template.results.first()?;
        let mut nodes = template.nodes.iter();
        let node = nodes.find(|n| n.results.iter().any(|r| r.id == *value))?;
        Some(node.site.clone())
    };
    let last = view.steps.last().and_then(result);
    let logits = match given {
        Given::Plan { plan, .. } => plan.client.output_kind == OutputKind::Logits,
        _ => {
            let decoder = checkpoint.map(Checkpoint::decoder).transpose()?;
            let head = decoder.as_ref().and_then(|d| {
                let head = d.final_.definition(d.final_.result)?;
                Some(head.site.clone())
            });
            head == last
        }
    };
    let mut steps = view.steps.iter().rev().skip(1);
    Ok(Ends {
        layer: steps.find_map(|s| result(s).filter(|site| site.contains("{i}"))),
        hidden: last.clone().filter(|_| !logits),
        logits: last.filter(|_| logits),
    })
}

fn source<'a>(
    given: &'a Given,
    other: &Given,
    others: &Ends,
    checkpoint: Option<&'a Checkpoint>,
) -> Result<Box<dyn Source + 'a>, CompareError> {
    match given {
        Given::Golden(golden) => Ok(Box::new(GoldenSource {
            golden,
            ends: match other {
                Given::Golden(_) => Ends {
                    layer: Some("layers.{i}".into()),
                    hidden: Some("hidden".into()),
                    logits: Some("logits".into()),
                },
                _ => others.clone(),
            },
            centred: slot_view(other).is_some_and(|view| holds_no_means(&view)),
        })),
        Given::Stage(file) if matches!(**file, StageFile::Decoder(_)) => {
            let StageFile::Decoder(decoder) = &**file else {
                return Err(CompareError::Nothing);
            };
            // slots hold norms without their gain, which the next matrix has; but what goes to a client's head has it
            let slots = slot_view(other).is_some();
            let digest = decoder.checkpoint.to_string();
            let checkpoint = checkpoint_of("decoder", &digest, checkpoint)?;
            let source = DecoderSource::new(decoder, checkpoint, slots, others.hidden.as_deref());
            Ok(Box::new(source?))
        }
        _ => {
            let view = slot_view(given).ok_or(CompareError::Nothing)?;
            let runner = start(given, &view, checkpoint)?;
            Ok(Box::new(SlotSource::new(view, runner)))
        }
    }
}

/// A slot program.
struct SlotSource<'a> {
    runner: Box<dyn Runner + 'a>,
    readable: HashMap<(usize, usize), Features>,
    view: SlotView,
    ranges: Ranges,
}

impl<'a> SlotSource<'a> {
    fn new(view: SlotView, runner: Box<dyn Runner + 'a>) -> Self {
        let mut found = HashMap::new();
        for step in &view.steps {
            let template = view.templates.get(step.template);
            for features in template.into_iter().flat_map(|t| readable(&view, t)) {
                found.insert((step.template, features.place.0), features);
            }
        }
        Self {
            runner,
            readable: found,
            view,
            ranges: Ranges::default(),
        }
    }
}

impl Source for SlotSource<'_> {
    fn step(&mut self, _: usize, token: u32) -> (Vec<Named>, Option<RunError>) {
        let (readable, view, ranges) = (&self.readable, &self.view, &mut self.ranges);
        let mut named = Vec::new();
        let run = self.runner.step(token, &mut |sight| {
            ranges.see(view, sight);
            let (t, n, _) = sight.place;
            if let Some(features) = readable.get(&(t, n)) {
                named.push(Named {
                    site: at_layer(&features.site, sight.layer),
                    layer: Some(sight.layer),
                    op: view.templates[t].nodes[n].op.name().into(),
                    values: features.read(sight.slots),
                    bound: Some(features.bound()),
                });
            }
        });
        (named, run.err())
    }

    fn ranges(&mut self) -> Ranges {
        std::mem::take(&mut self.ranges)
    }
}

/// Whether a program's residual stream is without its mean, as its recipes say.
fn holds_no_means(view: &SlotView) -> bool {
    let mut parts = view.data.iter().flat_map(|decl| match &decl.recipe {
        Recipe::Matrix(parts) => &parts[..],
        _ => &[],
    });
    parts.any(|part| part.centred)
}

/// What a norm does last: gain and bias, by tensor name.
#[derive(Clone, Copy)]
struct Affine<'a> {
    gain: &'a str,
    bias: Option<&'a str>,
}

/// The decoder in float64.
struct DecoderSource<'a> {
    interpreter: Interpreter<'a>,
    cache: KvCache,
    /// Gains and biases to take out again, by site.
    affine: HashMap<&'a str, Affine<'a>>,
    /// Sites to take the mean off.
    centred: BTreeSet<String>,
    checkpoint: &'a Checkpoint,
}

impl<'a> DecoderSource<'a> {
    /// With what slots hold, if so wanted: norms without gain and bias but for `except`, the stream without its mean.
    fn new(
        decoder: &'a Decoder,
        checkpoint: &'a Checkpoint,
        as_slots: bool,
        except: Option<&str>,
    ) -> Result<Self, CompareError> {
        let templates = decoder.templates();
        let insts = templates.iter().flat_map(|(_, t)| &t.insts);
        let affine = insts.filter_map(|inst| {
            let (gain, bias) = match &inst.op {
                decoder::Op::RmsNorm { weight, .. } => (weight, None),
                decoder::Op::LayerNorm { weight, bias, .. } => (weight, Some(bias.as_str())),
                _ => return None,
            };
            Some((inst.site.as_str(), Affine { gain, bias }))
        });
        let wanted = affine.filter(|(site, _)| as_slots && Some(*site) != except);
        Ok(Self {
            interpreter: Interpreter::new(decoder, checkpoint).map_err(RunError::new)?,
            cache: KvCache::new(decoder),
            affine: wanted.collect(),
            centred: match as_slots {
                true => centred(decoder),
                false => BTreeSet::new(),
            },
            checkpoint,
        })
    }

    /// A site's vector as the other side has it.
    fn as_wanted(&self, seen: &Observation<'_>) -> Option<Vec<f64>> {
        let mut values = seen.values.to_vec();
        if self.centred.contains(seen.site) {
            centre(&mut values);
        }
        let Some(affine) = self.affine.get(seen.site) else {
            return Some(values);
        };
        let tensor = |name: &str| {
            let name = decoder::instantiate(name, seen.layer.unwrap_or(0));
            self.checkpoint.tensor(&name).ok()
        };
        if let Some(bias) = affine.bias {
            let bias = tensor(bias)?;
            let pairs = values.iter_mut().zip(&bias.data);
            pairs.for_each(|(x, &b)| *x -= f64::from(b));
        }
        let gain = tensor(affine.gain)?;
        let pairs = values.iter_mut().zip(&gain.data);
        pairs.for_each(|(x, &g)| *x /= f64::from(g));
        values.iter().all(|x| x.is_finite()).then_some(values)
    }
}

impl Source for DecoderSource<'_> {
    fn step(&mut self, _: usize, token: u32) -> (Vec<Named>, Option<RunError>) {
        let mut named = Vec::new();
        let mut cache =
            std::mem::replace(&mut self.cache, KvCache::new(self.interpreter.decoder()));
        let run = self.interpreter.pass(&mut cache, &[token], &mut |seen| {
            if !seen.part.is_empty() {
                return;
            }
            if let Some(values) = self.as_wanted(&seen) {
                named.push(Named {
                    site: seen.name(),
                    layer: seen.layer.map(|l| l as u32),
                    op: "float64".into(),
                    values,
                    bound: None,
                });
            }
        });
        self.cache = cache;
        (named, run.err().map(RunError::new))
    }
}

/// A golden file, its vectors under the other side's names.
struct GoldenSource<'a> {
    golden: &'a Golden,
    ends: Ends,
    /// Whether what layers return is held against a stream without its mean.
    centred: bool,
}

impl Source for GoldenSource<'_> {
    fn step(&mut self, position: usize, _: u32) -> (Vec<Named>, Option<RunError>) {
        let Golden { hidden, logits, .. } = self.golden;
        let one = |site: &Option<String>, layer: Option<u32>, values: &[f64]| {
            let site = site.as_ref()?;
            Some(Named {
                site: layer.map_or_else(|| site.clone(), |l| at_layer(site, l)),
                layer,
                op: "float64".into(),
                values: values.into(),
                bound: None,
            })
        };
        let last = hidden.len().saturating_sub(1);
        let layers = hidden.iter().enumerate().take(last).skip(1);
        let layers = layers.map(|(i, rows)| {
            let layer = Some(i as u32 - 1);
            let mut row = rows.row(position).to_vec();
            if self.centred {
                centre(&mut row);
            }
            one(&self.ends.layer, layer, &row)
        });
        let normed = hidden.last().map(|rows| rows.row(position));
        let normed = normed.and_then(|row| one(&self.ends.hidden, None, row));
        let logits = one(&self.ends.logits, None, logits.row(position));
        let all = layers.chain([normed, logits]).flatten();
        (all.collect(), None)
    }
}
