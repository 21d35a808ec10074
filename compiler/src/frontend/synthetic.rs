//! Weights drawn from a seed, at magnitudes for which a preset's ranges hold.
//!
//! Entries are uniform, from 16 bits each of BLAKE3's output stream under a key made of seed and tensor name: any rows of any tensor can
//! be drawn by themselves, the same every time, and nothing is held but what is in use.
//!
//! How far they reach follows from the profile. Of the residual stream it gives a bulk, whose mean square is twice the smallest, and one
//! massive channel; the model is made like that:
//! - **Channel 0** of the embedding is [`FILL`] of the profile's largest magnitude, for every token. In each layer's MLP, feature 0 reads
//!   that channel alone, so it is constant, and writes to it alone: it raises the channel to where the profile has it one layer on.
//!   (Real models make their massive activations so.) Nothing else writes there, and nothing but the rows named here reads it.
//! - **Queries and keys** read it in the [`SLOW`] slowest rotary lanes of every head, where turning changes little: every score has the
//!   constant that the middle of `log_mean_exp` asks for. The other lanes are noise of mean square [`NOISE`]; a score strays by as much.
//! - **The bulk** grows from layer to layer as the profile's does, by at least [`GROWTH`] of itself. Attention adds [`ATTENTION`] of it,
//!   little, because what it adds depends on how many values it averages; the MLP adds the rest.
//! - **Values, gates, up projections, logits** have the profile's mean square, the geometric middle of smallest and largest.
//! - **Gains** are 1, biases 0.
//! - A table of **positions**, where there is one, makes half of the first bulk's mean square, and has the massive channel instead of the
//!   table of tokens: that may be the head too, and all scores would have the channel in them.
//!
//! A LayerNorm takes the stream's mean off, to which the massive channel contributes; over as many features as models have, that is little.

