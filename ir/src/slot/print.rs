//! The text form's printer. Tables are numbered per kind (`d` data, `p` plaintexts, `m` matrices, `f` polynomials, `s` states,
//! `t` templates), and operations name them by number; a comment after an operation tells the table entry's name.

use super::{
    At, DataDecl, FeatureMap, Form, Group, Layout, Leveled, Matrix, MatrixPart, Node, Op, Packed,
    Pairing, Param, Plain, PlainFactor, Poly, Program, Recipe, Shift, Side, Stage, StateDecl,
    Template, TokenMatrix, ValueId, ValueType,
};
use crate::text::{float, list, quoted};
use std::fmt::{self, Display, Formatter};

/// Version of the text form of slot programs.
pub const SLOT_VERSION: u32 = 3;

/// How a stage's annotation prints.
pub trait PrintNote {
    /// After the type of a value; begins with a blank unless it is empty.
    fn print(&self, f: &mut Formatter<'_>) -> fmt::Result;
}

impl PrintNote for () {
    fn print(&self, _: &mut Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

impl PrintNote for At {
    fn print(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " at {self}")
    }
}

impl Display for At {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.level, self.degree)
    }
}

impl Display for ValueId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

impl Display for Layout {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Layout::Periodic { count, width } => write!(f, "periodic {count}/{width}"),
            Layout::Strided {
                count,
                width,
                stride,
            } => write!(f, "strided {count}/{width} by {stride}"),
            Layout::Tokens(group) => write!(f, "tokens {group}"),
            Layout::Matrix(matrix) => write!(f, "matrix {matrix}"),
            Layout::Block { tokens, each } => write!(f, "block {tokens} of {each}"),
            Layout::Scalar => f.write_str("scalar"),
            Layout::Partial { period } => write!(f, "partial {period}"),
        }
    }
}

impl Display for Group {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Group { tokens, width, .. } = self;
        write!(f, "{tokens}/{width}{}", unless_one("inside", self.inner))
    }
}

impl Display for TokenMatrix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Rows => "rows",
            Side::Columns => "columns",
        };
        let (inside, baby) = (unless_one("inside", self.inner), self.baby);
        write!(
            f,
            "{side} {}/{} baby {baby}{inside}",
            self.lanes, self.heads
        )
    }
}

impl Display for ValueType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let part = if self.complex { "complex" } else { "real" };
        write!(
            f,
            "{} {part} range {} unit {}",
            self.layout,
            float(self.range),
            float(self.unit)
        )
    }
}

impl<V: Display> Display for Op<V> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if let Op::SumGroups {
            template,
            states,
            args,
        } = self
        {
            let states = states.iter().map(|s| format!("s{}", s.0));
            return write!(f, " {}, t{template}, states={}", list(args), list(states));
        }
        for (i, operand) in self.operands().into_iter().enumerate() {
            write!(f, "{} {operand}", if i > 0 { "," } else { "" })?;
        }
        match self {
            Op::Rotate { by, .. } => write!(f, ", by={by}"),
            Op::AddPlain { plain, .. } | Op::MulPlain { plain, .. } => write!(f, ", p{}", plain.0),
            Op::AddConst { c, .. } | Op::MulConst { c, .. } => write!(f, ", c={}", float(*c)),
            Op::FoldCurrent { count, .. } => write!(f, ", count={count}"),
            Op::Fold { step, count, .. } => write!(f, ", step={step}, count={count}"),
            Op::Linear { matrix, .. } => write!(f, ", m{}", matrix.0),
            Op::Apply {
                step, count, baby, ..
            } => write!(f, ", step={step}, count={count}, baby={baby}"),
            Op::Poly { poly, .. } => write!(f, ", f{}", poly.0),
            Op::Append { state, .. } => write!(f, ", s{}", state.0),
            Op::Drop { level, .. } => write!(f, ", level={level}"),
            Op::Bootstrap { kind, .. } => {
                let part = if kind.complex { "complex" } else { "real" };
                write!(f, ", slots={}, {part}", kind.slots)
            }
            _ => Ok(()),
        }
    }
}

impl<S: Stage> Display for Node<S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, value) in self.results.iter().enumerate() {
            write!(f, "{}{value}", if i > 0 { ", " } else { "" })?;
        }
        if !self.results.is_empty() {
            f.write_str(" = ")?;
        }
        write!(f, "{}", self.op)?;
        for (i, (ty, note)) in self.types.iter().zip(&self.notes).enumerate() {
            write!(f, "{}{ty}", if i > 0 { ", " } else { " : " })?;
            note.print(f)?;
        }
        write!(f, "  @{}", self.site)
    }
}

