//! The text form's parser. It accepts what [`std::fmt::Display`] prints, with free blanks, line breaks in lists and
//! comments; whether the result makes sense is the verifier's business.

use super::{
    Activation, Architecture, AttentionBias, DECODER_VERSION, Decoder, Inst, ModelFacts, Op,
    Positions, Rope, RopeScaling, State, Template, Type, Value,
};
use crate::text::{ParseError, Parser};
use std::str::FromStr;

type Parsed<T> = Result<T, ParseError>;

impl FromStr for Decoder {
    type Err = ParseError;

    fn from_str(text: &str) -> Parsed<Self> {
        let mut p = Parser::new(text)?;
        p.keyword("decoder")?;
        let version_error = p.clone();
        if p.number::<u32>("a version")? != DECODER_VERSION {
            return Err(
                version_error.error(format!("version {DECODER_VERSION} of the decoder stage"))
            );
        }
        p.newline()?;
        p.keyword("checkpoint")?;
        let checkpoint = p.string_as("the checkpoint's digest")?;
        p.newline()?;
        let model = model(&mut p)?;
        let mut states = Vec::new();
        while p.at_word("state") {
            states.push(state(&mut p)?);
        }
        let embed = template(&mut p, "embed")?;
        let layer = template(&mut p, "layer")?;
        let final_ = template(&mut p, "final")?;
        p.end()?;
        Ok(Self {
            checkpoint,
            model,
            states,
            embed,
            layer,
            final_,
        })
    }
}

/// `name = item`, on a line of its own.
fn field<T>(p: &mut Parser, name: &str, item: impl FnOnce(&mut Parser) -> Parsed<T>) -> Parsed<T> {
    p.attribute(name)?;
    let item = item(p)?;
    p.newline()?;
    Ok(item)
}

fn count(p: &mut Parser) -> Parsed<usize> {
    p.number("a count")
}

fn model(p: &mut Parser) -> Parsed<ModelFacts> {
    p.keyword("model")?;
    p.sign('{')?;
    p.newline()?;
    let facts = ModelFacts {
        architecture: field(p, "architecture", architecture)?,
        hidden: field(p, "hidden", count)?,
        layers: field(p, "layers", count)?,
        heads: field(p, "heads", count)?,
        kv_heads: field(p, "kv_heads", count)?,
        head_dim: field(p, "head_dim", count)?,
        intermediate: field(p, "intermediate", count)?,
        vocab: field(p, "vocab", count)?,
        norm_eps: field(p, "norm_eps", |p| p.number("a number"))?,
        positions: field(p, "positions", positions)?,
        activation: field(p, "activation", activation)?,
        tied: field(p, "tied", Parser::boolean)?,
        attention_bias: field(p, "attention_bias", attention_bias)?,
        mlp_bias: field(p, "mlp_bias", Parser::boolean)?,
        bos: field(p, "bos", |p| {
            if p.eat_word("none") {
                Ok(None)
            } else {
                p.number("a token id or `none`").map(Some)
            }
        })?,
        eos: field(p, "eos", |p| p.list(|p| p.number("a token id")))?,
        max_positions: field(p, "max_positions", count)?,
    };
    p.sign('}')?;
    p.newline()?;
    Ok(facts)
}

fn architecture(p: &mut Parser) -> Parsed<Architecture> {
    let found = Architecture::ALL.into_iter().find(|a| p.eat_word(a.name()));
    found.ok_or_else(|| p.error("an architecture: llama or gpt2"))
}

fn activation(p: &mut Parser) -> Parsed<Activation> {
    let found = Activation::ALL.into_iter().find(|a| p.eat_word(a.name()));
    found.ok_or_else(|| p.error("an activation: silu, gelu_tanh or gelu"))
}

fn positions(p: &mut Parser) -> Parsed<Positions> {
    if p.eat_word("learned") {
        return Ok(Positions::Learned);
    }
    if !p.eat_word("rope") {
        return Err(p.error("`learned`, or `rope` with its numbers"));
    }
    p.sign(',')?;
    rope(p).map(Positions::Rotary)
}

fn attention_bias(p: &mut Parser) -> Parsed<AttentionBias> {
    let found = AttentionBias::ALL
        .into_iter()
        .find(|bias| p.eat_word(bias.name()));
    found.ok_or_else(|| p.error("`true`, `qkv` or `false`"))
}

fn rope(p: &mut Parser) -> Parsed<Rope> {
    p.attribute("theta")?;
    let theta = p.number("a number")?;
    let scaling = if p.optional_attribute("scaling")? {
        scaling(p)?
    } else {
        RopeScaling::None
    };
    Ok(Rope { theta, scaling })
}

