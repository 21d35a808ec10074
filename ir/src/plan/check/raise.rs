//! Instruction streams read back as a slot program: every write to a buffer is a new value.

use crate::plan::{Buf, Instr, Plan, PlanProgram, PlanTemplate};
use crate::slot::{Leveled, Node, Param, Program, Template, ValueId};
use crate::violation::Report;
use std::collections::BTreeMap;

/// What the instructions of one of the plan's programs compute; None if buffers are misused, which is reported.
pub(super) fn raise(
    plan: &Plan,
    program: &PlanProgram,
    report: &mut Report,
) -> Option<Program<Leveled>> {
    let before = report.list.len();
    let mut templates = Vec::new();
    for (i, template) in program.templates.iter().enumerate() {
        report.at(format!("{}: template t{i}", program.name));
        let mut buffers = Buffers {
            count: template.buffers,
            values: BTreeMap::new(),
            next: 0,
            report,
        };
        templates.push(buffers.template(template));
    }
    let program = Program {
        name: program.name.clone(),
        model_digest: plan.model.digest.clone(),
        slots: plan.slots(),
        block: program.block,
        capacity: plan.capacity,
        data: program.data.clone(),
        plains: program.plains.clone(),
        matrices: program.matrices.clone(),
        polys: program.polys.clone(),
        states: program.states.clone(),
        templates,
        steps: program.steps.clone(),
    };
    (report.list.len() == before).then_some(program)
}

struct Buffers<'a> {
    count: u32,
    /// Buffers that hold a value.
    values: BTreeMap<Buf, ValueId>,
    next: u32,
    report: &'a mut Report,
}

impl Buffers<'_> {
    fn template(&mut self, template: &PlanTemplate) -> Template<Leveled> {
        let mut params = Vec::new();
        for (buf, at, ty) in &template.params {
            let value = self.write(*buf);
            let (ty, note) = (ty.clone(), *at);
            params.push(Param { value, ty, note });
        }
        let nodes = template.instrs.iter().map(|i| self.instr(i)).collect();
        self.report
            .statement(format!("results {:?}", template.results));
        let results: Vec<ValueId> = template.results.iter().map(|b| self.read(*b)).collect();
        let left: Vec<String> = self
            .values
            .keys()
            .filter(|buf| !template.results.contains(buf))
            .map(Buf::to_string)
            .collect();
        self.report.require(left.is_empty(), || {
            format!("at the end {} still hold values", left.join(", "))
        });
        Template {
            name: template.name.clone(),
            params,
            nodes,
            results,
        }
    }

    fn instr(&mut self, instr: &Instr) -> Node<Leveled> {
        self.report.statement(instr);
        let op = instr.op.map(|buf| self.read(*buf));
        let results = instr.dst.iter().map(|buf| self.write(*buf)).collect();
        for buf in &instr.free {
            self.report.require(!instr.dst.contains(buf), || {
                format!("{buf} is freed by the instruction that writes it")
            });
            let freed = self.values.remove(buf).is_some();
            self.report
                .require(freed, || format!("{buf} is freed when it is empty"));
        }
        Node {
            results,
            op,
            types: instr.types.clone(),
            notes: instr.at.clone(),
            site: instr.site.clone(),
        }
    }

    fn read(&mut self, buf: Buf) -> ValueId {
        let value = self.values.get(&buf).copied();
        self.report.require(value.is_some(), || {
            format!("{buf} is read when it is empty")
        });
        value.unwrap_or(ValueId(u32::MAX))
    }

    fn write(&mut self, buf: Buf) -> ValueId {
        let value = ValueId(self.next);
        self.next += 1;
        let count = self.count;
        self.report.require(buf.0 < count, || {
            format!("{buf} is beyond the {count} buffers stated")
        });
        let empty = self.values.insert(buf, value).is_none();
        self.report
            .require(empty, || format!("{buf} is written while it holds a value"));
        value
    }
}
