//! The client's ends of the program.

use crate::plan::{FileEntry, OutputKind, Placement, Plan, Weights, Wire};
use crate::slot::{At, Leveled, Program, ValueType};
use crate::violation::Report;

pub(super) fn check(plan: &Plan, programs: &[Program<Leveled>], report: &mut Report) {
    let client = &plan.client;
    let (hidden, vocab) = (plan.model.hidden, plan.model.vocab);
    let decode = (client.input, &client.outputs);
    let prefill = plan.prefill.iter().map(|p| (p.input, &p.outputs));
    let ends = std::iter::once(decode).chain(prefill);
    for (program, (input, outputs)) in programs.iter().zip(ends) {
        input_wire(plan, program, &input, report);
        output_wires(plan, program, outputs, report);
    }
    let server_head = client.head == Placement::Server;
    report.require(
        (client.output_kind == OutputKind::Logits) == server_head,
        || {
            format!(
                "the head is with the {:?}, the output is {:?}",
                client.head, client.output_kind
            )
        },
    );

    report.at("client tables");
    let size = |rows: u32| u64::from(rows) * u64::from(hidden) * 4;
    let weights = plan.model.weights;
    // each with its rows, if the model has such a table
    let tables = [
        (
            "embedding",
            client.embedding,
            &client.embedding_table,
            Some(vocab),
        ),
        (
            "position table",
            client.embedding,
            &client.position_table,
            client.learned_positions.then_some(plan.capacity),
        ),
        ("head", client.head, &client.head_table, Some(vocab)),
    ];
    for (name, placement, file, rows) in tables {
        let here = placement == Placement::Client && weights != Weights::None;
        let size = rows.filter(|_| here).map(size);
        table(name, placement, file.as_ref(), size, report);
    }
    let tokens = client.eos.iter().chain(&client.bos);
    let foreign = tokens.filter(|&&t| t >= vocab).count();
    report.require(foreign == 0, || {
        "a special token is outside the vocabulary".into()
    });
}

fn input_wire(plan: &Plan, program: &Program<Leveled>, input: &Wire, report: &mut Report) {
    report.at(format!("client input of {}", program.name));
    let expected = match plan.client.embedding {
        Placement::Client => plan.model.hidden,
        Placement::Server => plan.model.vocab,
    };
    report.require(input.count == expected, || {
        format!("{} features, {expected} are needed", input.count)
    });
    report.require(input.block == program.block, || {
        format!(
            "{} tokens side by side, the program takes {}",
            input.block, program.block
        )
    });
    let first = program
        .steps
        .first()
        .and_then(|s| program.templates.get(s.template));
    let params = first.map_or(&[][..], |t| &t.params);
    report.require(params.len() == 1, || {
        format!("one ciphertext is sent, the program takes {}", params.len())
    });
    for param in params {
        wire(plan, input, &param.ty, param.note, report);
        let period = u64::from(input.width) * u64::from(input.block);
        report.require(u64::from(param.ty.layout.period()) == period, || {
            format!(
                "it repeats after {period}, the program takes {}",
                param.ty.layout
            )
        });
    }
}

fn output_wires(plan: &Plan, program: &Program<Leveled>, outputs: &[Wire], report: &mut Report) {
    report.at(format!("client outputs of {}", program.name));
    let expected = match plan.client.output_kind {
        OutputKind::Logits => plan.model.vocab,
        OutputKind::Hidden => plan.model.hidden,
    };
    let count = outputs.iter().fold(0u32, |n, w| n.saturating_add(w.count));
    report.require(count == expected, || {
        format!("{count} features, {expected} are needed")
    });
    let results = results(program);
    report.require(results.len() == outputs.len(), || {
        format!(
            "{} are expected, the program has {}",
            outputs.len(),
            results.len()
        )
    });
    for (output, (ty, at)) in outputs.iter().zip(&results) {
        wire(plan, output, ty, *at, report);
    }
}

/// The values the program returns.
fn results(program: &Program<Leveled>) -> Vec<(ValueType, At)> {
    let last = program
        .steps
        .last()
        .and_then(|s| program.templates.get(s.template));
    let Some(last) = last else { return vec![] };
    let find = |value| {
        let params = last.params.iter();
        let param = params
            .filter(|p| p.value == value)
            .map(|p| (p.ty.clone(), p.note));
        let nodes = last.nodes.iter().flat_map(|n| {
            let results = n.results.iter().zip(n.types.iter().zip(&n.notes));
            results
                .filter(|(v, _)| **v == value)
                .map(|(_, (ty, at))| (ty.clone(), *at))
        });
        param.chain(nodes).next()
    };
    last.results.iter().filter_map(|v| find(*v)).collect()
}

/// A value as the client sees it against the program's.
fn wire(plan: &Plan, wire: &Wire, ty: &ValueType, at: At, report: &mut Report) {
    let Wire { width, block, .. } = *wire;
    let period = width.checked_mul(block);
    let fits = period.is_some_and(|p| p.is_power_of_two() && p <= plan.slots());
    report.require(fits && wire.count <= width, || {
        format!(
            "{block} times {} features at width {width} do not fit {} slots",
            wire.count,
            plan.slots()
        )
    });
    report.require(period.is_none_or(|p| ty.layout.period() <= p), || {
        format!(
            "the program has `{}`, the client a width of {width}",
            ty.layout
        )
    });
    let unit = (wire.unit - ty.unit).abs() <= 1e-9 * ty.unit.abs();
    report.require(unit, || {
        format!("unit {:?}, the program's is {:?}", wire.unit, ty.unit)
    });
    let expected = At {
        level: wire.level,
        degree: 1,
    };
    report.require(at == expected, || {
        format!("it is at {expected}, in the program at {at}")
    });
}

/// A table on disk against its size, if there is to be one.
fn table(
    name: &str,
    placement: Placement,
    file: Option<&FileEntry>,
    size: Option<u64>,
    report: &mut Report,
) {
    let words =
        |bytes: Option<u64>| bytes.map_or("no table".into(), |n| format!("a table of {n} bytes"));
    let found = file.map(|f| f.bytes);
    report.require(found == size, || {
        let (found, size) = (words(found), words(size));
        format!("the {name} is with the {placement:?}, with {found}; the plan needs {size}")
    });
}
