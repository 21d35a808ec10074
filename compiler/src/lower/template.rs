//! One decoder template, operation by operation.

use sotto_ir::decoder::{Activation, Inst, Op, Template, Type, Value};
use sotto_ir::slot::{
    DataDecl, FeatureMap, Layout, PlainFactor, PlainId, Recipe, StateId, ValueType,
};
use std::collections::HashMap;
use std::ops::Range;

use super::attention::{self, Place, Turn};
use super::block::{self, Key};
use super::builder::{Builder, Val, real};
use super::diagonals;
use super::linear::{self, Affine, Input, Landing, Output, periodic};
use super::model::Model;
use super::options::{Way, places};
use super::{LowerError, norm};
use crate::approx::Window;

/// A decoder value, lowered as far as its consumers need.
#[derive(Clone)]
enum Lowered {
    /// A vector, possibly of a norm whose gain and bias are still to come.
    Vector(Input),
    /// A rotary embedding still to be applied, since its consumer decides whether a mask joins it.
    Rope(Input),
    /// A vector that fills several ciphertexts, end to end; only a template's result can be one.
    Blocks(Vec<Val>),
}

/// Lowers one template.
pub struct Lowering<'m, 'a, 'p> {
    model: &'m Model<'a>,
    template: &'a Template,
    layers: Range<u32>,
    tag: String,
    b: Builder<'p>,
    values: HashMap<Value, Lowered>,
}

impl<'m, 'a, 'p> Lowering<'m, 'a, 'p> {
    /// A lowering of `template` for `layers`; `tag` distinguishes its tables.
    pub fn new(
        model: &'m Model<'a>,
        template: &'a Template,
        layers: Range<u32>,
        tag: &str,
        b: Builder<'p>,
    ) -> Self {
        Self {
            model,
            template,
            layers,
            tag: tag.into(),
            b,
            values: HashMap::new(),
        }
    }

    /// A template from the residual stream to what the decoder's template returns, or to `result` instead.
    pub fn run(self, name: &str, result: Option<Value>) -> Result<usize, LowerError> {
        self.lower(name, result, false)
    }

    /// As [`Lowering::run`], of a block's last token alone.
    pub fn run_last(self, name: &str, result: Option<Value>) -> Result<usize, LowerError> {
        self.lower(name, result, true)
    }

    fn lower(
        mut self,
        name: &str,
        result: Option<Value>,
        last_only: bool,
    ) -> Result<usize, LowerError> {
        let (param, ty) = self.template.param;
        let Type::Vector(count) = ty else {
            return Err(self.unsupported("template", "a template of tokens"));
        };
        let map = FeatureMap::plain(count as u32);
        let mut val = self.b.param(real(periodic(&map), self.model.residual));
        if last_only {
            val = block::last(&mut self.b, name, &val, &map);
        }
        self.values.insert(param, vector(val, map));
        let wanted = result.unwrap_or(self.template.result);
        for inst in &self.template.insts {
            self.inst(inst)?;
            if inst.result.is_some_and(|(v, _)| v == wanted) {
                break;
            }
        }
        let results = match self.values.get(&wanted) {
            Some(Lowered::Blocks(blocks)) => blocks.clone(),
            _ => {
                let result = self.input(wanted, name)?;
                vec![self.with_affine(name, result)]
            }
        };
        let results: Vec<&Val> = results.iter().collect();
        Ok(self.b.finish(name, &results))
    }

    fn unsupported(&self, site: &str, what: &str) -> LowerError {
        LowerError::Unsupported {
            site: site.into(),
            what: what.into(),
        }
    }

    fn input(&self, value: Value, site: &str) -> Result<Input, LowerError> {
        match self.values.get(&value) {
            Some(Lowered::Vector(input)) => Ok(input.clone()),
            _ => Err(self.unsupported(site, "a rotary embedding used as a plain vector")),
        }
    }

