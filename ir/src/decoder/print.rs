//! The text form's printer.

use super::{
    DECODER_VERSION, Decoder, Inst, ModelFacts, Op, Positions, Rope, RopeScaling, State, Template,
    Type, Value,
};
use crate::text::{float, list, quoted};
use std::fmt::{Display, Formatter, Result};

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "%{}", self.0)
    }
}

impl Display for Type {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Token => f.write_str("token"),
            Self::Vector(width) => write!(f, "[{width}]"),
        }
    }
}

impl Display for Op {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(self.mnemonic())?;
        match self {
            Self::Embed { token, weight } | Self::Position { token, weight } => {
                write!(f, " {token}, weight={}", quoted(weight))
            }
            Self::Linear { x, weight, bias } => {
                write!(f, " {x}, weight={}", quoted(weight))?;
                bias.iter()
                    .try_for_each(|bias| write!(f, ", bias={}", quoted(bias)))
            }
            Self::RmsNorm { x, weight, eps } => {
                write!(f, " {x}, weight={}, eps={}", quoted(weight), float(*eps))
            }
            Self::LayerNorm {
                x,
                weight,
                bias,
                eps,
            } => {
                let (weight, bias) = (quoted(weight), quoted(bias));
                write!(f, " {x}, weight={weight}, bias={bias}, eps={}", float(*eps))
            }
            Self::Rope { x, head_dim } => write!(f, " {x}, head_dim={head_dim}"),
            Self::KvAppend { state, k, v } => write!(f, " {k}, {v}, state={}", quoted(state)),
            Self::Attend {
                q,
                state,
                heads,
                scale,
            } => {
                write!(
                    f,
                    " {q}, state={}, heads={heads}, scale={}",
                    quoted(state),
                    float(*scale)
                )
            }
            Self::Activate { x, .. } => write!(f, " {x}"),
            Self::Mul { a, b } | Self::Add { a, b } => write!(f, " {a}, {b}"),
        }
    }
}

impl Display for Inst {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.result {
            Some((value, ty)) => write!(f, "{value} = {} : {ty}", self.op)?,
            None => write!(f, "{}", self.op)?,
        }
        write!(f, "  @{}", self.site)
    }
}

fn template(f: &mut Formatter<'_>, name: &str, template: &Template) -> Result {
    let (value, ty) = template.param;
    writeln!(
        f,
        "\ntemplate {name}({value}: {ty}) -> {} {{",
        template.result
    )?;
    for inst in &template.insts {
        writeln!(f, "  {inst}")?;
    }
    writeln!(f, "}}")
}

impl Display for State {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(
            f,
            "state {}, kv_heads={}, head_dim={}",
            quoted(&self.name),
            self.kv_heads,
            self.head_dim
        )
    }
}

impl Display for Rope {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "theta={}", float(self.theta))?;
        match self.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor } => {
                write!(f, ", scaling=linear, factor={}", float(factor))
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_positions,
            } => write!(
                f,
                ", scaling=llama3, factor={}, low_freq_factor={}, high_freq_factor={}, original_max_positions={original_max_positions}",
                float(factor),
                float(low_freq_factor),
                float(high_freq_factor),
            ),
        }
    }
}

impl Display for Positions {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Rotary(rope) => write!(f, "rope, {rope}"),
            Self::Learned => f.write_str("learned"),
        }
    }
}

impl Display for ModelFacts {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "model {{")?;
        writeln!(f, "  architecture = {}", self.architecture.name())?;
        writeln!(f, "  hidden = {}", self.hidden)?;
        writeln!(f, "  layers = {}", self.layers)?;
        writeln!(f, "  heads = {}", self.heads)?;
        writeln!(f, "  kv_heads = {}", self.kv_heads)?;
        writeln!(f, "  head_dim = {}", self.head_dim)?;
        writeln!(f, "  intermediate = {}", self.intermediate)?;
        writeln!(f, "  vocab = {}", self.vocab)?;
        writeln!(f, "  norm_eps = {}", float(self.norm_eps))?;
        writeln!(f, "  positions = {}", self.positions)?;
        writeln!(f, "  activation = {}", self.activation.name())?;
        writeln!(f, "  tied = {}", self.tied)?;
        writeln!(f, "  attention_bias = {}", self.attention_bias.name())?;
        writeln!(f, "  mlp_bias = {}", self.mlp_bias)?;
        match self.bos {
            Some(bos) => writeln!(f, "  bos = {bos}")?,
            None => writeln!(f, "  bos = none")?,
        }
        writeln!(f, "  eos = {}", list(&self.eos))?;
        writeln!(f, "  max_positions = {}", self.max_positions)?;
        writeln!(f, "}}")
    }
}

impl Display for Decoder {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "decoder {DECODER_VERSION}")?;
        writeln!(f, "checkpoint {}", quoted(&self.checkpoint.to_string()))?;
        write!(f, "{}", self.model)?;
        self.states
            .iter()
            .try_for_each(|state| writeln!(f, "{state}"))?;
        self.templates()
            .iter()
            .try_for_each(|(name, body)| template(f, name, body))
    }
}
