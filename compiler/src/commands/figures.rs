//! A program's figures by layer and token, for people and for programs.

use crate::emit::{Bootstraps, EmitError, Figures, Measures};
use serde_json::{Value, json};
use std::fmt::{self, Display, Formatter, Write};

const MIB: f64 = (1u64 << 20) as f64;

/// Every template with the layers it serves and the figures of one run, in running order, then those of a token.
pub struct Report {
    templates: Vec<Row>,
    token: Figures,
}

struct Row {
    name: String,
    /// First layer and number of layers.
    layers: (u32, u32),
    each: Figures,
}

impl Report {
    /// Of a program.
    pub fn of(measures: &Measures<'_>) -> Result<Self, EmitError> {
        let rows = measures.program.steps.iter().map(|step| {
            Ok(Row {
                name: measures.program.templates[step.template].name.clone(),
                layers: (step.first, step.count),
                each: measures.template(step.template)?,
            })
        });
        Ok(Self {
            templates: rows.collect::<Result<_, EmitError>>()?,
            token: measures.token()?,
        })
    }

    /// A token's figures.
    pub fn token(&self) -> &Figures {
        &self.token
    }

    /// The templates as JSON: what each layer takes.
    pub fn templates_json(&self) -> Value {
        let rows = self.templates.iter().map(|row| {
            let (first, count) = row.layers;
            json!({"template": row.name, "first": first, "count": count, "each": row.each})
        });
        rows.collect()
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<14} {:>5} {:>8} {:>7} {:>8} {:>9} {:>8} {:>9} {:>9} {:>8}  bootstraps, as dense complex ones",
            "template",
            "runs",
            "matrix",
            "mask",
            "products",
            "rotations",
            "switches",
            "encodings",
            "KV MiB",
            "seconds"
        )?;
        for row in &self.templates {
            line(f, &row.name, &row.layers.1.to_string(), &row.each)?;
        }
        line(f, "a token", "", &self.token)
    }
}

fn line(f: &mut Formatter<'_>, name: &str, runs: &str, figures: &Figures) -> fmt::Result {
    let c = &figures.counts;
    writeln!(
        f,
        "{name:<14} {runs:>5} {:>8} {:>7} {:>8} {:>9} {:>8} {:>9} {:>9.1} {:>8.2}  {}",
        c.matrix_products,
        c.mask_products,
        c.products,
        c.rotations,
        c.key_switches,
        c.encodings,
        figures.kv_bytes as f64 / MIB,
        figures.seconds,
        bootstraps(figures)?
    )
}

/// `1 on 1 real slots, 2 on 32768 (all) complex slots, as 2.31`.
fn bootstraps(figures: &Figures) -> Result<String, fmt::Error> {
    let mut text = String::new();
    for Bootstraps {
        slots,
        dense,
        complex,
        count,
    } in &figures.bootstraps
    {
        let all = if *dense { " (all)" } else { "" };
        let part = if *complex { "complex" } else { "real" };
        write!(text, "{count} on {slots}{all} {part} slots, ")?;
    }
    match text.is_empty() {
        true => text.push_str("none"),
        false => write!(text, "as {:.2}", figures.dense_bootstraps)?,
    }
    Ok(text)
}