fn scaling(p: &mut Parser) -> Parsed<RopeScaling> {
    let number = |p: &mut Parser, name: &str| -> Parsed<f64> {
        p.next_attribute(name)?;
        p.number("a number")
    };
    if p.eat_word("linear") {
        return Ok(RopeScaling::Linear {
            factor: number(p, "factor")?,
        });
    }
    if !p.eat_word("llama3") {
        return Err(p.error("a rope scaling: linear, llama3"));
    }
    let factor = number(p, "factor")?;
    let low_freq_factor = number(p, "low_freq_factor")?;
    let high_freq_factor = number(p, "high_freq_factor")?;
    p.next_attribute("original_max_positions")?;
    Ok(RopeScaling::Llama3 {
        factor,
        low_freq_factor,
        high_freq_factor,
        original_max_positions: count(p)?,
    })
}

fn state(p: &mut Parser) -> Parsed<State> {
    p.keyword("state")?;
    let name = p.string("the state's name")?;
    p.next_attribute("kv_heads")?;
    let kv_heads = count(p)?;
    p.next_attribute("head_dim")?;
    let head_dim = count(p)?;
    p.newline()?;
    Ok(State {
        name,
        kv_heads,
        head_dim,
    })
}

fn template(p: &mut Parser, name: &str) -> Parsed<Template> {
    p.keyword("template")?;
    p.keyword(name)?;
    p.sign('(')?;
    let value = value(p)?;
    p.sign(':')?;
    let param = (value, ty(p)?);
    p.sign(')')?;
    p.arrow()?;
    let result = self::value(p)?;
    let insts = p.block(inst)?;
    p.newline()?;
    Ok(Template {
        param,
        insts,
        result,
    })
}

fn value(p: &mut Parser) -> Parsed<Value> {
    p.value().map(Value)
}

/// `, %n`: an operand after the first.
fn next_value(p: &mut Parser) -> Parsed<Value> {
    p.sign(',')?;
    value(p)
}

fn ty(p: &mut Parser) -> Parsed<Type> {
    if p.eat_word("token") {
        return Ok(Type::Token);
    }
    if !p.eat_sign('[') {
        return Err(p.error("a type: `token`, or a width such as [64]"));
    }
    let width = count(p)?;
    p.sign(']')?;
    Ok(Type::Vector(width))
}

fn inst(p: &mut Parser) -> Parsed<Inst> {
    let start = p.clone();
    if p.at_word("kv_append") {
        return Ok(Inst {
            result: None,
            op: op(p)?,
            site: p.site()?,
        });
    }
    let result = value(p).map_err(|_| start.error("a statement: `%n = …` or `kv_append …`"))?;
    p.sign('=')?;
    if p.at_word("kv_append") {
        return Err(p.error("an operation with a result"));
    }
    let op = op(p)?;
    p.sign(':')?;
    Ok(Inst {
        result: Some((result, ty(p)?)),
        op,
        site: p.site()?,
    })
}

fn name(p: &mut Parser, attribute: &str) -> Parsed<String> {
    p.next_attribute(attribute)?;
    p.string("a name")
}

fn op(p: &mut Parser) -> Parsed<Op> {
    let start = p.clone();
    Ok(match p.word("an operation")?.as_str() {
        "embed" => Op::Embed {
            token: value(p)?,
            weight: name(p, "weight")?,
        },
        "position" => Op::Position {
            token: value(p)?,
            weight: name(p, "weight")?,
        },
        "linear" => {
            let (x, weight) = (value(p)?, name(p, "weight")?);
            let bias = if p.optional_attribute("bias")? {
                Some(p.string("a name")?)
            } else {
                None
            };
            Op::Linear { x, weight, bias }
        }
        "rmsnorm" => {
            let (x, weight) = (value(p)?, name(p, "weight")?);
            p.next_attribute("eps")?;
            Op::RmsNorm {
                x,
                weight,
                eps: p.number("a number")?,
            }
        }
        "layernorm" => {
            let x = value(p)?;
            let (weight, bias) = (name(p, "weight")?, name(p, "bias")?);
            p.next_attribute("eps")?;
            Op::LayerNorm {
                x,
                weight,
                bias,
                eps: p.number("a number")?,
            }
        }
        "rope" => {
            let x = value(p)?;
            p.next_attribute("head_dim")?;
            Op::Rope {
                x,
                head_dim: count(p)?,
            }
        }
        "kv_append" => {
            let (k, v) = (value(p)?, next_value(p)?);
            Op::KvAppend {
                state: name(p, "state")?,
                k,
                v,
            }
        }
        "attend" => {
            let (q, state) = (value(p)?, name(p, "state")?);
            p.next_attribute("heads")?;
            let heads = count(p)?;
            p.next_attribute("scale")?;
            Op::Attend {
                q,
                state,
                heads,
                scale: p.number("a number")?,
            }
        }
        "mul" => Op::Mul {
            a: value(p)?,
            b: next_value(p)?,
        },
        "add" => Op::Add {
            a: value(p)?,
            b: next_value(p)?,
        },
        other => {
            let function = Activation::ALL.into_iter().find(|f| f.name() == other);
            let Some(function) = function else {
                return Err(start.error(
                    "an operation: embed, position, linear, rmsnorm, layernorm, rope, kv_append, attend, silu, gelu_tanh, gelu, mul \
                     or add",
                ));
            };
            Op::Activate {
                x: value(p)?,
                function,
            }
        }
    })
}
