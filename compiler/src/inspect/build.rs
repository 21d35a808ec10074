//! Pages from plans and stages.

use super::{DataRow, Page, ProgramPage, Row, TemplatePage, ValueRow};
use crate::driver::{Stage, StageFile};
use crate::emit::summary;
use crate::view::{Given, NodeView, SlotView, TemplateView, ValueView};
use sotto_ir::decoder::{self, Decoder};
use sotto_ir::plan::Plan;
use sotto_ir::slot::{DataDecl, DataId, Recipe};
use std::collections::BTreeSet;

/// Everything that there is to see; None of a golden file.
pub fn page(given: &Given) -> Option<Page> {
    match given {
        Given::Plan { plan, digest, .. } => Some(of_plan(plan, &digest.to_string())),
        Given::Stage(file) => match &**file {
            StageFile::Decoder(decoder) => Some(of_decoder(decoder)),
            StageFile::Packed(program) => Some(of_stage(&program.into())),
            StageFile::Leveled(program) => Some(of_stage(&program.into())),
        },
        Given::Golden(_) => None,
    }
}

/// The word for a stage.
pub fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Decoder => "decoder",
        Stage::Packed => "packed",
        Stage::Leveled => "leveled",
    }
}

fn of_plan(plan: &Plan, digest: &str) -> Page {
    let mut header = vec![("plan".into(), digest.into())];
    // The summary's lines are a word, blanks, and the rest; lines that go on begin with blanks.
    for line in summary(plan).lines() {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        header.push((name.into(), rest.trim().into()));
    }
    let programs = plan.programs().map(|program| {
        let view = SlotView::of_plan(plan, program);
        let mut page = of_program(&view);
        for (id, row) in (0..).map(DataId).zip(&mut page.data) {
            let stored = || plan.arrays.iter().filter(|a| a.data == id);
            row.digests = stored().map(|a| a.file.digest.to_string()).collect();
            row.bytes = stored().map(|a| a.file.bytes).sum();
        }
        page
    });
    Page {
        stage: "plan",
        header,
        programs: programs.collect(),
        narrowed: false,
    }
}

fn of_stage(view: &SlotView) -> Page {
    let header = [
        ("stage", view.stage.to_string()),
        ("checkpoint", view.checkpoint.clone()),
        ("slots", view.slots.to_string()),
        ("capacity", format!("{} tokens", view.capacity)),
    ];
    Page {
        stage: view.stage,
        header: header.map(|(name, value)| (name.into(), value)).into(),
        programs: vec![of_program(view)],
        narrowed: false,
    }
}

fn of_program(view: &SlotView) -> ProgramPage {
    let templates = view.templates.iter().enumerate();
    ProgramPage {
        name: view.name.clone(),
        block: view.block,
        data: view.data.iter().map(data_row).collect(),
        states: view.states.iter().map(|s| s.to_string()).collect(),
        templates: templates
            .map(|(t, template)| template_page(view, t, template))
            .collect(),
    }
}

fn data_row(decl: &DataDecl) -> DataRow {
    let from = match &decl.recipe {
        Recipe::Matrix(parts) => {
            let tensors = parts.iter().map(|part| part.tensor.as_str());
            tensors.collect::<Vec<_>>().join(" + ")
        }
        Recipe::Vector { tensor, .. } | Recipe::Rows { tensor, .. } => tensor.clone(),
        recipe @ Recipe::Constant { .. } => recipe.tensors().join(" + "),
        Recipe::RopeCos { .. } | Recipe::RopeSin { .. } => "rotary angles".into(),
        Recipe::Values(_) => "calibration".into(),
    };
    DataRow {
        name: decl.name.clone(),
        shape: decl.shape.clone(),
        from,
        digests: vec![],
        bytes: 0,
    }
}

