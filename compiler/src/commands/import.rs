//! `sottoc import`.

use super::{Failure, print, say_replacing};
use crate::frontend::Checkpoint;
use crate::frontend::onnx::{Import, Site, Unsaid};
use serde_json::json;
use sotto_ir::decoder::{Architecture, Positions};
use std::fmt::Write;
use std::path::PathBuf;

/// Recognize a Llama or GPT-2 decoder in an ONNX graph, and make a checkpoint of it.
///
/// Blocks are recognized by structure and weights by their place, at opsets 18 to 23 (20 and 23 are tested): for whole sequences, or for
/// steps with earlier keys and values. What was recognized is printed; with -o it is also written as a checkpoint directory (f32, exactly), which
/// every other command takes. A graph that holds anything else is refused with the node's name.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 success, 2 the graph is not understood, or damaged.

Examples:
  sottoc import model.onnx
  sottoc import model.onnx --json
  sottoc import model.onnx -o MODEL --tokenizer tokenizer.json --bos 1 --eos 2 --max-positions 4096"
)]
pub struct Args {
    /// The graph; weights in it, or in a file beside it.
    graph: PathBuf,
    /// Write a checkpoint directory.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The model's tokenizer.json, to be copied into the directory.
    #[arg(long, value_name = "FILE", requires = "output")]
    tokenizer: Option<PathBuf>,
    /// Token put before every prompt; a graph does not say [default: none].
    #[arg(long, value_name = "ID")]
    bos: Option<u32>,
    /// Token that ends a text; may be given several times [default: none].
    #[arg(long, value_name = "ID")]
    eos: Vec<u32>,
    /// Longest sequence the model was made for [default: what the graph is fixed to, else 2048]; learned positions say it themselves.
    #[arg(long, value_name = "N")]
    max_positions: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let unsaid = Unsaid {
        bos: args.bos,
        eos: args.eos.clone(),
        max_positions: args.max_positions,
    };
    let import = Import::open(&args.graph, &unsaid)?;
    if let Some(dir) = &args.output {
        say_replacing(&dir.join("config.json"));
        import.write(dir, args.tokenizer.as_deref())?;
        // What was written is read before anybody relies on it.
        Checkpoint::open(dir)?;
    }
    match args.json {
        true => print(format_args!("{:#}\n", machine(&import))),
        false => print(format_args!("{}", text(args, &import))),
    }
}

fn machine(import: &Import) -> serde_json::Value {
    json!({
        "graph": import.about(),
        "model": import.facts(),
        "sites": import.sites(),
    })
}

fn text(args: &Args, import: &Import) -> String {
    let (about, facts) = (import.about(), import.facts());
    let mut out = String::new();
    let form = match (about.with_past, about.fixed_tokens) {
        (true, Some(1)) => "a decode step with earlier keys and values".into(),
        (true, Some(n)) => format!("{n} tokens with earlier keys and values"),
        (true, None) => "any number of tokens with earlier keys and values".into(),
        (false, Some(n)) => format!("a whole sequence of {n} tokens"),
        (false, None) => "whole sequences".into(),
    };
    let family = match facts.architecture {
        Architecture::Llama => "Llama",
        Architecture::Gpt2 => "GPT-2",
    };
    // A table of positions is in the graph, and with it how many there are.
    let (positions, unsaid) = match facts.positions {
        Positions::Learned => (
            format!("learned positions up to {}", facts.max_positions),
            String::new(),
        ),
        Positions::Rotary(_) => (
            format!("positions by {}", facts.positions),
            format!("up to {} positions, ", facts.max_positions),
        ),
    };
    let lines = [
        format!(
            "{}: a {family} decoder; {form}; opset {}, {} nodes, by {}",
            args.graph.display(),
            about.opset,
            about.nodes,
            about.producer
        ),
        format!(
            "  {} layers, hidden {}, {} heads on {} key and value heads of {}, MLP {}, vocabulary {}",
            facts.layers,
            facts.hidden,
            facts.heads,
            facts.kv_heads,
            facts.head_dim,
            facts.intermediate,
            facts.vocab
        ),
        format!(
            "  norms' eps {:e}, {positions}, activation {}, attention biases {}, MLP biases {}, {} head",
            facts.norm_eps,
            facts.activation.name(),
            facts.attention_bias.name(),
            facts.mlp_bias,
            if facts.tied { "tied" } else { "untied" }
        ),
        format!(
            "  taken as given, not in the graph: {unsaid}BOS {}, end {:?}",
            facts.bos.map_or("none".into(), |id| id.to_string()),
            facts.eos
        ),
    ];
    for line in lines {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{line}");
    }
    if !about.assumed_inputs.is_empty() {
        let inputs = about.assumed_inputs.join(", ");
        let _ = writeln!(
            out,
            "  inputs taken to hide nothing and to count up: {inputs}"
        );
    }
    for site in import.sites() {
        line(&mut out, &site);
    }
    if let Some(dir) = &args.output {
        let _ = writeln!(out, "written to {}", dir.display());
    }
    out
}

fn line(out: &mut String, site: &Site) {
    for (i, tensor) in site.tensors.iter().enumerate() {
        let (name, op) = match i {
            0 => (site.site.as_str(), site.op),
            _ => ("", ""),
        };
        let shape = format!("{:?}", tensor.shape);
        let _ = writeln!(out, "  {name:32} {op:9} {shape:14} {}", tensor.initializer);
    }
}
