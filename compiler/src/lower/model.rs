//! What every template of a program shares, and the approximations that calibrated ranges ask for.

use crate::approx::{Fit, Function, Window, cheapest};
use sotto_ir::decoder::{Activation, Decoder, Op, Template, Value};
use std::collections::BTreeSet;
use std::ops::Range;

use super::attention::Softmax;
use super::norm::Norm;
use super::{Choices, Geometry, LowerError, Options, Ranges, Span};

/// What every template of a program shares.
pub struct Model<'a> {
    /// The stage above.
    pub decoder: &'a Decoder,
    /// Calibrated ranges.
    pub ranges: &'a Ranges,
    /// The caller's decisions.
    pub options: &'a Options,
    /// The search's decisions.
    pub choices: &'a Choices,
    /// How features lie.
    pub geometry: Geometry,
    /// Unit of the residual stream.
    pub residual: f64,
    /// Units of keys and of values.
    pub state: [f64; 2],
    /// Sites whose vectors are without their mean here: [`super::centre`].
    pub centred: BTreeSet<String>,
}

fn missing(site: &str, part: &'static str) -> LowerError {
    LowerError::Range {
        site: site.into(),
        part,
    }
}

impl Model<'_> {
    /// What a part of a site reached in some layers.
    pub fn span(
        &self,
        site: &str,
        part: &'static str,
        layers: Range<u32>,
    ) -> Result<Span, LowerError> {
        self.ranges
            .span(site, part, 0, layers)
            .ok_or_else(|| missing(site, part))
    }

    /// Largest magnitude of a part with margin.
    pub fn reach(
        &self,
        site: &str,
        part: &'static str,
        layers: Range<u32>,
    ) -> Result<f64, LowerError> {
        let reach = self.span(site, part, layers)?.reach() * self.options.margin;
        if reach > 0.0 {
            Ok(reach)
        } else {
            Err(missing(site, part))
        }
    }

    /// Largest magnitude of a value with margin, and if it is a rotary embedding, of what was embedded.
    pub fn reach_through_rope(
        &self,
        template: &Template,
        value: Value,
        layers: Range<u32>,
    ) -> Result<f64, LowerError> {
        let Some(inst) = template.definition(value) else {
            return Err(missing("param", ""));
        };
        let reach = self.reach(&inst.site, "", layers.clone())?;
        match inst.op {
            Op::Rope { x, .. } => Ok(reach.max(self.reach_through_rope(template, x, layers)?)),
            _ => Ok(reach),
        }
    }

    /// A norm's mean squares with margin.
    pub fn norm_window(&self, site: &str, layers: Range<u32>) -> Result<Window, LowerError> {
        let span = self.span(site, "mean_square", layers)?;
        span.positive(self.options.margin)
            .ok_or_else(|| missing(site, "mean_square"))
    }

    /// A norm over the residual stream.
    pub fn norm<'s>(
        &self,
        site: &'s str,
        eps: f64,
        scaled: bool,
        layers: Range<u32>,
    ) -> Result<Norm<'s>, LowerError> {
        Ok(Norm {
            site,
            count: self.decoder.model.hidden,
            window: self.norm_window(site, layers.clone())?,
            eps,
            unit: self.reach(site, "normed", layers)?,
            tolerance: self.options.tolerance,
            scaled,
        })
    }

    /// Where an activation's argument, the value of site `argument`, lies, with margin: as calibrated, or about zero.
    pub fn activation_window(
        &self,
        windowed: bool,
        argument: &str,
        layers: Range<u32>,
    ) -> Result<Window, LowerError> {
        let window = match windowed {
            true => self
                .span(argument, "", layers)?
                .around_zero(self.options.margin),
            false => {
                let reach = self.reach(argument, "", layers)?;
                Window::new(-reach, reach)
            }
        };
        window.ok_or_else(|| missing(argument, ""))
    }

    /// An activation over a window; its result has the unit that the largest argument needs.
    pub fn activation(
        &self,
        site: &str,
        which: Activation,
        window: Window,
        layers: Range<u32>,
    ) -> Result<Fit, LowerError> {
        let rms = self.span(site, "", layers)?.rms();
        let unit = window.reach();
        let function = Function::Activation {
            which,
            window,
            scale: 1.0 / unit,
        };
        // the fit's error is in units of the result's reach, the target in units of its root mean square
        let target = self.options.tolerance * Options::ACTIVATION * rms / unit;
        cheapest(&function, target).map_err(|source| LowerError::Fit {
            site: site.into(),
            source,
        })
    }

    /// Attention's softmax.
    pub fn softmax(
        &self,
        site: &str,
        scale: f64,
        squarings: u32,
        layers: Range<u32>,
    ) -> Result<Softmax, LowerError> {
        let scores = self.span(site, "scores", layers.clone())?;
        let scores = scores
            .around_zero(self.options.margin)
            .ok_or_else(|| missing(site, "scores"))?;
        let margin = self.options.margin.ln();
        let (mut spread, mut lowest, mut highest) = (0.0f64, f64::INFINITY, 0.0f64);
        let (mut tops, mut centres) = (Vec::new(), Vec::new());
        for layer in 0..self.decoder.model.layers as u32 {
            let means = self.log_means(site, layer)?;
            let top = |mean: &Span| self.top(scores, mean.hi + margin);
            if layers.contains(&layer) {
                for mean in &means {
                    spread = spread.max((mean.hi - mean.lo) / 2.0);
                    lowest = lowest.min(mean.lo - top(mean));
                    highest = highest.max(top(mean));
                }
            }
            let mut each: Vec<f64> = means.iter().map(top).collect();
            let mut middle: Vec<f64> = means.iter().map(|mean| (mean.hi + mean.lo) / 2.0).collect();
            // an absent head scores 0 everywhere: its mean exponential is exp(0)
            each.resize(self.geometry.heads_padded as usize, 0.0);
            middle.resize(self.geometry.heads_padded as usize, 0.0);
            tops.push(each);
            centres.push(middle);
        }
        let lo = scores.lo - highest;
        Ok(Softmax {
            scores: Window::new(lo, 0.0).ok_or_else(|| missing(site, "scores"))?,
            scale,
            tops,
            centres,
            spread: spread + margin,
            lowest: lowest - margin,
            squarings,
            tolerance: self.options.tolerance,
        })
    }

    /// The logarithms of a layer's mean exponentials, by head.
    fn log_means(&self, site: &str, layer: u32) -> Result<Vec<Span>, LowerError> {
        const PART: &str = "log_mean_exp";
        let heads = 0..self.geometry.heads() as usize;
        let mean = |head| self.ranges.span(site, PART, head, layer..layer + 1);
        heads
            .map(|head| mean(head).ok_or_else(|| missing(site, PART)))
            .collect()
    }

    /// What no score of a head exceeds, given the largest logarithm of its mean exponential, nor the 0 of empty tokens: one term
    /// of a mean is at most the mean times how many there are. The margin of scores alone would be a share of their whole span,
    /// and exponentials that far below 1 would drown in noise.
    fn top(&self, scores: Window, mean: f64) -> f64 {
        let one = mean + f64::from(self.options.context).ln();
        scores.hi.min(one).max(0.0)
    }
}
