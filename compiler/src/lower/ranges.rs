//! What calibration on the `decoder` stage records: how far every vector reaches, by site and layer.
//!
//! Besides the interpreter's own observations two derived ones are kept, because approximations need them: the normalised
//! vector before its gain (`normed`), and per head the logarithm of the mean of exp(score) over the cached tokens, which is
//! what softmax divides by (`log_mean_exp`). Vectors that have no mean in slots ([`super::centre`]) are recorded without it.

use rayon::prelude::*;
use sotto_ir::decoder::{
    Architecture, Decoder, InterpretError, Interpreter, KvCache, Observation, WeightSource,
};
use sotto_ir::plan::SiteRange;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::{LowerError, centre, centred};
use crate::approx::Window;
use crate::frontend::{Profile, SiteProfile};

/// Smallest, largest and mean square of what was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Smallest.
    pub lo: f64,
    /// Largest.
    pub hi: f64,
    squares: f64,
    count: f64,
}

impl Span {
    const EMPTY: Span = Span {
        lo: f64::INFINITY,
        hi: f64::NEG_INFINITY,
        squares: 0.0,
        count: 0.0,
    };

    fn add(&mut self, x: f64) {
        self.lo = self.lo.min(x);
        self.hi = self.hi.max(x);
        self.squares += x * x;
        self.count += 1.0;
    }

    /// Root mean square.
    pub fn rms(self) -> f64 {
        (self.squares / self.count).sqrt()
    }

    /// The smallest span that holds both.
    pub fn union(self, other: Span) -> Span {
        Span {
            lo: self.lo.min(other.lo),
            hi: self.hi.max(other.hi),
            squares: self.squares + other.squares,
            count: self.count + other.count,
        }
    }

    /// Largest magnitude.
    pub fn reach(self) -> f64 {
        self.lo.abs().max(self.hi.abs())
    }

    /// As a window of a positive quantity, `margin` times wider at both ends.
    pub fn positive(self, margin: f64) -> Option<Window> {
        Window::new(self.lo / margin, self.hi * margin)
    }

    /// As a window that holds zero, `margin` times longer about its middle.
    pub fn around_zero(self, margin: f64) -> Option<Window> {
        let (lo, hi) = (self.lo.min(0.0), self.hi.max(0.0));
        let (mid, half) = ((lo + hi) / 2.0, (hi - lo) / 2.0 * margin);
        Window::new(mid - half, mid + half)
    }
}

/// A site of a profile.
fn find<'p>(sites: &'p [SiteProfile], name: &str) -> Result<&'p SiteProfile, LowerError> {
    let found = sites.iter().find(|site| site.site == name);
    found.ok_or_else(|| LowerError::Range {
        site: name.into(),
        part: "profile",
    })
}

/// Sequences that each thread runs between two reports of progress.
const BATCH: usize = 2;

/// Key of one recorded vector: site, part, index within the part, layer (0 outside the stack).
type Key = (String, &'static str, usize, usize);

/// The record of a calibration run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranges {
    spans: BTreeMap<Key, Span>,
    /// Tokens seen.
    pub tokens: usize,
}

impl Ranges {
    /// Runs the decoder over each sequence from an empty cache and records; `done` hears how many sequences are through.
    ///
    /// # Errors
    /// Tokens outside the vocabulary, sequences longer than the model's context, unreadable weights.
    pub fn calibrate(
        decoder: &Decoder,
        weights: &dyn WeightSource,
        sequences: &[Vec<u32>],
        done: &mut dyn FnMut(usize),
    ) -> Result<Ranges, InterpretError> {
        let interpreter = Interpreter::new(decoder, weights)?;
        let centred = centred(decoder);
        let mut ranges = Ranges::default();
        let mut through = 0;
        for batch in sequences.chunks(BATCH * rayon::current_num_threads()) {
            let each: Vec<Ranges> = batch
                .par_iter()
                .map(|tokens| Self::of_sequence(&interpreter, &centred, tokens))
                .collect::<Result<_, _>>()?;
            each.into_iter().for_each(|other| ranges.merge(other));
            through += batch.len();
            done(through);
        }
        Ok(ranges)
    }

