//! Writes the decisions down as a leveled program.
//!
//! Drops and bootstraps are inserted right before the first node that reads them, so that nothing is alive before it is needed. A
//! value read at several levels is dropped once to the highest of them and from there to each other one. What is inserted carries
//! the site of the value it serves.

use super::Target;
use super::chain::{Chain, Placed};
use super::placement::Placement;
use super::region::{Kind, RNode, Region, Val};
use sotto_ir::slot::{
    At, Leveled, Node, Op, Packed, Param, Program, StateId, Step, Template, ValueId, ValueType,
};
use std::collections::{BTreeMap, BTreeSet};

/// The leveled program of a solved chain.
pub fn build(program: &Program<Packed>, target: &Target, chain: &Chain) -> Program<Leveled> {
    let mut names = Names::default();
    let mut templates = Vec::new();
    let mut index = Vec::new();
    for placed in &chain.placed {
        let region = &chain.regions[&placed.template];
        let writer = Writer::new(program, target, region, placed);
        index.push(writer.write(&mut templates, &mut names));
    }
    let mut states = program.states.clone();
    for (state, levels) in chain.state_levels() {
        if let Some(declared) = states.get_mut(state.0 as usize) {
            declared.level = levels.last().copied();
        }
    }
    Program {
        name: program.name.clone(),
        model_digest: program.model_digest.clone(),
        slots: program.slots,
        block: program.block,
        capacity: program.capacity,
        data: program.data.clone(),
        plains: program.plains.clone(),
        matrices: program.matrices.clone(),
        polys: program.polys.clone(),
        states,
        templates,
        steps: chain
            .runs
            .iter()
            .map(|r| Step {
                template: index[r.placed],
                first: r.first,
                count: r.count,
            })
            .collect(),
    }
}

/// Template names in use; a template placed several times is numbered from its second placement on.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    fn unique(&mut self, name: &str) -> String {
        let mut candidate = name.to_string();
        let mut n = 2;
        while !self.0.insert(candidate.clone()) {
            candidate = format!("{name}.{n}");
            n += 1;
        }
        candidate
    }
}

/// A leveled value: its name and where it stands.
type Form = (ValueId, At);

struct Writer<'a> {
    program: &'a Program<Packed>,
    target: &'a Target,
    region: &'a Region,
    placed: &'a Placed,
    placement: &'a Placement,
    /// Nodes by scope.
    nodes: Vec<Vec<Node<Leveled>>>,
    /// Parameters by scope.
    params: Vec<Vec<Param<Leveled>>>,
    /// Results by scope.
    results: Vec<Vec<ValueId>>,
    next_id: Vec<u32>,
    scope_of: Vec<usize>,
    /// The value as defined, or as received.
    defined: Vec<Option<Form>>,
    /// Site where a value is defined; a parameter takes its first reader's.
    site_of: Vec<Option<String>>,
    /// Highest level at which a refreshed copy is read.
    copy_level: Vec<u32>,
    /// Forms at the highest level read, by (value, is the copy).
    tops: BTreeMap<(Val, bool), Form>,
    /// Forms below it.
    drops: BTreeMap<(Val, bool, u32), ValueId>,
    /// Arguments and states of the calls, by scope.
    calls: Vec<(Vec<ValueId>, Vec<StateId>)>,
}

impl<'a> Writer<'a> {
    fn new(
        program: &'a Program<Packed>,
        target: &'a Target,
        region: &'a Region,
        placed: &'a Placed,
    ) -> Self {
        let scopes = region.names.len();
        let values = region.values.len();
        let mut scope_of = vec![0; values];
        for (scope, names) in region.names.iter().enumerate() {
            names.values().for_each(|v| scope_of[*v] = scope);
        }
        let mut copy_level = vec![0; values];
        for (n, node) in region.nodes.iter().enumerate() {
            for (k, &v) in node.operands.iter().enumerate() {
                if let (Some(level), true) = (
                    placed.placement.operands_at[n],
                    placed.placement.reads_copy[n][k],
                ) {
                    copy_level[v] = level.max(copy_level[v]);
                }
            }
        }
        Self {
            program,
            target,
            region,
            placed,
            placement: &placed.placement,
            nodes: vec![Vec::new(); scopes],
            params: vec![Vec::new(); scopes],
            results: vec![Vec::new(); scopes],
            next_id: vec![0; scopes],
            scope_of,
            defined: vec![None; values],
            site_of: vec![None; values],
            copy_level,
            tops: BTreeMap::new(),
            drops: BTreeMap::new(),
            calls: vec![(Vec::new(), Vec::new()); scopes],
        }
    }