    /// A vector whose norm's gain is multiplied in and whose bias is added, where no matrix takes them.
    fn with_affine(&mut self, site: &str, input: Input) -> Val {
        let Input { val, map, affine } = input;
        let Some(Affine { gain, bias }) = affine else {
            return val;
        };
        let plain = self.norm_vector(&format!("{site}.gain"), gain, &map, &val, 1.0);
        let ValueType { layout, unit, .. } = val.ty.clone();
        let scaled = self.b.mul_plain(site, &val, plain, layout, unit);
        let Some(bias) = bias else {
            return scaled;
        };
        let plain = self.norm_vector(&format!("{site}.bias"), bias, &map, &val, 1.0 / unit);
        self.b.add_plain(site, &scaled, plain)
    }

    /// A norm's tensor as a plaintext for `x`.
    fn norm_vector(
        &mut self,
        name: &str,
        tensor: String,
        map: &FeatureMap,
        x: &Val,
        scale: f64,
    ) -> PlainId {
        let width = places(map);
        let stride = x.ty.layout.each().period() / width;
        let data = self.b.data(DataDecl {
            name: format!("{name}{}", self.tag),
            per_layer: tensor.contains("{i}"),
            shape: vec![width],
            recipe: Recipe::Vector {
                tensor,
                rows: map.clone(),
                scale,
            },
        });
        self.b
            .plain(name, vec![PlainFactor::Vector { data, stride }])
    }

    fn plain_vector(&self, value: Value, site: &str) -> Result<Val, LowerError> {
        let input = self.input(value, site)?;
        match input.affine {
            None => Ok(input.val),
            Some(_) => Err(self.unsupported(site, "a norm's result outside a linear map")),
        }
    }

    fn inst(&mut self, inst: &'a Inst) -> Result<(), LowerError> {
        let Some((result, _)) = inst.result else {
            return self.append(inst);
        };
        if self.values.contains_key(&result) {
            return Ok(()); // the second of a pair
        }
        let site = &inst.site;
        let lowered = match &inst.op {
            Op::RmsNorm { x, weight, eps } => {
                let affine = Affine {
                    gain: weight.clone(),
                    bias: None,
                };
                self.norm(site, *x, affine, *eps)?
            }
            // the stream has no mean here
            Op::LayerNorm {
                x,
                weight,
                bias,
                eps,
            } => {
                let affine = Affine {
                    gain: weight.clone(),
                    bias: Some(bias.clone()),
                };
                self.norm(site, *x, affine, *eps)?
            }
            Op::Linear { .. } => return self.linear(inst),
            Op::Rope { x, .. } => {
                self.plain_vector(*x, site)?;
                Lowered::Rope(self.input(*x, site)?)
            }
            Op::Attend { q, scale, .. } => self.attend(site, *q, *scale)?,
            Op::Activate { x, function } => self.activate(site, *x, *function)?,
            Op::Mul { a, b } => {
                let map = self.input(*a, site)?.map;
                let (a, b) = (self.plain_vector(*a, site)?, self.plain_vector(*b, site)?);
                vector(self.b.mul(site, &a, &b), map)
            }
            Op::Add { a, b } => {
                let map = self.input(*a, site)?.map;
                let (a, b) = (self.plain_vector(*a, site)?, self.plain_vector(*b, site)?);
                vector(self.b.add(site, &a, &b), map)
            }
            Op::Embed { .. } | Op::Position { .. } | Op::KvAppend { .. } => {
                return Err(self.unsupported(site, inst.op.mnemonic()));
            }
        };
        self.values.insert(result, lowered);
        Ok(())
    }

    fn norm(
        &mut self,
        site: &str,
        x: Value,
        affine: Affine,
        eps: f64,
    ) -> Result<Lowered, LowerError> {
        let Input { val, map, .. } = self.input(x, site)?;
        if let FeatureMap::Heads { .. } = map {
            return Err(self.unsupported(site, "a norm over heads"));
        }
        let scaled = self.model.choices.scaled_norms.contains(site);
        let norm = self.model.norm(site, eps, scaled, self.layers.clone())?;
        let val = norm::lower(&mut self.b, &val, &norm)?;
        Ok(Lowered::Vector(Input {
            val,
            map,
            affine: Some(affine),
        }))
    }

