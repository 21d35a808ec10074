//! The client's ends of the program.

use crate::plan::{FileEntry, OutputKind, Placement, Plan, Weights, Wire};
use crate::slot::{At, Leveled, Program, ValueType};
use crate::violation::Report;

pub(super) fn check(plan: &Plan, program: &Program<Leveled>, report: &mut Report) {
    let client = &plan.client;
    let (hidden, vocab) = (plan.model.hidden, plan.model.vocab);

    report.at("client input");
    let expected = match client.embedding {
        Placement::Client => hidden,
        Placement::Server => vocab,
    };
    report.require(client.input.count == expected, || {
        format!("{} features, {expected} are needed", client.input.count)
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
        wire(plan, &client.input, &param.ty, param.note, report);
        report.require(param.ty.layout.period() == client.input.width, || {
            format!(
                "it repeats after {}, the program takes {}",
                client.input.width, param.ty.layout
            )
        });
    }

    report.at("client outputs");
    let expected = match client.output_kind {
        OutputKind::Logits => vocab,
        OutputKind::Hidden => hidden,
    };
    let count = client
        .outputs
        .iter()
        .fold(0u32, |n, w| n.saturating_add(w.count));
    report.require(count == expected, || {
        format!("{count} features, {expected} are needed")
    });
    let results = results(program);
    report.require(results.len() == client.outputs.len(), || {
        format!(
            "{} are expected, the program has {}",
            client.outputs.len(),
            results.len()
        )
    });
    for (output, (ty, at)) in client.outputs.iter().zip(&results) {
        wire(plan, output, ty, *at, report);
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
    let size = u64::from(vocab) * u64::from(hidden) * 4;
    let weights = plan.model.weights;
    let tables = [
        ("embedding", client.embedding, &client.embedding_table),
        ("head", client.head, &client.head_table),
    ];
    for (name, placement, file) in tables {
        let size = (placement == Placement::Client && weights != Weights::None).then_some(size);
        table(name, placement, file.as_ref(), size, report);
    }
    let tokens = client.eos.iter().chain(&client.bos);
    let foreign = tokens.filter(|&&t| t >= vocab).count();
    report.require(foreign == 0, || {
        "a special token is outside the vocabulary".into()
    });
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
    let width = wire.width;
    let holds = width.is_power_of_two() && width <= plan.slots() && wire.count <= width;
    report.require(holds, || {
        format!(
            "{} features at width {width} do not fit {} slots",
            wire.count,
            plan.slots()
        )
    });
    report.require(ty.layout.period() <= width, || {
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