impl<S: Stage> Display for Param<S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.value, self.ty)?;
        self.note.print(f)
    }
}

impl Display for FeatureMap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            FeatureMap::Plain { first: 0, count } => write!(f, "plain {count}"),
            FeatureMap::Plain { first, count } => write!(f, "plain {count} from {first}"),
            FeatureMap::Heads {
                heads,
                kv_heads,
                head_dim,
                heads_padded,
                lanes,
            } => write!(
                f,
                "heads {heads}/{heads_padded} kv {kv_heads} lanes {head_dim}/{lanes}"
            ),
        }
    }
}

impl Display for MatrixPart {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let transposed = if self.transposed { " transposed" } else { "" };
        write!(f, "{}{transposed}", quoted(&self.tensor))?;
        write!(f, " rows {} columns {}", self.rows, self.columns)?;
        if let Some(gain) = &self.gain {
            write!(f, " gain {}", quoted(gain))?;
        }
        write!(f, "{} scale {}", centred(self.centred), float(self.scale))
    }
}

fn centred(centred: bool) -> &'static str {
    if centred { " centred" } else { "" }
}

impl Display for Shift {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let transposed = if self.transposed { " transposed" } else { "" };
        let (by, weight) = (quoted(&self.by), quoted(&self.weight));
        write!(f, " shift {by} through {weight}{transposed}")
    }
}

impl Display for Recipe {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Recipe::Matrix(parts) => write!(f, "matrix {}", list(parts)),
            Recipe::Vector {
                tensor,
                rows,
                scale,
            } => write!(
                f,
                "vector {} rows {rows} scale {}",
                quoted(tensor),
                float(*scale)
            ),
            Recipe::Constant {
                own,
                shift,
                rows,
                centred: off,
                scale,
            } => {
                f.write_str("constant")?;
                own.iter()
                    .try_for_each(|own| write!(f, " own {}", quoted(own)))?;
                shift.iter().try_for_each(|shift| write!(f, "{shift}"))?;
                write!(f, " rows {rows}{} scale {}", centred(*off), float(*scale))
            }
            Recipe::Rows {
                tensor,
                rows,
                centred: off,
                scale,
            } => {
                let (tensor, off) = (quoted(tensor), centred(*off));
                write!(
                    f,
                    "rows_of {tensor} rows {rows}{off} scale {}",
                    float(*scale)
                )
            }
            Recipe::Values(layers) => {
                let numbers = |layer: &Vec<f64>| {
                    list(layer.iter().map(|&x| float(x).to_string())).to_string()
                };
                write!(f, "values {}", list(layers.iter().map(numbers)))
            }
            Recipe::RopeCos { map, scale } => {
                write!(f, "rope_cos rows {map} scale {}", float(*scale))
            }
            Recipe::RopeSin { map, scale } => {
                write!(f, "rope_sin rows {map} scale {}", float(*scale))
            }
        }
    }
}

impl Display for DataDecl {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let per_layer = if self.per_layer { ", per_layer" } else { "" };
        let (name, shape) = (quoted(&self.name), list(&self.shape));
        write!(f, "{name}{per_layer}, shape={shape}, {}", self.recipe)
    }
}

/// A stride, unless it is 1.
fn apart(stride: u32) -> String {
    unless_one("by", stride)
}

/// The tokens of a block, unless it is one.
fn of_block(block: u32) -> String {
    unless_one("block", block)
}

fn unless_one(word: &str, number: u32) -> String {
    match number {
        1 => String::new(),
        _ => format!(" {word} {number}"),
    }
}

impl Display for PlainFactor {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            PlainFactor::Const(c) => write!(f, "const {}", float(*c)),
            PlainFactor::Vector { data, stride } => {
                write!(f, "vector d{}{}", data.0, apart(*stride))
            }
            PlainFactor::PositionRow {
                data,
                stride,
                block,
            } => {
                let (apart, block) = (apart(*stride), of_block(*block));
                write!(f, "position_row d{}{apart}{block}", data.0)
            }
            PlainFactor::CurrentToken { group, block } => {
                write!(f, "current_token {group}{}", of_block(*block))
            }
            PlainFactor::CachedTokens { group, block } => {
                write!(f, "cached_tokens {group}{}", of_block(*block))
            }
            PlainFactor::FirstOf { width, first } => write!(f, "first {first}/{width}"),
            PlainFactor::LastOf { width } => write!(f, "last {width}"),
            PlainFactor::InverseCount { block } => {
                write!(f, "inverse_count{}", of_block(*block))
            }
        }
    }
}