    /// Appends the template and the group templates it calls to `templates`; returns its index.
    fn write(mut self, templates: &mut Vec<Template<Leveled>>, names: &mut Names) -> usize {
        let packed = &self.program.templates[self.placed.template];
        for (&v, param) in self.region.params.iter().zip(&packed.params) {
            self.receive(v, &param.ty, self.placed.entry);
        }
        // Group templates come before their caller, so their indices are known.
        let first_call = templates.len();
        for n in 0..self.region.nodes.len() {
            self.node(n, first_call);
        }
        for &v in &self.region.results {
            let id = self.read(v, false, self.placed.exit, "results");
            self.results[0].push(id);
        }
        let mut bodies = self.nodes.into_iter().zip(self.params).zip(self.results);
        let outer = bodies.next();
        let template = |name: &str, ((nodes, params), results), names: &mut Names| Template {
            name: names.unique(name),
            params,
            nodes,
            results,
        };
        for (call, body) in self.region.calls.iter().zip(bodies) {
            let name = &self.program.templates[call.template].name;
            templates.push(template(name, body, names));
        }
        if let Some(body) = outer {
            templates.push(template(&packed.name, body, names));
        }
        templates.len() - 1
    }

    fn fresh(&mut self, scope: usize) -> ValueId {
        let id = ValueId(self.next_id[scope]);
        self.next_id[scope] += 1;
        id
    }

    fn receive(&mut self, v: Val, ty: &ValueType, level: u32) {
        let scope = self.scope_of[v];
        let value = self.fresh(scope);
        let note = At { level, degree: 1 };
        self.defined[v] = Some((value, note));
        self.params[scope].push(Param {
            value,
            ty: ty.clone(),
            note,
        });
    }

    fn push(
        &mut self,
        scope: usize,
        op: Op<ValueId>,
        ty: &ValueType,
        note: At,
        site: String,
    ) -> ValueId {
        let id = self.fresh(scope);
        self.nodes[scope].push(Node {
            results: vec![id],
            op,
            types: vec![ty.clone()],
            notes: vec![note],
            site,
        });
        id
    }

    fn drop_to(&mut self, v: Val, from: Form, level: u32, site: &str) -> Form {
        let Some(ty) = self.region.values[v].ty.clone() else {
            return from;
        };
        if from.1.level == level {
            return from;
        }
        let note = At { level, degree: 1 };
        let op = Op::Drop { v: from.0, level };
        let id = self.push(self.scope_of[v], op, &ty, note, site.to_string());
        (id, note)
    }

    /// The value, or its refreshed copy, at the highest level at which it is read.
    fn top(&mut self, v: Val, copy: bool, site: &str) -> Option<Form> {
        if let Some(form) = self.tops.get(&(v, copy)) {
            return Some(*form);
        }
        let form = if copy {
            let refresh = self.region.values[v].refresh?;
            let ty = self.region.values[v].ty.clone()?;
            let input = self.read(v, false, refresh.input_level, site);
            let op = Op::Bootstrap {
                v: input,
                kind: self.target.refreshes[refresh.kind].kind,
            };
            let note = At {
                level: self.target.top,
                degree: 1,
            };
            let id = self.push(self.scope_of[v], op, &ty, note, site.to_string());
            self.drop_to(v, (id, note), self.copy_level[v], site)
        } else {
            let form = self.defined[v]?;
            if form.1.degree == 2 {
                form
            } else {
                self.drop_to(v, form, self.placement.level[v]?, site)
            }
        };
        self.tops.insert((v, copy), form);
        Some(form)
    }

    fn read(&mut self, v: Val, copy: bool, level: u32, reader: &str) -> ValueId {
        let site = self.site_of[v]
            .clone()
            .unwrap_or_else(|| reader.to_string());
        let Some(top) = self.top(v, copy, &site) else {
            unreachable!("v{v} is read before it is defined, or has no copy: {site}");
        };
        if top.1.level == level {
            return top.0;
        }
        if let Some(id) = self.drops.get(&(v, copy, level)) {
            return *id;
        }
        let (id, _) = self.drop_to(v, top, level, &site);
        self.drops.insert((v, copy, level), id);
        id
    }

