//! Two programs side by side: which value of the one first differs from the other's, and which declarations do.
//!
//! Packed and leveled programs run in the interpreter, plans on the cleartext backend without noise, decoders in float64; a golden file is
//! read. What is held against what ([`Alignment`]):
//!
//! - programs of the same structure value by value: the same site, operation and how many of that operation came before it there, in the
//!   same layer and KV group. Placement only adds `rescale`, `drop` and `bootstrap`, so a packed program, the leveled one and the plan of
//!   one compilation have the same structure;
//! - anything else at the sites that both name and whose layout says where features stand: residual stream, projections, logits.
//!
//! Values are compared in real-world units. Declarations (operands, constants, masks, coefficients, recipes, ranges, units, levels) are
//! compared too where the structure is the same: a wrong range changes no value.

mod address;
mod declared;
mod features;
mod named;
mod run;
mod values;

use crate::frontend::Checkpoint;
use crate::view::{Given, SlotView};
use miette::Diagnostic;
use sotto_ir::exec::Escape;
use std::fmt;

pub use declared::Difference;
pub use run::RunError;

/// What to compare on.
pub struct Options<'a> {
    /// The checkpoint whose weights stages read.
    pub checkpoint: Option<&'a Checkpoint>,
    /// Token ids, each a step.
    pub tokens: Vec<u32>,
    /// Largest error that is none, relative to the first program's largest entry [default: by what is compared].
    pub tolerance: Option<f64>,
}

/// How values were matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alignment {
    /// Every operation with its counterpart.
    Operations,
    /// Sites that both have.
    Sites,
}

/// A value that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// Index of the token, from 0.
    pub position: usize,
    /// Site with the layer's number.
    pub site: String,
    /// The layer.
    pub layer: Option<u32>,
    /// The KV group, inside a loop over groups.
    pub group: Option<u32>,
    /// The operation, in the first program.
    pub op: String,
    /// Largest difference ÷ largest entry of the first program's value.
    pub error: f64,
    /// Largest difference, in real-world units.
    pub difference: f64,
    /// Where it is: slot, or feature.
    pub index: usize,
    /// Largest entry of each, in real-world units.
    pub reached: (f64, f64),
    /// Declared bound of each, in real-world units; None where there is none.
    pub declared: (Option<f64>, Option<f64>),
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// What a comparison found.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// How values were matched.
    pub alignment: Alignment,
    /// Largest error that is none.
    pub tolerance: f64,
    /// Steps run by both.
    pub steps: usize,
    /// Values compared.
    pub values: usize,
    /// The largest error seen, within the tolerance or not.
    pub largest: f64,
    /// The first value that differs, in the order in which the first program computes.
    pub divergence: Option<Divergence>,
    /// Who could not go on, if nothing differed before.
    pub failure: Option<(Side, RunError)>,
    /// Declarations that differ, in the order in which the first program runs.
    pub differences: Vec<Difference>,
    /// Values of either that left their declared range.
    pub escapes: (Vec<Escape>, Vec<Escape>),
}

impl Verdict {
    /// Whether there is nothing to tell between the two.
    pub fn agree(&self) -> bool {
        self.divergence.is_none() && self.failure.is_none() && self.differences.is_empty()
    }

    /// The site to look at first: that of the first value that differs; where none does, of a failure, or of the first declaration.
    pub fn site(&self) -> Option<&str> {
        let diverged = self.divergence.as_ref().map(|d| d.site.as_str());
        let failed = || self.failure.as_ref().and_then(|(_, e)| e.site.as_deref());
        let declared = || self.differences.first().map(|d| d.site.as_str());
        diverged.or_else(failed).or_else(declared)
    }
}