    /// Ranges assumed of a model without weights. What a profile does not name follows from what it does: what is added to the
    /// residual stream reaches as far as the stream, so do the tables that it begins with, a normalised vector as far as its largest
    /// entry over its root mean square, and SiLU's result is taken to have half its argument's. Where slots hold the stream without its
    /// mean, that is taken to change nothing.
    ///
    /// # Errors
    /// A site that the profile lacks.
    pub fn assumed(decoder: &Decoder, profile: &Profile) -> Result<Ranges, LowerError> {
        let mut ranges = Ranges::default();
        let layers = decoder.model.layers;
        for i in 0..layers {
            // what a layer returns is what the next one reads
            let own = profile.layers.get(i).map_or(&[][..], |sites| sites);
            let next = profile.layers.get(i + 1).unwrap_or(&profile.head);
            let after = find(next, "attention_norm_in").or_else(|_| find(next, "norm_in"))?;
            ranges.assume_layer(decoder, i, own, after)?;
        }
        let last = find(&profile.head, "norm_in")?;
        ranges.assume_norm("final_norm", 0, last, decoder.model.hidden);
        ranges.assume("lm_head", "", 0, 0, find(&profile.head, "logits")?, 1.0);
        let first = profile.layers.first().map_or(&[][..], |sites| sites);
        let first = find(first, "attention_norm_in")?;
        for inst in &decoder.embed.insts {
            ranges.assume(&inst.site, "", 0, 0, first, 1.0);
        }
        Ok(ranges)
    }

    fn assume_layer(
        &mut self,
        decoder: &Decoder,
        layer: usize,
        sites: &[SiteProfile],
        after: &SiteProfile,
    ) -> Result<(), LowerError> {
        let middle = find(sites, "mlp_norm_in")?;
        let (input, width) = (find(sites, "attention_norm_in")?, decoder.model.hidden);
        self.assume_norm("layers.{i}.attention_norm", layer, input, width);
        self.assume_norm("layers.{i}.mlp_norm", layer, middle, width);
        let mut known = vec![
            ("attention.q_proj", find(sites, "q")?, 1.0),
            ("attention.k_proj", find(sites, "k")?, 1.0),
            ("attention.v_proj", find(sites, "v")?, 1.0),
            ("attention.o_proj", middle, 1.0),
            ("attention_residual", middle, 1.0),
            ("mlp.down_proj", after, 1.0),
            ("mlp_residual", after, 1.0),
        ];
        known.extend(match decoder.model.architecture {
            Architecture::Llama => vec![
                ("attention.q_rope", find(sites, "q")?, 1.0),
                ("attention.k_rope", find(sites, "k")?, 1.0),
                ("mlp.gate_proj", find(sites, "silu_in")?, 1.0),
                ("mlp.silu", find(sites, "silu_in")?, 0.5),
                ("mlp.up_proj", find(sites, "up")?, 1.0),
            ],
            Architecture::Gpt2 => vec![
                ("mlp.up_proj", find(sites, "gelu_in")?, 1.0),
                ("mlp.gelu", find(sites, "activated")?, 1.0),
            ],
        });
        for (site, profile, share) in known {
            self.assume(
                &format!("layers.{{i}}.{site}"),
                "",
                0,
                layer,
                profile,
                share,
            );
        }
        let attend = "layers.{i}.attention.attend";
        self.assume(attend, "scores", 0, layer, find(sites, "scores")?, 1.0);
        for head in 0..decoder.model.heads {
            self.assume(
                attend,
                "log_mean_exp",
                head,
                layer,
                find(sites, "log_mean_exp")?,
                1.0,
            );
        }
        Ok(())
    }

    fn assume_norm(&mut self, site: &str, layer: usize, input: &SiteProfile, width: usize) {
        let span = |lo: f64, hi: f64| Span {
            lo,
            hi,
            squares: hi * hi,
            count: 1.0,
        };
        let reach = input.max.abs().max(input.min.abs());
        // no entry exceeds the root of the vector's length once its mean square is 1
        let normed = (reach / input.mean_square_min.sqrt()).min((width as f64).sqrt());
        let squares = span(input.mean_square_min, input.mean_square_max);
        for (part, span) in [("mean_square", squares), ("normed", span(normed, normed))] {
            self.spans.insert((site.into(), part, 0, layer), span);
        }
    }

    fn assume(
        &mut self,
        site: &str,
        part: &'static str,
        index: usize,
        layer: usize,
        profile: &SiteProfile,
        share: f64,
    ) {
        let rms = share * profile.mean_square_min.sqrt();
        let span = Span {
            lo: profile.min,
            hi: profile.max,
            squares: rms * rms,
            count: 1.0,
        };
        self.spans.insert((site.into(), part, index, layer), span);
    }

