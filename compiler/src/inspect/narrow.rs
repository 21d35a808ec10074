//! Parts of a page.

use super::{Page, TemplatePage};
use crate::view::near;
use miette::Diagnostic;
use thiserror::Error;

/// What is asked for; all of it where nothing is.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    /// A program.
    pub program: Option<&'a str>,
    /// A template.
    pub template: Option<&'a str>,
    /// A site with all below it, a layer's number or `{i}` in it.
    pub site: Option<&'a str>,
}

/// Nothing of that name.
#[derive(Debug, Error, Diagnostic)]
#[error("there is no {what} `{asked}`{}", offered(.near))]
#[diagnostic(code(inspect::not_there))]
pub struct NotThere {
    /// Program, template or site.
    what: &'static str,
    asked: String,
    near: Vec<String>,
}

fn offered(near: &[String]) -> String {
    match near {
        [] => String::new(),
        _ => format!("; did you mean {}?", near.join(", ")),
    }
}

/// The page with what is asked for only.
///
/// # Errors
/// A name that is not there, with those nearest to it.
pub fn narrow(mut page: Page, wanted: &Wanted<'_>) -> Result<Page, NotThere> {
    if let Some(asked) = wanted.program {
        let names: Vec<String> = page.programs.iter().map(|p| p.name.clone()).collect();
        page.programs.retain(|p| p.name == asked);
        found(!page.programs.is_empty(), "program", asked, &names)?;
    }
    if let Some(asked) = wanted.template {
        let names = template_names(&page);
        keep(&mut page, |t| t.name == asked);
        found(!page.programs.is_empty(), "template", asked, &names)?;
    }
    if let Some(asked) = wanted.site {
        let names = sites(&page);
        let (site, layer) = general(asked);
        for template in page.programs.iter_mut().flat_map(|p| &mut p.templates) {
            let runs = layer.is_none_or(|l| template.layers.is_none_or(|(a, b)| a <= l && l <= b));
            template.rows.retain(|row| runs && below(&row.site, &site));
        }
        keep(&mut page, |t| !t.rows.is_empty());
        found(!page.programs.is_empty(), "site", asked, &names)?;
    }
    page.narrowed = wanted.template.is_some() || wanted.site.is_some();
    Ok(page)
}

fn found(is: bool, what: &'static str, asked: &str, names: &[String]) -> Result<(), NotThere> {
    if is {
        return Ok(());
    }
    let near = near(asked, names.iter().map(String::as_str));
    Err(NotThere {
        what,
        asked: asked.into(),
        near: near.into_iter().map(String::from).collect(),
    })
}

fn keep(page: &mut Page, wanted: impl Fn(&TemplatePage) -> bool) {
    for program in &mut page.programs {
        program.templates.retain(&wanted);
    }
    page.programs.retain(|p| !p.templates.is_empty());
}

fn template_names(page: &Page) -> Vec<String> {
    let templates = page.programs.iter().flat_map(|p| &p.templates);
    templates.map(|t| t.name.clone()).collect()
}

fn sites(page: &Page) -> Vec<String> {
    let templates = page.programs.iter().flat_map(|p| &p.templates);
    let rows = templates.flat_map(|t| &t.rows);
    let mut sites: Vec<String> = rows.map(|row| row.site.clone()).collect();
    sites.sort();
    sites.dedup();
    sites
}

/// A site with `{i}` for its layer, and the layer.
fn general(site: &str) -> (String, Option<u32>) {
    let mut parts: Vec<&str> = site.split('.').collect();
    match parts.get(1).and_then(|number| number.parse().ok()) {
        Some(layer) if parts[0] == "layers" => {
            parts[1] = "{i}";
            (parts.join("."), Some(layer))
        }
        _ => (site.into(), None),
    }
}

fn below(site: &str, asked: &str) -> bool {
    let rest = site.strip_prefix(asked);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_with_a_number_is_that_of_its_layer() {
        assert_eq!(
            general("layers.3.mlp.up_proj"),
            ("layers.{i}.mlp.up_proj".into(), Some(3))
        );
        assert_eq!(general("lm_head"), ("lm_head".into(), None));
        assert!(below("layers.{i}.mlp.up_proj", "layers.{i}.mlp"));
        assert!(!below("layers.{i}.mlp_norm", "layers.{i}.mlp"));
    }
}