/// Why nothing was compared.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum CompareError {
    /// A stage without its weights.
    #[error(
        "a {kind} stage names its weights and does not hold them: give the checkpoint with --model"
    )]
    #[diagnostic(code(compare::no_model))]
    NoModel {
        /// Which stage.
        kind: &'static str,
    },
    /// A stage of another checkpoint.
    #[error("the stage was made from checkpoint {stage}, --model is {model}")]
    #[diagnostic(code(compare::foreign))]
    Foreign {
        /// The stage's.
        stage: String,
        /// The model's.
        model: String,
    },
    /// Nothing in common.
    #[error(
        "the two have no site in common whose features are known; compare stages or plans of one model"
    )]
    #[diagnostic(code(compare::nothing))]
    Nothing,
    /// Too few or other tokens.
    #[error("{0}")]
    #[diagnostic(code(compare::tokens))]
    Tokens(String),
    /// A side could not be prepared.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(#[from] RunError),
    /// The checkpoint.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Frontend(#[from] crate::frontend::FrontendError),
}

/// Runs both on the same tokens.
///
/// # Errors
/// Whatever keeps a side from starting. What stops it on the way is part of the verdict.
pub fn compare(a: &Given, b: &Given, options: &Options<'_>) -> Result<Verdict, CompareError> {
    let views = (slot_view(a), slot_view(b));
    for side in [a, b] {
        check_model(side, options.checkpoint)?;
        check_tokens(side, options)?;
    }
    match views {
        (Some(x), Some(y)) if address::same_structure(&x, &y) => {
            values::compare((a, &x), (b, &y), options)
        }
        _ => named::compare(a, b, options),
    }
}

/// Refuses a stage whose weights are not at hand.
fn check_model(side: &Given, checkpoint: Option<&Checkpoint>) -> Result<(), CompareError> {
    if let Given::Stage(file) = side {
        run::checkpoint_of(side.kind(), &file.checkpoint(), checkpoint)?;
    }
    Ok(())
}

/// Refuses tokens that a side cannot take.
fn check_tokens(side: &Given, options: &Options<'_>) -> Result<(), CompareError> {
    let refuse = |what: String| Err(CompareError::Tokens(what));
    let tokens = &options.tokens;
    if tokens.is_empty() {
        return refuse("there are no tokens to run; give some with --input".into());
    }
    if let Given::Golden(golden) = side {
        return match golden.input_ids.starts_with(tokens) {
            true => Ok(()),
            false => refuse("a golden file knows its own tokens only; leave --input out".into()),
        };
    }
    if let Some(view) = slot_view(side).filter(|v| tokens.len() > v.capacity as usize) {
        let (given, capacity) = (tokens.len(), view.capacity);
        return refuse(format!(
            "{given} tokens, a session holds {capacity}; give fewer with --positions"
        ));
    }
    let vocab = match side {
        Given::Plan { plan, .. } => Some(plan.model.vocab as usize),
        _ => options.checkpoint.map(|c| c.facts().vocab),
    };
    let beyond = |token: &&u32| vocab.is_some_and(|vocab| **token as usize >= vocab);
    match (tokens.iter().find(beyond), vocab) {
        (Some(token), Some(vocab)) => refuse(format!(
            "token {token} is not in the vocabulary of {vocab} tokens"
        )),
        _ => Ok(()),
    }
}

/// The decode program, of what has one.
pub fn slot_view(given: &Given) -> Option<SlotView> {
    use crate::driver::StageFile;
    match given {
        Given::Plan { plan, .. } => Some(SlotView::of_plan(plan, &plan.decode)),
        Given::Stage(file) => match &**file {
            StageFile::Packed(program) => Some(program.into()),
            StageFile::Leveled(program) => Some(program.into()),
            StageFile::Decoder(_) => None,
        },
        Given::Golden(_) => None,
    }
}

/// The site with a layer's number.
fn at_layer(site: &str, layer: u32) -> String {
    site.replace("{i}", &layer.to_string())
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.site, self.op)?;
        self.layer
            .iter()
            .try_for_each(|l| write!(f, ", layer {l}"))?;
        self.group
            .iter()
            .try_for_each(|g| write!(f, ", group {g}"))?;
        writeln!(f, ", token {}", self.position)?;
        writeln!(
            f,
            "  error    {:.3e} of the largest entry ({:.6e} at {})",
            self.error, self.difference, self.index
        )?;
        for (name, reached, declared) in [
            ("A", self.reached.0, self.declared.0),
            ("B", self.reached.1, self.declared.1),
        ] {
            write!(f, "  {name}        reaches {reached:.6}")?;
            match declared {
                Some(bound) => writeln!(f, ", declared within {bound:.6}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}