    fn node(&mut self, n: usize, first_call: usize) {
        let region = self.region;
        let node = &region.nodes[n];
        let Some(level) = self.placement.operands_at[n] else {
            return;
        };
        let site = region.sites[n].clone();
        match &node.kind {
            Kind::Op => self.op(n, node, level, site),
            Kind::Append(_) => {
                let id = self.read(
                    node.operands[0],
                    self.placement.reads_copy[n][0],
                    level,
                    &site,
                );
                let packed = &self.packed(node.scope).nodes[node.index];
                let op = packed.op.map(|_| id);
                self.nodes[node.scope].push(Node {
                    results: vec![],
                    op,
                    types: vec![],
                    notes: vec![],
                    site,
                });
            }
            Kind::Bind => {
                let id = self.read(
                    node.operands[0],
                    self.placement.reads_copy[n][0],
                    level,
                    &site,
                );
                self.calls[node.scope].0.push(id);
                self.receive_result(node, level);
            }
            Kind::Load => {
                let state = region
                    .cells
                    .iter()
                    .find(|(_, c)| **c == node.operands[0])
                    .map(|(s, _)| *s);
                let stored = self.placement.level[node.operands[0]].unwrap_or(level);
                self.calls[node.scope].1.extend(state);
                self.receive_result(node, stored);
            }
            Kind::Collect => self.collect(n, node, level, site, first_call),
        }
    }

    fn receive_result(&mut self, node: &RNode, level: u32) {
        if let Some(v) = node.result
            && let Some(ty) = self.region.values[v].ty.clone()
        {
            self.receive(v, &ty, level);
        }
    }

    fn packed(&self, scope: usize) -> &'a Template<Packed> {
        let template = match scope {
            0 => self.placed.template,
            _ => self.region.calls[scope - 1].template,
        };
        &self.program.templates[template]
    }

    fn op(&mut self, n: usize, node: &RNode, level: u32, site: String) {
        let packed = &self.packed(node.scope).nodes[node.index];
        let ids: Vec<ValueId> = node
            .operands
            .iter()
            .enumerate()
            .map(|(k, &v)| self.read(v, self.placement.reads_copy[n][k], level, &site))
            .collect();
        let names = &self.region.names[node.scope];
        let op = packed.op.map(|id| {
            let v = names[id];
            ids[node.operands.iter().position(|&o| o == v).unwrap_or(0)]
        });
        let Some(v) = node.result else { return };
        let ty = &packed.types[0];
        let product = node.rescale || self.region.values[v].unrescaled;
        let note = if product {
            At { level, degree: 2 }
        } else {
            At {
                level: level - node.depth,
                degree: 1,
            }
        };
        let id = self.push(node.scope, op, ty, note, site.clone());
        let form = if node.rescale {
            let note = At {
                level: level - 1,
                degree: 1,
            };
            let op = Op::Rescale { v: id };
            (self.push(node.scope, op, ty, note, site.clone()), note)
        } else {
            (id, note)
        };
        self.defined[v] = Some(form);
        self.site_of[v] = Some(site);
    }

    fn collect(&mut self, n: usize, node: &RNode, level: u32, site: String, first_call: usize) {
        let copy = self.placement.reads_copy[n][0];
        let inner = self.read(node.operands[0], copy, level, &site);
        self.results[node.scope].push(inner);
        let last = self.region.nodes[n + 1..]
            .iter()
            .zip(&self.placement.operands_at[n + 1..])
            .all(|(m, at)| m.scope != node.scope || m.kind != Kind::Collect || at.is_none());
        if let Some(v) = node.result {
            let note = At { level, degree: 1 };
            self.defined[v] = Some((self.fresh(0), note));
            self.site_of[v] = Some(site.clone());
        }
        if last {
            self.call(node, site, first_call);
        }
    }

    /// The group call itself, once all its results are known.
    fn call(&mut self, node: &RNode, site: String, first_call: usize) {
        let (args, states) = self.calls[node.scope].clone();
        let collected: Vec<(Form, ValueType)> = self
            .region
            .nodes
            .iter()
            .filter(|m| m.scope == node.scope && m.kind == Kind::Collect)
            .filter_map(|m| m.result)
            .filter_map(|v| Some((self.defined[v]?, self.region.values[v].ty.clone()?)))
            .collect();
        self.nodes[0].push(Node {
            results: collected.iter().map(|((id, _), _)| *id).collect(),
            op: Op::SumGroups {
                template: first_call + node.scope - 1,
                states,
                args,
            },
            types: collected.iter().map(|(_, ty)| ty.clone()).collect(),
            notes: collected.iter().map(|((_, at), _)| *at).collect(),
            site,
        });
    }
}