use super::FrontendError;
use super::preset::{Preset, SiteProfile};
use sotto_ir::decoder::{
    Architecture, ModelFacts, Positions, Template, Tensor, WeightError, WeightSource, check_rows,
    instantiate,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// How much of the profile's largest magnitude the massive channel fills.
const FILL: f64 = 0.9;
/// Rotary lanes of a head that hold its constant.
const SLOW: usize = 2;
/// Mean square of the other lanes of queries and keys.
const NOISE: f64 = 0.35;
/// How much of the bulk's mean square one attention adds, once it averages a few values.
const ATTENTION: f64 = 1.0 / 64.0;
/// How much of it a layer adds at least.
const GROWTH: f64 = 1.0 / 16.0;
/// How much of the profile's reach the constant features of gate and up projection fill.
const CONSTANT: f64 = 0.5;
/// The massive channel, and the MLP feature that feeds it.
const CHANNEL: usize = 0;
/// Entries that are drawn at once.
const PIECE: usize = 1 << 18;

/// A preset's weights.
pub struct Synthetic {
    seed: u64,
    tensors: BTreeMap<String, Drawn>,
}

/// How a tensor is drawn.
struct Drawn {
    shape: Vec<usize>,
    /// Entries are uniform up to this.
    reach: f64,
    exempt: Exempt,
}

/// Which entries are not drawn.
enum Exempt {
    /// All: they are 1.
    All,
    /// Column [`CHANNEL`], which holds this.
    Column(f64),
    /// These rows, which hold this in column [`CHANNEL`] and nothing elsewhere; of the other rows that column, which holds nothing.
    Rows(BTreeSet<usize>, f64),
}

impl Synthetic {
    /// The weights of a preset.
    ///
    /// # Errors
    /// The preset's profile lacks a site.
    pub fn new(preset: &Preset, seed: u64) -> Result<Self, FrontendError> {
        let decoder = &preset.decoder;
        let mut shapes: BTreeMap<String, Vec<usize>> = decoder.tensors().into_iter().collect();
        let mut tensors = BTreeMap::new();
        let mut add = |template: &Template, layer: usize| {
            for inst in &template.insts {
                for (number, name) in inst.op.tensors().into_iter().enumerate() {
                    // after the weight comes the bias
                    let (reach, exempt) = match number {
                        0 => design(preset, &inst.site, layer)?,
                        _ => (0.0, Exempt::Rows(BTreeSet::new(), 0.0)),
                    };
                    let name = instantiate(name, layer);
                    if let Some(shape) = shapes.remove(&name) {
                        let drawn = Drawn {
                            shape,
                            reach,
                            exempt,
                        };
                        tensors.insert(name, drawn);
                    }
                }
            }
            Ok::<(), FrontendError>(())
        };
        add(&decoder.embed, 0)?;
        add(&decoder.final_, decoder.model.layers)?;
        (0..decoder.model.layers).try_for_each(|layer| add(&decoder.layer, layer))?;
        Ok(Self { seed, tensors })
    }

    fn known(&self, name: &str) -> Result<&Drawn, WeightError> {
        self.tensors.get(name).ok_or_else(|| WeightError::Missing {
            name: name.into(),
            hint: "; a preset has no such weights".into(),
        })
    }
}

impl WeightSource for Synthetic {
    fn shape(&self, name: &str) -> Result<Vec<usize>, WeightError> {
        Ok(self.known(name)?.shape.clone())
    }

    fn tensor(&self, name: &str) -> Result<Arc<Tensor>, WeightError> {
        let rows = self.known(name)?.shape.first().copied().unwrap_or(0);
        Ok(self.rows(name, 0..rows)?.into())
    }

    fn rows(&self, name: &str, rows: Range<usize>) -> Result<Tensor, WeightError> {
        let drawn = self.known(name)?;
        check_rows(name, &drawn.shape, &rows)?;
        let mut hash = blake3::Hasher::new_derive_key("sotto synthetic weights 1");
        hash.update(&self.seed.to_le_bytes())
            .update(name.as_bytes());
        Ok(drawn.rows(rows, hash.finalize_xof()))
    }
}

impl Drawn {
    fn rows(&self, rows: Range<usize>, mut stream: blake3::OutputReader) -> Tensor {
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        let width: usize = shape[1..].iter().product();
        let mut data = Vec::with_capacity(rows.len() * width);
        stream.set_position(2 * (rows.start * width) as u64);
        let mut bytes = vec![0; 2 * PIECE.min(rows.len() * width)];
        for left in (1..=rows.len() * width).rev().step_by(PIECE) {
            bytes.truncate(2 * left);
            stream.fill(&mut bytes);
            let entry = |b: &[u8]| {
                let from_zero = f64::from(u16::from_le_bytes([b[0], b[1]])) + 0.5;
                ((from_zero / 32768.0 - 1.0) * self.reach) as f32
            };
            data.extend(bytes.chunks_exact(2).map(entry));
        }
        for (row, values) in rows.zip(data.chunks_exact_mut(width.max(1))) {
            self.spare(row, values);
        }
        Tensor { shape, data }
    }

    /// Puts what is not drawn in its place.
    fn spare(&self, row: usize, values: &mut [f32]) {
        match &self.exempt {
            Exempt::All => values.fill(1.0),
            Exempt::Column(value) => values[CHANNEL] = *value as f32,
            Exempt::Rows(rows, value) if rows.contains(&row) => {
                values.fill(0.0);
                values[CHANNEL] = *value as f32;
            }
            Exempt::Rows(..) => values[CHANNEL] = 0.0,
        }
    }
}

/// The residual stream at the input of a layer, or of the head.
#[derive(Clone, Copy)]
struct Stream {
    /// Mean square of the ordinary channels.
    bulk: f64,
    /// The massive channel.
    channel: f64,
    width: f64,
}

impl Stream {
    /// At the input of layer `i`; of the head after the last.
    fn at(preset: &Preset, i: usize) -> Result<Self, FrontendError> {
        let site = match preset.profile.layers.get(i) {
            Some(_) => find(preset, i, "attention_norm_in")?,
            None => find(preset, i, "norm_in")?,
        };
        Ok(Self {
            bulk: 2.0 * site.mean_square_min,
            channel: FILL * site.max,
            width: preset.facts.hidden as f64,
        })
    }

    fn mean_square(self) -> f64 {
        self.bulk + self.channel.powi(2) / self.width
    }

    /// The massive channel once normalised.
    fn normed(self) -> f64 {
        self.channel / self.mean_square().sqrt()
    }

    /// How far entries reach that make this mean square of the normalised bulk.
    fn reach(self, mean_square: f64) -> f64 {
        reach(mean_square, self.width, self.bulk / self.mean_square())
    }
}

/// How far uniform entries reach of which `width` make one mean square of another.
fn reach(output: f64, width: f64, input: f64) -> f64 {
    (3.0 * output / (width * input)).sqrt()
}

/// Reach and exempt entries of the weight at a site of layer `i`, or of the head.
fn design(preset: &Preset, site: &str, i: usize) -> Result<(f64, Exempt), FrontendError> {
    let facts = &preset.facts;
    let middle = |name| Ok::<f64, FrontendError>(find(preset, i, name)?.middle());
    let stream = Stream::at(preset, i)?;
    let none = || Exempt::Rows(BTreeSet::new(), 0.0);
    let only = |row, value| Exempt::Rows(BTreeSet::from([row]), value);
    let constant = |name| {
        let reach = find(preset, i, name)?.max;
        Ok::<f64, FrontendError>(CONSTANT * reach)
    };
    Ok(match site.rsplit('.').next().unwrap_or(site) {
        "embed" => match facts.positions {
            Positions::Rotary(_) => (reach(stream.bulk, 1.0, 1.0), Exempt::Column(stream.channel)),
            Positions::Learned => (reach(0.5 * stream.bulk, 1.0, 1.0), Exempt::Column(0.0)),
        },
        "position" => {
            let reach = reach(0.5 * stream.bulk, 1.0, 1.0);
            (reach, Exempt::Column(stream.channel))
        }
        "q_proj" => (stream.reach(NOISE), slow(preset, facts.heads, i)?),
        "k_proj" => (stream.reach(NOISE), slow(preset, facts.kv_heads, i)?),
        "v_proj" => (stream.reach(middle("v")?), none()),
        "o_proj" => {
            let width = facts.query_width() as f64;
            let added = ATTENTION * stream.bulk;
            (reach(added, width, middle("attended")?), only(CHANNEL, 0.0))
        }
        "gate_proj" => {
            let value = constant("silu_in")? / stream.normed();
            (stream.reach(middle("silu_in")?), only(CHANNEL, value))
        }
        "up_proj" => {
            let name = match facts.architecture {
                Architecture::Llama => "up",
                Architecture::Gpt2 => "gelu_in",
            };
            let value = constant(name)? / stream.normed();
            (stream.reach(middle(name)?), only(CHANNEL, value))
        }
        "down_proj" => {
            let next = Stream::at(preset, i + 1)?;
            let grown = (next.bulk - stream.bulk).max(GROWTH * stream.bulk);
            let added = grown - ATTENTION * stream.bulk;
            let activated = |x| facts.activation.value(x);
            let squares = |name| Ok::<f64, FrontendError>(mean_square(activated, middle(name)?));
            let (product, feeds) = match facts.architecture {
                Architecture::Llama => (
                    squares("silu_in")? * middle("up")?,
                    activated(constant("silu_in")?) * constant("up")?,
                ),
                Architecture::Gpt2 => (squares("gelu_in")?, activated(constant("gelu_in")?)),
            };
            let value = (next.channel - stream.channel) / feeds;
            let width = facts.intermediate as f64;
            (reach(added, width, product), only(CHANNEL, value))
        }
        "lm_head" => (stream.reach(middle("logits")?), none()),
        _ => (0.0, Exempt::All), // a norm's gain
    })
}

/// The rows of `heads` query or key heads that hold a score's constant.
fn slow(preset: &Preset, heads: usize, i: usize) -> Result<Exempt, FrontendError> {
    let ModelFacts { head_dim, .. } = preset.facts;
    let scores = find(preset, i, "log_mean_exp")?;
    let constant = (scores.min + scores.max) / 2.0;
    let each = (constant * (head_dim as f64).sqrt() / SLOW as f64).sqrt();
    let lanes = head_dim / 2 - SLOW..head_dim / 2;
    let rows = (0..heads).flat_map(|head| lanes.clone().map(move |lane| head * head_dim + lane));
    let value = each / Stream::at(preset, i)?.normed();
    Ok(Exempt::Rows(rows.collect(), value))
}

/// Mean of f(x)² over normal x of this mean square.
fn mean_square(f: impl Fn(f64) -> f64, mean_square: f64) -> f64 {
    let (deviation, steps) = (mean_square.sqrt(), 4096);
    let step = 16.0 / f64::from(steps);
    let weighed = (0..steps).map(|k| {
        let z = -8.0 + (f64::from(k) + 0.5) * step;
        f(deviation * z).powi(2) * (-z * z / 2.0).exp() * step
    });
    weighed.sum::<f64>() / std::f64::consts::TAU.sqrt()
}

impl SiteProfile {
    /// The geometric middle of its mean squares.
    fn middle(&self) -> f64 {
        (self.mean_square_min * self.mean_square_max).sqrt()
    }
}

/// A site of layer `i`, or after the last layer.
fn find<'p>(preset: &'p Preset, i: usize, name: &str) -> Result<&'p SiteProfile, FrontendError> {
    let sites = preset.profile.layers.get(i).unwrap_or(&preset.profile.head);
    let found = sites.iter().find(|site| site.site == name);
    found.ok_or_else(|| FrontendError::Site {
        preset: preset.name,
        site: name.into(),
    })
}
