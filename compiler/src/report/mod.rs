//! A plan as one page for a browser: what was decided, what it costs, and what was measured.
//!
//! [`Report`] is all that the page shows, gathered from what `inspect`, `explain` and `estimate` are made of and from the plan itself;
//! nothing is worked out again here. Programs stay rolled: a template is told once, with the sections of the program that run it.
//! [`html`] puts it into a page that needs no network: data as JSON, a style and a script beside this file.

mod html;
mod program;

pub use html::html;
pub use program::{OpRow, ProgramCourse, SectionCosts, TemplateCourse, ValueRow};

use crate::emit::explain::{Operations, explain};
use crate::emit::memory::{KeyBytes, Parts, key_bytes};
use crate::inspect;
use crate::view::Given;
use serde::Serialize;
use sotto_ir::Digest;
use sotto_ir::plan::{Approximation, BootstrapCount, Cost, Decision, Plan, SiteRange};
use sotto_ir::trace::Measured;
use std::path::PathBuf;
use std::sync::Arc;

/// Everything that the page shows.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// Digest of the plan.
    pub digest: String,
    /// Version of the compiler that made the page.
    pub compiler: &'static str,
    /// The model, in a word.
    pub model: String,
    /// Whether the parameter set is for tests only.
    pub insecure: bool,
    /// Bits of security.
    pub security_bits: u32,
    /// Most tokens of a session.
    pub capacity: u32,
    /// What describes the whole, as `inspect` says it.
    pub header: Vec<(String, String)>,
    /// The plan's programs.
    pub programs: Vec<ProgramPart<'a>>,
    /// Bytes that the server needs, for all programs.
    pub peak_memory_bytes: u64,
    /// Bytes of all plaintexts that could stay encoded, of all programs.
    pub plaintext_bytes: u64,
    /// Levels that programs run at; bootstraps run above.
    pub top_level: u32,
    /// Evaluation keys.
    pub keys: Vec<KeyBytes>,
    /// Calibrated ranges.
    pub ranges: &'a [SiteRange],
    /// Polynomials and what they stand for.
    pub approximations: &'a [Approximation],
    /// Every site, as `explain` tells of it.
    pub sites: Vec<SitePart<'a>>,
    /// What a trace measured.
    pub measured: Option<&'a Measured>,
}

/// One program.
#[derive(Debug, Serialize)]
pub struct ProgramPart<'a> {
    /// Tokens of one run.
    pub block: u32,
    /// Predicted seconds of one run.
    pub seconds: f64,
    /// The table that predicted them.
    pub cost_table: &'a str,
    /// Bootstraps of one run.
    pub bootstraps: &'a [BootstrapCount],
    /// Time by kind of operation, dearest first.
    pub op_classes: &'a [Cost],
    /// What the search chose, and what it turned down.
    pub decisions: &'a [Decision],
    /// Whether the search was exhausted.
    pub saturated: bool,
    /// What its memory is made of.
    pub memory: Parts,
    /// Its templates and sections.
    pub course: ProgramCourse,
}

/// One site of the decode program.
#[derive(Debug, Serialize)]
pub struct SitePart<'a> {
    /// Its name and predicted cost a token.
    pub cost: &'a Cost,
    /// Its operations.
    pub operations: Vec<Operations<'a>>,
}

impl<'a> Report<'a> {
    /// Of a plan that holds, with what a trace measured if there is one.
    pub fn of(plan: &'a Arc<Plan>, digest: Digest, measured: Option<&'a Measured>) -> Self {
        let given = Given::Plan {
            dir: PathBuf::new(),
            plan: plan.clone(),
            digest,
        };
        let page = inspect::page(&given);
        let (header, pages) = page.map_or_else(Default::default, |p| (p.header, p.programs));
        let prefill = plan.prefill.iter();
        let prefill = prefill.map(|p| (&p.program, &p.estimate, &p.decisions, p.search.saturated));
        let decode = (
            &plan.decode,
            &plan.estimate,
            &plan.decisions,
            plan.search.saturated,
        );
        let programs = std::iter::once(decode).chain(prefill).zip(pages);
        let programs = programs.map(|((program, estimate, decisions, saturated), page)| {
            let memory = crate::emit::memory::parts(
                program,
                &plan.bootstraps,
                &plan.keys,
                plan.capacity,
                &plan.params,
            );
            ProgramPart {
                block: program.block,
                seconds: estimate.seconds,
                cost_table: &estimate.cost_table,
                bootstraps: &estimate.bootstraps,
                op_classes: &estimate.op_classes,
                decisions,
                saturated,
                memory,
                course: ProgramCourse::of(plan, program, estimate, &page),
            }
        });
        let sites = plan.estimate.sites.iter().map(|cost| SitePart {
            cost,
            operations: decode_operations(plan, &cost.name),
        });
        Self {
            digest: digest.to_string(),
            compiler: env!("CARGO_PKG_VERSION"),
            model: plan.model.name.clone(),
            insecure: plan.params.insecure,
            security_bits: plan.security.bits,
            capacity: plan.capacity,
            header,
            programs: programs.collect(),
            peak_memory_bytes: plan.estimate.peak_memory_bytes,
            plaintext_bytes: plan.estimate.plaintext_bytes,
            top_level: plan.params.top_app_level() as u32,
            keys: key_bytes(&plan.keys, &plan.params),
            ranges: &plan.sites,
            approximations: &plan.approximations,
            sites: sites.collect(),
            measured,
        }
    }
}

fn decode_operations<'a>(plan: &'a Plan, site: &str) -> Vec<Operations<'a>> {
    let programs = explain(plan, site).map_or(vec![], |found| found.programs);
    let decode = programs.into_iter().find(|p| p.program == plan.decode.name);
    decode.map_or(vec![], |decode| decode.operations)
}
