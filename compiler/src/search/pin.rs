//! Pins: decisions that the caller takes from the search.

use miette::Diagnostic;
use sotto_ir::decoder::Op;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// What is pinned at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A product of a tiled vector, its result tiled.
    Tiled,
    /// A product whose features end this many slots apart.
    Spread(u32),
    /// A product that gathers features this many slots apart.
    Gather(u32),
    /// Two diagonals in one complex one.
    Inputs,
    /// Real diagonals.
    Real,
    /// So many baby steps.
    Baby(u32),
    /// Keys or values made once per KV head and copied to its query heads.
    Once,
    /// Keys or values made for every query head.
    Copies,
    /// A product of its own.
    Alone,
    /// One complex product with another site.
    With(String),
    /// A norm that spends a level on its exact window.
    Exact,
    /// A norm that finds its window by additions.
    Additions,
    /// An activation over a window about zero.
    AboutZero,
    /// An activation over the window of what was calibrated.
    Window,
    /// Attention with so many tokens inside the features.
    Inside(u32),
    /// Attention with so many tokens of a group, all outside the features.
    Outside(u32),
    /// Attention with keys and values in diagonals, so many tokens inside each head.
    Diagonals(u32),
    /// Keys and values in diagonals stored once per KV head.
    StoredOnce,
    /// Keys and values stored for every query head.
    StoredCopies,
    /// An exponential with so many squarings.
    Squarings(u32),
}

impl Form {
    /// Whether an operation has this form.
    pub fn suits(&self, op: &Op) -> bool {
        match self {
            Form::Exact | Form::Additions => {
                matches!(op, Op::RmsNorm { .. } | Op::LayerNorm { .. })
            }
            Form::AboutZero | Form::Window => matches!(op, Op::Activate { .. }),
            Form::Inside(_)
            | Form::Outside(_)
            | Form::Diagonals(_)
            | Form::StoredOnce
            | Form::StoredCopies
            | Form::Squarings(_) => matches!(op, Op::Attend { .. }),
            _ => matches!(op, Op::Linear { .. }),
        }
    }
}

/// A decision at a site, `{i}` for the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The site.
    pub site: String,
    /// What must be chosen there.
    pub form: Form,
}

/// One form for each kind of operation that has any.
pub(super) const FORMS: [Form; 4] = [Form::Tiled, Form::Exact, Form::Window, Form::Inside(1)];

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Form::Tiled => f.write_str("tiled"),
            Form::Spread(stride) => write!(f, "spread:{stride}"),
            Form::Gather(stride) => write!(f, "gather:{stride}"),
            Form::Inputs => f.write_str("inputs"),
            Form::Real => f.write_str("real"),
            Form::Baby(steps) => write!(f, "baby:{steps}"),
            Form::Once => f.write_str("once"),
            Form::Copies => f.write_str("copies"),
            Form::Alone => f.write_str("alone"),
            Form::With(site) => write!(f, "with:{site}"),
            Form::Exact => f.write_str("exact"),
            Form::Additions => f.write_str("additions"),
            Form::AboutZero => f.write_str("about-zero"),
            Form::Window => f.write_str("window"),
            Form::Inside(tokens) => write!(f, "inside:{tokens}"),
            Form::Outside(tokens) => write!(f, "outside:{tokens}"),
            Form::Diagonals(tokens) => write!(f, "diagonals:{tokens}"),
            Form::Squarings(count) => write!(f, "squarings:{count}"),
            Form::StoredOnce => f.write_str("stored-once"),
            Form::StoredCopies => f.write_str("stored-copies"),
        }
    }
}

/// As it is given: SITE=FORM.
impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.site, self.form)
    }
}

/// A pin that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
#[error(
    "`{0}` is no pin; one is SITE=FORM with FORM one of tiled, spread:STRIDE, gather:STRIDE, inputs, real, baby:STEPS, once, copies, alone, with:SITE \
     (products); exact, additions (norms); about-zero, window (activations); inside:TOKENS, outside:TOKENS, diagonals:TOKENS, stored-once, stored-copies, squarings:COUNT (attention)"
)]
#[diagnostic(code(pin::pin))]
pub struct PinError(String);

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let wrong = || PinError(text.into());
        let (site, form) = text.split_once('=').ok_or_else(wrong)?;
        let (word, value) = form.split_once(':').unwrap_or((form, ""));
        let number = || value.parse::<u32>().map_err(|_| wrong());
        let plain = |form| {
            if value.is_empty() {
                Ok(form)
            } else {
                Err(wrong())
            }
        };
        let form = match word {
            "tiled" => plain(Form::Tiled)?,
            "spread" => Form::Spread(number()?),
            "gather" => Form::Gather(number()?),
            "inputs" => plain(Form::Inputs)?,
            "real" => plain(Form::Real)?,
            "baby" => Form::Baby(number()?),
            "once" => plain(Form::Once)?,
            "copies" => plain(Form::Copies)?,
            "alone" => plain(Form::Alone)?,
            "with" if !value.is_empty() => Form::With(value.into()),
            "exact" => plain(Form::Exact)?,
            "additions" => plain(Form::Additions)?,
            "about-zero" => plain(Form::AboutZero)?,
            "window" => plain(Form::Window)?,
            "inside" => Form::Inside(number()?),
            "outside" => Form::Outside(number()?),
            "diagonals" => Form::Diagonals(number()?),
            "stored-once" => plain(Form::StoredOnce)?,
            "stored-copies" => plain(Form::StoredCopies)?,
            "squarings" => Form::Squarings(number()?),
            _ => return Err(wrong()),
        };
        if site.is_empty() {
            return Err(wrong());
        }
        Ok(Pin {
            site: site.into(),
            form,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_or_refused() {
        let pin: Pin = "layers.{i}.mlp.up_proj=spread:8".parse().unwrap();
        assert_eq!(
            (pin.site.as_str(), pin.form),
            ("layers.{i}.mlp.up_proj", Form::Spread(8))
        );
        let pin: Pin = "a=with:b".parse().unwrap();
        assert_eq!(pin.form, Form::With("b".into()));
        for text in [
            "a=tiled",
            "a=spread:8",
            "a=gather:4",
            "a=inputs",
            "a=real",
            "a=baby:16",
            "a=once",
            "a=copies",
            "a=alone",
            "a=with:b",
            "a=exact",
            "a=additions",
            "a=about-zero",
            "a=window",
            "a=inside:2",
            "a=outside:4",
            "a=diagonals:8",
            "a=squarings:3",
            "a=stored-once",
            "a=stored-copies",
        ] {
            assert_eq!(text.parse::<Pin>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "a",
            "a=",
            "=tiled",
            "a=spread",
            "a=spread:x",
            "a=tiled:2",
            "a=with:",
        ] {
            assert!(wrong.parse::<Pin>().is_err(), "{wrong}");
        }
    }
}
