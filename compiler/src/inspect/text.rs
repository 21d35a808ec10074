//! A page in words and columns: an overview by site, or every operation where a part was asked for.

use super::{DataRow, Page, ProgramPage, Row, TemplatePage, ValueRow};
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// Letters of a digest that tell it from others.
const DIGEST: usize = 20;

/// The page as text.
pub fn text(page: &Page) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(page, &mut out);
    out
}

fn write(page: &Page, out: &mut String) -> fmt::Result {
    if !page.narrowed {
        for (name, value) in &page.header {
            writeln!(out, "{name:<12} {value}")?;
        }
    }
    for program in &page.programs {
        if !page.narrowed {
            overview(program, out)?;
        }
        for template in &program.templates {
            match page.narrowed || page.stage == "decoder" {
                true => operations(program, template, out)?,
                false => sites(template, out)?,
            }
        }
    }
    Ok(())
}

fn overview(program: &ProgramPage, out: &mut String) -> fmt::Result {
    let ProgramPage { name, block, .. } = program;
    writeln!(out, "\nprogram {name}, {block} tokens a run")?;
    program
        .states
        .iter()
        .try_for_each(|state| writeln!(out, "  state    {state}"))?;
    for data in &program.data {
        writeln!(out, "  data     {}", data_line(data))?;
    }
    for template in &program.templates {
        let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
        for row in &template.rows {
            *classes.entry(&row.op).or_insert(0) += 1;
        }
        let mut classes: Vec<_> = classes.into_iter().collect();
        classes.sort_by_key(|(op, count)| (std::cmp::Reverse(*count), *op));
        let classes = classes.iter().map(|(op, count)| format!("{count} {op}"));
        writeln!(
            out,
            "  template {} ({}): {} operations: {}",
            template.name,
            template.runs,
            template.rows.len(),
            classes.collect::<Vec<_>>().join(", ")
        )?;
    }
    Ok(())
}

fn data_line(data: &DataRow) -> String {
    let shape: Vec<String> = data.shape.iter().map(u32::to_string).collect();
    let mut line = format!("{} [{}] of {}", data.name, shape.join(", "), data.from);
    if let Some(first) = data.digests.first() {
        let digest: String = first.chars().take(DIGEST).collect();
        let more = match data.digests.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        line += &format!(", {digest}…{more}, {} bytes", data.bytes);
    }
    line
}

/// What stands at a site, from its first operation to its last.
struct Site<'t> {
    name: &'t str,
    operations: usize,
    bootstraps: usize,
    first: Option<u32>,
    last: Option<&'t ValueRow>,
}

/// The sites of a template in the order of their first operation.
fn sites(template: &TemplatePage, out: &mut String) -> fmt::Result {
    let mut found: Vec<Site<'_>> = Vec::new();
    for row in &template.rows {
        let at = found.iter().position(|s| s.name == row.site);
        let at = at.unwrap_or_else(|| {
            found.push(Site {
                name: &row.site,
                operations: 0,
                bootstraps: 0,
                first: row.results.first().and_then(|r| r.level),
                last: None,
            });
            found.len() - 1
        });
        let site = &mut found[at];
        site.operations += 1;
        site.bootstraps += usize::from(row.op == "bootstrap");
        site.last = row.results.last().or(site.last);
    }
    writeln!(out, "\n{} ({})", template.name, template.runs)?;
    writeln!(
        out,
        "  {:<40} {:>4} {:>9} {:>11} {:>11}  layout",
        "site", "ops", "levels", "range", "unit"
    )?;
    for site in &found {
        let levels = match (site.first, site.last.and_then(|v| v.level)) {
            (Some(a), Some(b)) if a != b => format!("{a}→{b}"),
            (Some(a), _) => a.to_string(),
            _ => String::new(),
        };
        let value = site.last;
        let number = |x: Option<f64>| x.map_or(String::new(), |x| format!("{x:.5}"));
        writeln!(
            out,
            "  {:<40} {:>4} {:>9} {:>11} {:>11}  {}{}",
            site.name,
            site.operations,
            levels,
            number(value.and_then(|v| v.range)),
            number(value.and_then(|v| v.unit)),
            value.map_or(String::new(), layout),
            match site.bootstraps {
                0 => String::new(),
                n => format!("  {n} bootstrapped"),
            }
        )?;
    }
    Ok(())
}

fn layout(value: &ValueRow) -> String {
    let part = if value.complex { " complex" } else { "" };
    format!("{}{part}", value.layout)
}

fn operations(program: &ProgramPage, template: &TemplatePage, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "\n{} of {} ({})",
        template.name, program.name, template.runs
    )?;
    for param in &template.params {
        writeln!(out, "  {}", value(param))?;
    }
    for row in &template.rows {
        operation(row, out)?;
    }
    writeln!(out, "  returns {}", template.results.join(", "))
}

fn operation(row: &Row, out: &mut String) -> fmt::Result {
    let results: Vec<String> = row.results.iter().map(value).collect();
    let arrow = if results.is_empty() { "" } else { " = " };
    write!(out, "  {}{arrow}{}", results.join(", "), row.text)?;
    if let Some(entry) = &row.entry {
        write!(out, " ({entry})")?;
    }
    writeln!(out, "  @{}", row.site)
}

fn value(value: &ValueRow) -> String {
    let mut text = format!("{}: {}", value.id, layout(value));
    if let (Some(range), Some(unit)) = (value.range, value.unit) {
        text += &format!(" range {range:.5} unit {unit:.5}");
    }
    if let (Some(level), Some(degree)) = (value.level, value.degree) {
        text += &format!(" at {level}/{degree}");
    }
    text
}