    fn of_sequence(
        interpreter: &Interpreter<'_>,
        centred: &BTreeSet<String>,
        tokens: &[u32],
    ) -> Result<Ranges, InterpretError> {
        let mut ranges = Ranges {
            tokens: tokens.len(),
            ..Ranges::default()
        };
        let mut cache = KvCache::new(interpreter.decoder());
        let mut inputs = BTreeMap::new();
        interpreter.pass(&mut cache, tokens, &mut |seen| {
            if seen.part.is_empty() && centred.contains(seen.site) {
                let mut values = seen.values.to_vec();
                centre(&mut values);
                let values = &values[..];
                ranges.observe(&Observation { values, ..seen }, &mut inputs);
            } else {
                ranges.observe(&seen, &mut inputs);
            }
        })?;
        Ok(ranges)
    }

    /// The union. Sums of squares round, so merging goes by the sequences' order, however many threads there are.
    fn merge(&mut self, other: Ranges) {
        self.tokens += other.tokens;
        for (key, span) in other.spans {
            let known = self.spans.entry(key).or_insert(Span::EMPTY);
            *known = known.union(span);
        }
    }

    fn observe(&mut self, seen: &Observation<'_>, inputs: &mut BTreeMap<usize, f64>) {
        let reach = |values: &[f64]| values.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        match seen.part {
            "input" => {
                inputs.insert(seen.position, reach(seen.values));
            }
            "mean_square" => {
                let rms = seen.values[0].sqrt();
                if let (Some(&x), true) = (inputs.get(&seen.position), rms > 0.0) {
                    self.extend(seen, "normed", 0, &[x / rms]);
                }
            }
            "scores" => {
                for (head, scores) in seen.values.chunks_exact(seen.position + 1).enumerate() {
                    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
                    let log_mean = top + (sum / scores.len() as f64).ln();
                    self.extend(seen, "log_mean_exp", head, &[log_mean]);
                }
            }
            _ => {}
        }
        self.extend(seen, seen.part, 0, seen.values);
    }

    fn extend(&mut self, seen: &Observation<'_>, part: &'static str, index: usize, values: &[f64]) {
        let key = (seen.site.to_string(), part, index, seen.layer.unwrap_or(0));
        let span = self.spans.entry(key).or_insert(Span::EMPTY);
        values.iter().for_each(|&x| span.add(x));
    }

    /// The union over `layers` of what `part` of `site` reached (`index` picks a head where the part has heads).
    pub fn span(
        &self,
        site: &str,
        part: &'static str,
        index: usize,
        layers: Range<u32>,
    ) -> Option<Span> {
        layers
            .filter_map(|layer| {
                self.spans
                    .get(&(site.to_string(), part, index, layer as usize))
                    .copied()
            })
            .reduce(Span::union)
    }
}

impl Ranges {
    /// Every recorded site, merged over the layers of each layer template (first and count) and widened by `margin` as the
    /// lowering widens it. Sites outside the stack have one entry, under layer 0.
    pub fn sites(&self, layers: &[(u32, u32)], margin: f64) -> Vec<SiteRange> {
        let names: BTreeSet<(&String, &'static str, usize)> = self
            .spans
            .keys()
            .map(|(site, part, index, _)| (site, *part, *index))
            .collect();
        let mut sites = Vec::new();
        for (site, part, index) in names {
            let groups = if site.contains("{i}") {
                layers
            } else {
                &[(0, 1)]
            };
            for &(first, count) in groups {
                let Some(span) = self.span(site, part, index, first..first + count) else {
                    continue;
                };
                let bound = match part {
                    "mean_square" => (span.lo / margin, span.hi * margin),
                    "log_mean_exp" => (span.lo - margin.ln(), span.hi + margin.ln()),
                    "scores" => match span.around_zero(margin) {
                        Some(window) => (window.lo, window.hi),
                        None => continue,
                    },
                    _ => (-span.reach() * margin, span.reach() * margin),
                };
                let name = match part {
                    "" => site.clone(),
                    "log_mean_exp" => format!("{site}.{part}.{index}"),
                    _ => format!("{site}.{part}"),
                };
                sites.push(SiteRange {
                    site: name,
                    layers: (first, count),
                    seen: (span.lo, span.hi),
                    bound,
                });
            }
        }
        sites
    }
}
