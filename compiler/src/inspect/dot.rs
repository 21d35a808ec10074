//! A template as a graph for Graphviz.

use super::TemplatePage;
use std::fmt::Write;

/// The template's values and operations as a directed graph, bootstraps marked.
pub fn dot(template: &TemplatePage) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(template, &mut out);
    out
}

fn write(template: &TemplatePage, out: &mut String) -> std::fmt::Result {
    writeln!(out, "digraph {} {{", quoted(&template.name))?;
    writeln!(
        out,
        "  node [shape=box, fontname=\"monospace\", fontsize=9]; rankdir=TB;"
    )?;
    for param in &template.params {
        let label = format!("{}\n{}{}", param.id, param.layout, level(param.level));
        writeln!(
            out,
            "  {} [label={}, shape=oval];",
            quoted(&param.id),
            quoted(&label)
        )?;
    }
    for row in &template.rows {
        // an operation without a result, an append, is a node of its own
        let id = row
            .results
            .first()
            .map_or(format!("op{}", row.index), |r| r.id.clone());
        let at = row.results.first().and_then(|r| r.level);
        let label = format!("{}{}\n{}", row.text, level(at), row.site);
        let mark = match row.op.as_str() {
            "bootstrap" => ", style=filled, fillcolor=\"#f4c7a1\"",
            "linear" => ", style=filled, fillcolor=\"#cfe3f5\"",
            "poly" => ", style=filled, fillcolor=\"#d9ead3\"",
            _ => "",
        };
        writeln!(out, "  {} [label={}{mark}];", quoted(&id), quoted(&label))?;
        for operand in &row.operands {
            writeln!(out, "  {} -> {};", quoted(operand), quoted(&id))?;
        }
        // further results stand beside the first
        for other in row.results.iter().skip(1) {
            writeln!(
                out,
                "  {} -> {} [style=dotted];",
                quoted(&id),
                quoted(&other.id)
            )?;
        }
    }
    writeln!(out, "  results [shape=oval];")?;
    for result in &template.results {
        writeln!(out, "  {} -> results;", quoted(result))?;
    }
    writeln!(out, "}}")
}

fn level(level: Option<u32>) -> String {
    level.map_or(String::new(), |level| format!(" @{level}"))
}

fn quoted(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{escaped}\"")
}