    fn linear(&mut self, inst: &'a Inst) -> Result<(), LowerError> {
        let pair = self.partner(inst);
        let insts: Vec<&Inst> = std::iter::once(inst).chain(pair).collect();
        let outputs = insts.iter().map(|inst| self.output(inst));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        let x = self.input(inst.op.operands()[0], &inst.site)?;
        let mut way = self.model.choices.ways.get(&inst.site).copied();
        // what attention reads is spread by as much as its tokens ask for, and masked there
        let landing = self.landing(insts[0]);
        let copies = self.copies(insts[0]);
        if self.model.geometry.parts > 1 && copies == 1 && matches!(landing, Landing::Current(_)) {
            let what = "keys and values made for each query head, but stored once";
            return Err(self.unsupported(&inst.site, what));
        }
        if self.attended(insts[0]) && self.model.geometry.inner * copies > 1 {
            if insts.iter().any(|inst| self.landing(inst) != landing) {
                return Err(self.unsupported(&inst.site, "a pair of queries with keys or values"));
            }
            let stride = self.model.geometry.stride();
            way.get_or_insert_default().stride = stride * copies;
        }
        let way = way.unwrap_or_default();
        if let ([output], Some((value, _))) = (&outputs[..], inst.result)
            && places(&output.map) > self.widest(&x)
        {
            let blocks = self.blocks(&x, output, &way)?;
            self.values.insert(value, Lowered::Blocks(blocks));
            return Ok(());
        }
        let values = linear::lower(&mut self.b, &self.tag, &x, &outputs, &way, landing);
        for ((inst, output), val) in insts.iter().zip(outputs).zip(values) {
            let result = inst.result.map(|(value, _)| value);
            self.values
                .extend(result.map(|value| (value, vector(val, output.map))));
        }
        Ok(())
    }

    /// A linear map whose output fills several ciphertexts, one product each.
    fn blocks(&mut self, x: &Input, output: &Output, way: &Way) -> Result<Vec<Val>, LowerError> {
        let (slots, FeatureMap::Plain { count, .. }) = (self.widest(x), &output.map) else {
            return Err(self.unsupported(&output.site, "heads that fill several ciphertexts"));
        };
        let mut blocks = Vec::new();
        for first in (0..*count).step_by(slots as usize) {
            let count = slots.min(count - first);
            let block = Output {
                map: FeatureMap::Plain { first, count },
                ..output.clone()
            };
            let tag = format!("{}[{first}..]", self.tag);
            blocks.extend(linear::lower(
                &mut self.b,
                &tag,
                x,
                &[block],
                way,
                Landing::All,
            ));
        }
        Ok(blocks)
    }

    /// Most places of a product with `x`: those of a token, or as many as are gathered from.
    fn widest(&self, x: &Input) -> u32 {
        match *x.val.ty.layout.each() {
            Layout::Strided { width, stride, .. } => width * stride,
            _ => self.model.geometry.slots,
        }
    }