fn template_page(view: &SlotView, index: usize, template: &TemplateView) -> TemplatePage {
    let rows = template.nodes.iter().enumerate();
    let layered = template.nodes.iter().any(|node| node.site.contains("{i}"));
    let layers = view.layers(index).filter(|_| layered);
    TemplatePage {
        name: template.name.clone(),
        runs: match layers {
            None if layered => "for every group of tokens".into(),
            _ => runs(layers),
        },
        layers,
        params: template.params.iter().map(value_row).collect(),
        rows: rows.map(|(i, node)| row(view, i, node)).collect(),
        results: template.results.iter().map(|v| v.to_string()).collect(),
    }
}

/// When a template runs that no loop does.
fn runs(layers: Option<(u32, u32)>) -> String {
    match layers {
        None => "once".into(),
        Some((a, b)) if a == b => format!("layer {a}"),
        Some((a, b)) => format!("layers {a} to {b}"),
    }
}

fn row(view: &SlotView, index: usize, node: &NodeView) -> Row {
    let operands = node.op.operands().into_iter();
    Row {
        index,
        op: node.op.name().into(),
        text: node.op.to_string(),
        operands: operands.map(|v| v.to_string()).collect(),
        entry: view.entry(&node.op).map(String::from),
        results: node.results.iter().map(value_row).collect(),
        site: node.site.clone(),
    }
}

fn value_row(value: &ValueView) -> ValueRow {
    ValueRow {
        id: value.id.to_string(),
        layout: value.ty.layout.to_string(),
        complex: value.ty.complex,
        range: Some(value.ty.range),
        unit: Some(value.ty.unit),
        level: value.at.map(|at| at.level),
        degree: value.at.map(|at| at.degree),
    }
}

fn of_decoder(decoder: &Decoder) -> Page {
    let m = &decoder.model;
    let header = [
        ("stage", "decoder".to_string()),
        ("checkpoint", decoder.checkpoint.to_string()),
        (
            "model",
            format!(
                "{} layers, hidden {}, {} heads on {} key/value heads of {}, MLP {}, vocabulary {}",
                m.layers, m.hidden, m.heads, m.kv_heads, m.head_dim, m.intermediate, m.vocab
            ),
        ),
    ];
    let mut named = BTreeSet::new();
    let tensors = decoder.tensors().into_iter();
    let data = tensors.filter(|(name, _)| named.insert(name.clone()));
    let data = data.map(|(name, shape)| DataRow {
        from: "checkpoint".into(),
        shape: shape.into_iter().map(|n| n as u32).collect(),
        name,
        digests: vec![],
        bytes: 0,
    });
    let last = m.layers.saturating_sub(1) as u32;
    let templates = decoder.templates().map(|(name, template)| {
        let layers = (name == "layer").then_some((0, last));
        decoder_template(name, layers, template)
    });
    Page {
        stage: "decoder",
        header: header.map(|(name, value)| (name.into(), value)).into(),
        programs: vec![ProgramPage {
            name: "decoder".into(),
            block: 1,
            data: data.collect(),
            states: decoder
                .states
                .iter()
                .map(|s| format!("{}: {} heads of {}", s.name, s.kv_heads, s.head_dim))
                .collect(),
            templates: templates.into(),
        }],
        narrowed: false,
    }
}

fn decoder_template(
    name: &str,
    layers: Option<(u32, u32)>,
    template: &decoder::Template,
) -> TemplatePage {
    let value = |(value, ty): (decoder::Value, decoder::Type)| ValueRow {
        id: value.to_string(),
        layout: ty.to_string(),
        complex: false,
        range: None,
        unit: None,
        level: None,
        degree: None,
    };
    let rows = template.insts.iter().enumerate().map(|(index, inst)| Row {
        index,
        op: inst.op.mnemonic().into(),
        text: inst.op.to_string(),
        operands: inst.op.operands().iter().map(|v| v.to_string()).collect(),
        entry: None,
        results: inst.result.map(value).into_iter().collect(),
        site: inst.site.clone(),
    });
    TemplatePage {
        name: name.into(),
        runs: runs(layers),
        layers,
        params: vec![value(template.param)],
        rows: rows.collect(),
        results: vec![template.result.to_string()],
    }
}
