//! What the search knows of a template's sites: sizes, and the degrees that calibrated ranges ask for.

use crate::lower::{Draft, LowerError, Model};
use egg::Symbol;
use sotto_ir::decoder::{Op, Template};
use sotto_ir::params::poly::{Parity, PolyPlan};
use sotto_ir::slot::{DataId, Form, Matrix, Pairing};
use std::collections::HashMap;
use std::ops::Range;

use super::rules::{Extent, MAX_SQUARINGS};
use crate::approx::Fit;

/// A linear map's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearFact {
    /// Equal for maps whose outputs lie alike.
    pub shape: u32,
    /// Width of its input.
    pub from: u32,
    /// Width of its output, or of one block of it.
    pub to: u32,
    /// Ciphertexts that its output fills.
    pub blocks: u32,
}

impl LinearFact {
    /// The matrix in a form; its data does not matter here.
    pub fn matrix(&self, form: Form, inputs: bool, baby: u32) -> Matrix {
        Matrix {
            name: String::new(),
            in_width: self.from,
            out_width: self.to,
            form,
            block: 1,
            pairing: if inputs {
                Pairing::Inputs
            } else {
                Pairing::None
            },
            baby,
            data: DataId(0),
        }
    }

    /// Baby steps that balance giants.
    pub fn balanced(&self) -> u32 {
        crate::lower::baby_steps(self.from.min(self.to))
    }
}

/// A norm in one of its forms.
#[derive(Clone, Debug, PartialEq)]
pub struct NormFact {
    /// Additions before the polynomial.
    pub doublings: u32,
    /// Its inverse square root.
    pub rsqrt: PolyPlan,
}

/// Facts by site.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    linears: HashMap<Symbol, LinearFact>,
    /// Norms: doubled, scaled; absent where no polynomial does.
    pub norms: HashMap<Symbol, [Option<NormFact>; 2]>,
    /// Softmax's exponential by squarings; absent where no polynomial does.
    pub exp: Vec<Option<PolyPlan>>,
    /// Softmax's inverse.
    pub inverse: Option<PolyPlan>,
    /// Activations: over a window about zero, over what was calibrated; absent where no polynomial does.
    pub activations: HashMap<Symbol, [Option<PolyPlan>; 2]>,
    /// Most tokens of a group.
    pub tokens: u32,
    /// Query heads to a key head where keys may be made once for them, else 1.
    pub shared: u32,
    /// Whether queries and keys are turned.
    pub rotary: bool,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Width of the MLP's inner vectors.
    pub inner: u32,
    /// Width of all query heads.
    pub heads_width: u32,
    /// Lanes of a head.
    pub lanes: u32,
    /// Tokens of a conversation.
    pub context: u32,
    /// Slots S of one ciphertext.
    pub slots: u32,
}

impl Facts {
    /// How far rules go.
    pub fn extent(&self) -> Extent {
        let narrowest = self.linears.values().map(|fact| fact.to).min();
        Extent {
            tokens: self.tokens,
            strides: self.slots / narrowest.unwrap_or(self.slots).max(1),
            shared: self.shared,
            rotary: self.rotary,
        }
    }
}

impl Facts {
    /// The facts of a template for the layers it serves.
    pub fn new(
        model: &Model<'_>,
        template: &Template,
        layers: Range<u32>,
    ) -> Result<Facts, LowerError> {
        let geometry = &model.geometry;
        let mut facts = Facts {
            tokens: geometry.tokens,
            shared: geometry.shared(),
            rotary: model.decoder.model.positions.rope().is_some(),
            hidden: (model.decoder.model.hidden as u32).next_power_of_two(),
            inner: (model.decoder.model.intermediate as u32).next_power_of_two(),
            heads_width: geometry.width(),
            lanes: geometry.lanes,
            context: model.options.context,
            slots: geometry.slots,
            ..Facts::default()
        };
        facts.linears = linears(model, template, &layers)?;
        for inst in &template.insts {
            let name = inst.site.as_str();
            let site = Symbol::from(name);
            match inst.op {
                Op::RmsNorm { eps, .. } | Op::LayerNorm { eps, .. } => {
                    let form = |scaled| {
                        let norm = model.norm(name, eps, scaled, layers.clone()).ok()?;
                        let (map, fit) = norm.fit(model.residual).ok()?;
                        Some(NormFact {
                            doublings: map.doublings,
                            rsqrt: plan(&fit)?,
                        })
                    };
                    facts.norms.insert(site, [form(false), form(true)]);
                }
                Op::Attend { scale, .. } => {
                    for squarings in 0..=MAX_SQUARINGS {
                        let softmax = model.softmax(name, scale, squarings, layers.clone())?;
                        let exp = softmax.exponential().ok();
                        // other layers may need more squarings than these do
                        let enough = squarings >= model.choices.squarings;
                        facts
                            .exp
                            .push(exp.filter(|_| enough).as_ref().and_then(plan));
                        facts.inverse = softmax.inverse().ok().as_ref().and_then(plan);
                    }
                }
                Op::Activate { x, function } => {
                    let gate = template
                        .definition(x)
                        .map_or(name, |inst| inst.site.as_str());
                    let form = |windowed| {
                        let window = model.activation_window(windowed, gate, layers.clone())?;
                        let fit = model.activation(name, function, window, layers.clone());
                        Ok::<_, LowerError>(fit.ok().as_ref().and_then(plan))
                    };
                    facts.activations.insert(site, [form(false)?, form(true)?]);
                }
                _ => {}
            }
        }
        Ok(facts)
    }

    /// Adds a linear map.
    #[cfg(test)]
    pub fn insert(&mut self, site: Symbol, fact: LinearFact) {
        self.linears.insert(site, fact);
    }

    /// A linear map.
    pub fn linear(&self, site: Symbol) -> LinearFact {
        let none = LinearFact {
            shape: 0,
            from: 1,
            to: 1,
            blocks: 1,
        };
        self.linears.get(&site).copied().unwrap_or(none)
    }
}

/// Sizes of the linear maps as the lowering makes them, read off a draft in which nothing is paired.
fn linears(
    model: &Model<'_>,
    template: &Template,
    layers: &Range<u32>,
) -> Result<HashMap<Symbol, LinearFact>, LowerError> {
    let Draft { program, .. } = crate::lower::draft(model, template, layers.clone())?;
    let mut shapes = Vec::new();
    let mut linears = HashMap::new();
    for matrix in &program.matrices {
        let key = (matrix.in_width, matrix.out_width);
        let shape = shapes
            .iter()
            .position(|known| *known == key)
            .unwrap_or_else(|| {
                shapes.push(key);
                shapes.len() - 1
            });
        let fact = LinearFact {
            shape: shape as u32,
            from: matrix.in_width,
            to: matrix.out_width,
            blocks: 1,
        };
        // blocks are named by their first feature: `lm_head[32768..]`
        let site = matrix.name.split('[').next().unwrap_or_default();
        let known = linears.entry(Symbol::from(site));
        known
            .and_modify(|fact: &mut LinearFact| fact.blocks += 1)
            .or_insert(fact);
    }
    Ok(linears)
}

fn plan(fit: &Fit) -> Option<PolyPlan> {
    PolyPlan::new(fit.degree(), Parity::of(&fit.coefficients)).ok()
}