    /// The linear map that shares a product with this one.
    fn partner(&self, inst: &Inst) -> Option<&'a Inst> {
        let pairs = &self.model.choices.pairs;
        let other = pairs.iter().find_map(|(a, b)| match &inst.site {
            site if site == a => Some(b),
            site if site == b => Some(a),
            _ => None,
        })?;
        let x = inst.op.operands();
        self.template.insts.iter().find(|inst| {
            matches!(inst.op, Op::Linear { .. }) && inst.site == *other && inst.op.operands() == x
        })
    }

    /// Where a linear map's features have to be, should they be spread.
    fn landing(&self, inst: &Inst) -> Landing {
        match inst.result.map(|(value, _)| self.role(value)) {
            Some(Role::Query) => Landing::First,
            // a block's keys and values go to more than one place
            Some(Role::Key | Role::Value) if self.b.block == 1 => {
                Landing::Current(self.model.geometry.part().inner)
            }
            _ => Landing::All,
        }
    }

    /// Copies that the KV state has of each feature of a linear map's result.
    fn copies(&self, inst: &Inst) -> u32 {
        match self.model.choices.once.contains(&inst.site) {
            true => self.model.geometry.shared(),
            false => 1,
        }
    }

    /// Whether attention reads a linear map's result.
    fn attended(&self, inst: &Inst) -> bool {
        let role = inst.result.map(|(value, _)| self.role(value));
        matches!(role, Some(Role::Query | Role::Key | Role::Value))
    }

    fn role(&self, value: Value) -> Role {
        let uses = |value: Value| {
            let insts = self.template.insts.iter();
            insts.filter(move |inst| inst.op.operands().contains(&value))
        };
        for user in uses(value) {
            let through = user.result.map(|(v, _)| v);
            match &user.op {
                Op::Rope { .. } => {
                    let appended = through.is_some_and(|v| {
                        uses(v).any(|inst| matches!(inst.op, Op::KvAppend { .. }))
                    });
                    return if appended { Role::Key } else { Role::Query };
                }
                Op::KvAppend { k, .. } if *k == value => return Role::Key,
                Op::KvAppend { .. } => return Role::Value,
                Op::Attend { .. } => return Role::Query,
                Op::Activate { .. } => return Role::Gate,
                Op::Add { .. } => return Role::Residual,
                Op::Mul { .. } => return Role::Factor,
                _ => {}
            }
        }
        Role::Plain
    }

    fn output(&self, inst: &Inst) -> Result<Output, LowerError> {
        let site = &inst.site;
        let (Op::Linear { weight, bias, .. }, Some((value, Type::Vector(count)))) =
            (&inst.op, inst.result)
        else {
            return Err(self.unsupported(site, inst.op.mnemonic()));
        };
        let role = self.role(value);
        let geometry = &self.model.geometry;
        let map = match role {
            Role::Query => geometry.queries(),
            Role::Key | Role::Value if self.copies(inst) > 1 => geometry.keys_once(),
            Role::Key | Role::Value => geometry.keys(),
            _ => FeatureMap::plain(count as u32),
        };
        let unit = match role {
            Role::Residual => self.model.residual,
            Role::Key => self.model.state[0],
            Role::Value => self.model.state[1],
            Role::Query => {
                let query = self.rotated(value).unwrap_or(value);
                self.model
                    .reach_through_rope(self.template, query, self.layers.clone())?
            }
            Role::Gate => self.activated(value, site)?.half(),
            _ => self.model.reach(site, "", self.layers.clone())?,
        };
        Ok(Output {
            site: site.clone(),
            weight: weight.clone(),
            transposed: false,
            bias: bias.clone(),
            map,
            centred: self.model.centred.contains(site),
            unit,
        })
    }

    /// The window of the activation of a value that a site defines.
    fn activated(&self, value: Value, site: &str) -> Result<Window, LowerError> {
        let insts = &mut self.template.insts.iter();
        let activation = insts.find(|inst| matches!(inst.op, Op::Activate { x, .. } if x == value));
        let chosen = &self.model.choices.windowed;
        let windowed = activation.is_some_and(|inst| chosen.contains(&inst.site));
        self.model
            .activation_window(windowed, site, self.layers.clone())
    }

    /// The rotary embedding of a value, if it has one.
    fn rotated(&self, value: Value) -> Option<Value> {
        let insts = &mut self.template.insts.iter();
        let rope = insts.find(|inst| matches!(inst.op, Op::Rope { x, .. } if x == value))?;
        rope.result.map(|(value, _)| value)
    }

    fn append(&mut self, inst: &Inst) -> Result<(), LowerError> {
        let site = &inst.site;
        let Op::KvAppend { k, v, .. } = &inst.op else {
            return Err(self.unsupported(site, inst.op.mnemonic()));
        };
        self.plain_vector(*v, site)?;
        let v = self.input(*v, site)?;
        let stored = self.model.geometry.part();
        let place = Place {
            site,
            tag: &self.tag,
            geometry: &stored,
            capacity: self.model.options.context,
        };
        let k = match self.values.get(k) {
            Some(Lowered::Rope(x)) => (Key::Unturned(&x.val), place.copies(&x.map)),
            Some(Lowered::Vector(x)) => (Key::Whole(&x.val), place.copies(&x.map)),
            _ => return Err(self.unsupported(site, "an undefined key")),
        };
        if self.b.block > 1 {
            block::append(&mut self.b, &place, site, k.0, &v.val);
            return Ok(());
        }
        let k = match k {
            (Key::Unturned(x), copies) => {
                attention::rope(&mut self.b, &place, site, x, Turn::Key { copies })
            }
            (Key::Whole(x), copies) => attention::at_current(&mut self.b, &place, site, x, copies),
        };
        let copies = place.copies(&v.map);
        let v = attention::at_current(&mut self.b, &place, site, &v.val, copies);
        let k = match place.geometry.diagonals {
            Some(_) => diagonals::key(&mut self.b, &place, site, &k),
            None => k,
        };
        self.b.append(site, StateId(0), &k);
        self.b.append(site, StateId(1), &v);
        Ok(())
    }

    fn attend(&mut self, site: &str, q: Value, scale: f64) -> Result<Lowered, LowerError> {
        let squarings = self.model.choices.squarings;
        let softmax = self
            .model
            .softmax(site, scale, squarings, self.layers.clone())?;
        let place = Place {
            site,
            tag: &self.tag,
            geometry: &self.model.geometry,
            capacity: self.model.options.context,
        };
        let [k, v] = self.model.state;
        // where sums over lanes need no mask, the query's carries the factor before the exponential
        let geometry = place.geometry;
        let query_unit = |x: &Input| match (geometry.diagonals, geometry.outer()) {
            // products come out doubled
            (Some(_), _) => 2.0 * softmax.query_unit(k),
            (None, 1) => softmax.query_unit(k),
            (None, _) => x.val.unit(),
        };
        let part = geometry.part();
        let each = Place {
            geometry: &part,
            ..place
        };
        let mut queries = Vec::new();
        for number in 0..geometry.parts {
            let q = match self.values.get(&q) {
                Some(Lowered::Rope(x)) if part.inner > 1 => {
                    let turn = Turn::Query {
                        unit: query_unit(x),
                    };
                    let x = diagonals::query(&mut self.b, &place, site, &x.val, number);
                    let q = attention::rope(&mut self.b, &each, site, &x, turn);
                    linear::repeat(&mut self.b, site, &q, &part.queries())
                }
                Some(Lowered::Rope(x)) => {
                    let unit = x.val.unit();
                    attention::rope(&mut self.b, &each, site, &x.val, Turn::Query { unit })
                }
                Some(Lowered::Vector(x)) if part.inner > 1 => {
                    let unit = query_unit(x);
                    let x = diagonals::query(&mut self.b, &place, site, &x.val, number);
                    linear::clean(&mut self.b, site, &x, &part.queries(), unit)
                }
                Some(Lowered::Vector(x)) => x.val.clone(),
                _ => return Err(self.unsupported(site, "an undefined query")),
            };
            queries.push(q);
        }
        let [keys, values] = match self.b.block {
            1 => [StateId(0), StateId(1)],
            _ => block::SHARED,
        };
        let states = [(keys, k), (values, v)];
        let val = attention::lower(&mut self.b, &place, &softmax, &queries, states)?;
        Ok(vector(val, self.model.geometry.queries()))
    }

    fn activate(
        &mut self,
        site: &str,
        x: Value,
        function: Activation,
    ) -> Result<Lowered, LowerError> {
        let map = self.input(x, site)?.map;
        let argument = self.template.definition(x).map(|inst| inst.site.as_str());
        let window = self.activated(x, argument.unwrap_or(site))?;
        let layers = self.layers.clone();
        let fit = self.model.activation(site, function, window, layers)?;
        let x = self.plain_vector(x, site)?;
        let t = match window.mid() {
            0.0 => x,
            mid => self.b.add_const(site, &x, -mid / window.half()),
        };
        Ok(vector(self.b.poly(site, &t, &fit, window.reach()), map))
    }
}

/// What a linear map's result is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Query,
    Key,
    Value,
    Gate,
    Factor,
    Residual,
    Plain,
}

fn vector(val: Val, map: FeatureMap) -> Lowered {
    Lowered::Vector(Input {
        val,
        map,
        affine: None,
    })
}