impl Display for Plain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", quoted(&self.name), list(&self.factors))
    }
}

impl Display for Matrix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let form = match self.form {
            Form::Spread { .. } => "spread",
            Form::Gather { .. } => "gather",
            Form::Mix { .. } => "mix",
        };
        let pairing = match self.pairing {
            Pairing::None => "unpaired",
            Pairing::Outputs => "outputs",
            Pairing::Inputs => "inputs",
        };
        write!(
            f,
            "{}, {form} {}{}, {pairing}, in={}, out={}, baby={}, d{}",
            quoted(&self.name),
            match self.form {
                Form::Mix { run } => run,
                form => form.stride(),
            },
            of_block(self.block),
            self.in_width,
            self.out_width,
            self.baby,
            self.data.0
        )
    }
}

impl Display for Poly {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let coefficients = self.coefficients.iter().map(|&c| float(c).to_string());
        write!(
            f,
            "{}, error={}, {}",
            quoted(&self.name),
            float(self.error),
            list(coefficients)
        )
    }
}

impl Display for StateDecl {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} : {}", quoted(&self.name), self.ty)?;
        self.level.iter().try_for_each(|l| write!(f, " at {l}"))
    }
}

impl<S: Stage> Display for Program<S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {SLOT_VERSION}", S::NAME)?;
        writeln!(f, "checkpoint {}", quoted(&self.model_digest))?;
        writeln!(
            f,
            "program {}, slots={}, block={}, capacity={}\n",
            quoted(&self.name),
            self.slots,
            self.block,
            self.capacity
        )?;
        table(f, "data", 'd', &self.data)?;
        table(f, "plain", 'p', &self.plains)?;
        table(f, "matrix", 'm', &self.matrices)?;
        table(f, "poly", 'f', &self.polys)?;
        table(f, "state", 's', &self.states)?;
        for (i, template) in self.templates.iter().enumerate() {
            self.template(f, i, template)?;
        }
        writeln!(f)?;
        for step in &self.steps {
            writeln!(
                f,
                "step t{}, first={}, count={}",
                step.template, step.first, step.count
            )?;
        }
        Ok(())
    }
}

fn table<T: Display>(f: &mut Formatter<'_>, word: &str, letter: char, items: &[T]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        writeln!(f, "{word} {letter}{i} {item}")?;
    }
    Ok(())
}

impl<S: Stage> Program<S> {
    fn template(&self, f: &mut Formatter<'_>, i: usize, template: &Template<S>) -> fmt::Result {
        write!(f, "\ntemplate t{i} {}(", quoted(&template.name))?;
        for (i, param) in template.params.iter().enumerate() {
            write!(f, "{}{param}", if i > 0 { ", " } else { "" })?;
        }
        writeln!(f, ") -> {} {{", list(&template.results))?;
        for node in &template.nodes {
            write!(f, "  {node}")?;
            if let Some(name) = self.table_name(&node.op) {
                write!(f, "  ; {}", quoted(name))?;
            }
            writeln!(f)?;
        }
        writeln!(f, "}}")
    }

    /// Name of the table entry an operation refers to.
    fn table_name(&self, op: &Op<ValueId>) -> Option<&str> {
        match op {
            Op::AddPlain { plain, .. } | Op::MulPlain { plain, .. } => {
                Some(&self.plains.get(plain.0 as usize)?.name)
            }
            Op::Linear { matrix, .. } => Some(&self.matrices.get(matrix.0 as usize)?.name),
            Op::Poly { poly, .. } => Some(&self.polys.get(poly.0 as usize)?.name),
            Op::Append { state, .. } => Some(&self.states.get(state.0 as usize)?.name),
            Op::SumGroups { template, .. } => Some(&self.templates.get(*template)?.name),
            _ => None,
        }
        .map(String::as_str)
    }
}

/// What a stage's text begins with, for a driver that has to tell stage files apart.
pub fn stage_of(text: &str) -> Option<&'static str> {
    let word = text.split_whitespace().next()?;
    [Packed::NAME, Leveled::NAME]
        .into_iter()
        .find(|name| *name == word)
}
