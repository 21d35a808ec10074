//! ONNX graphs of Llama decoders, as PyTorch's exporter writes them, to the same stage and weights that a checkpoint gives.
//!
//! | step | module |
//! |---|---|
//! | the file to a graph of our own | `proto`, `graph` |
//! | what the graph leaves open is bound to small sizes, and it is evaluated: constants are computed, activations are told by which feature of which term each entry is | `eval`, `fold`, `moves`, `value` |
//! | what operations make of activations: norms, projections, rotary embedding, attention | `rules`, `rotary`, `attention` |
//! | blocks, from the logits back to the token ids | `llama` |
//! | rotary frequencies to theta and scaling | `frequencies` |
//! | a checkpoint directory, from which everything goes on as usual | `write` |
//!
//! Nothing is concluded from names: exporters lose them, fold transposes into weights and merge equal tensors. A graph is
//! evaluated at two sizes and must mean the same at both. Whatever is not understood is refused with the node, and what would
//! have been right there: an importer that guesses compiles another model.

mod array;
mod attention;
mod call;
mod error;
mod eval;
mod fold;
mod frequencies;
mod graph;
mod llama;
mod moves;
mod proto;
mod rotary;
mod rules;
mod value;
mod write;

pub use error::{OnnxError, Place};

use super::llama as names;
use super::stage;
use array::Array;
use eval::{Evaluation, SIZES};
use graph::Graph;
use llama::{Llama, Projection};
use sotto_ir::Digest;
use sotto_ir::decoder::{
    Activation, Architecture, AttentionBias, Decoder, ModelFacts, Positions, Tensor, WeightError,
    WeightSource, check_rows, instantiate,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use value::Weight;

/// Longest sequence of a model that is made for any, unless told otherwise: the transformers library's default for Llama.
const POSITIONS: usize = 2048;

/// What a graph does not say.
#[derive(Clone, Debug, Default)]
pub struct Unsaid {
    /// Token put before every prompt.
    pub bos: Option<u32>,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// Longest sequence the model was made for, in tokens [default: what the graph is fixed to, else 2048].
    pub max_positions: Option<usize>,
}

/// A graph that was recognized.
pub struct Import {
    path: PathBuf,
    facts: ModelFacts,
    tensors: BTreeMap<String, Weight>,
    about: About,
}

/// What is known of the file itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct About {
    /// Version of ONNX's operations.
    pub opset: i64,
    /// Who wrote it.
    pub producer: String,
    /// Operations.
    pub nodes: usize,
    /// Whether it takes keys and values of earlier tokens.
    pub with_past: bool,
    /// How many tokens it takes at once, if that is fixed.
    pub fixed_tokens: Option<usize>,
    /// Inputs that were taken to be what they must be here: a mask of ones, positions in order.
    pub assumed_inputs: Vec<String>,
}

/// A tensor of the model and where in the file it is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// By the checkpoint's naming.
    pub name: String,
    /// Extents.
    pub shape: Vec<usize>,
    /// Its name in the file.
    pub initializer: String,
}

/// A statement of the decoder that has tensors.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Site {
    /// Where in the model.
    pub site: String,
    /// What it does.
    pub op: &'static str,
    /// Its tensors.
    pub tensors: Vec<Found>,
}

impl Import {
    /// Reads and recognizes the graph in the file at `path`.
    ///
    /// # Errors
    /// Whatever is damaged, missing or not understood, with the node or tensor and what was expected of it.
    pub fn open(path: &Path, unsaid: &Unsaid) -> Result<Self, OnnxError> {
        let graph = proto::read(path)?;
        let [first, second] = SIZES;
        let evaluation = eval::evaluate(&graph, path, first, None)?;
        let llama = recognize(&graph, path, &evaluation)?;
        let again = eval::evaluate(&graph, path, second, Some(&llama.frequencies))?;
        if recognize(&graph, path, &again)? != llama {
            return Err(OnnxError::Model {
                path: path.into(),
                found: "it computes one model for some numbers of tokens and another for others"
                    .into(),
                remedy: "export it with dynamic numbers of tokens".into(),
            });
        }
        let facts = facts(path, &llama, &evaluation, unsaid)?;
        let import = Self {
            path: path.into(),
            tensors: tensors(&facts, llama),
            facts,
            about: About {
                opset: graph.opset,
                producer: graph.producer,
                nodes: graph.nodes.len(),
                with_past: evaluation.has_past,
                fixed_tokens: evaluation.fixed_tokens,
                assumed_inputs: evaluation.assumed,
            },
        };
        import.check()?;
        Ok(import)
    }

    /// The model's sizes and constants.
    pub fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    /// What is known of the file.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Everything with tensors, in the order of use.
    pub fn sites(&self) -> Vec<Site> {
        let stage = stage(&self.facts, Digest([0; 32]));
        let of = |template: &sotto_ir::decoder::Template, layer: Option<usize>| {
            let named = |text: &str| layer.map_or(text.into(), |layer| instantiate(text, layer));
            let found = |name: &str| {
                let name = named(name);
                let weight = self.tensors.get(&name)?;
                let (shape, initializer) = (weight.shape(), weight.name().into());
                Some(Found {
                    name,
                    shape,
                    initializer,
                })
            };
            let sites = template.insts.iter().map(|inst| Site {
                site: named(&inst.site),
                op: inst.op.mnemonic(),
                tensors: inst.op.tensors().into_iter().filter_map(found).collect(),
            });
            sites
                .filter(|site| !site.tensors.is_empty())
                .collect::<Vec<_>>()
        };
        let layers = (0..self.facts.layers).flat_map(|layer| of(&stage.layer, Some(layer)));
        let (embed, last) = (of(&stage.embed, None), of(&stage.final_, None));
        embed.into_iter().chain(layers).chain(last).collect()
    }

    /// The `decoder` stage, its digest over the stage's text and every tensor the model reads (name, f32 content, in order).
    ///
    /// # Errors
    /// A tensor that does not read.
    pub fn decoder(&self) -> Result<Decoder, OnnxError> {
        let draft = stage(&self.facts, Digest([0; 32]));
        let mut hash = blake3::Hasher::new_derive_key("sotto import 1");
        hash.update(draft.to_string().as_bytes());
        for name in self.tensors.keys() {
            hash.update(name.as_bytes());
            for x in self.read(name)?.data {
                hash.update(&x.to_le_bytes());
            }
        }
        Ok(stage(&self.facts, Digest(*hash.finalize().as_bytes())))
    }

    /// Sees that the stage holds and that every tensor has its shape.
    fn check(&self) -> Result<(), OnnxError> {
        let refuse = |found: String| OnnxError::Model {
            path: self.path.clone(),
            found,
            remedy: "export the model again".into(),
        };
        let stage = stage(&self.facts, Digest([0; 32]));
        stage.verify().map_err(|violations| {
            refuse(format!("what it computes is no decoder: {violations}"))
        })?;
        for (name, expected) in stage.tensors() {
            let shape = self.tensors.get(&name).map(Weight::shape);
            if shape.as_ref() != Some(&expected) {
                return Err(refuse(format!(
                    "what should be `{name}` has shape {shape:?}, the rest of the model needs {expected:?}"
                )));
            }
        }
        Ok(())
    }

    /// A tensor's content; an f32 holds every entry exactly.
    fn read(&self, name: &str) -> Result<Tensor, OnnxError> {
        let Some(weight) = self.tensors.get(name) else {
            return Err(OnnxError::Model {
                path: self.path.clone(),
                found: format!("there is no tensor `{name}`"),
                remedy: "export the model again".into(),
            });
        };
        let Array { shape, data } = weight.load(&self.path)?;
        let exact = |&x: &f64| (x.is_finite() && f64::from(x as f32) == x).then_some(x as f32);
        match data.iter().map(exact).collect() {
            Some(data) => Ok(Tensor { shape, data }),
            None => Err(OnnxError::Initializer {
                path: self.path.clone(),
                name: weight.name().into(),
                cause: format!("(`{name}`) holds entries that no f32 is equal to"),
                remedy: "export the model in float32, and check that its weights are finite",
            }),
        }
    }
}

impl WeightSource for Import {
    fn shape(&self, name: &str) -> Result<Vec<usize>, WeightError> {
        let weight = self.tensors.get(name).ok_or_else(|| WeightError::Missing {
            name: name.into(),
            hint: String::new(),
        })?;
        Ok(weight.shape())
    }

    fn tensor(&self, name: &str) -> Result<Arc<Tensor>, WeightError> {
        let read = self.read(name).map_err(|source| WeightError::Read {
            name: name.into(),
            source: Box::new(source),
        })?;
        Ok(read.into())
    }

    fn rows(&self, name: &str, rows: Range<usize>) -> Result<Tensor, WeightError> {
        check_rows(name, &WeightSource::shape(self, name)?, &rows)?;
        Ok(self.tensor(name)?.slice(rows))
    }
}

fn recognize(graph: &Graph, path: &Path, evaluation: &Evaluation) -> Result<Llama, OnnxError> {
    let found = llama::recognize(&evaluation.terms, evaluation.logits);
    found.map_err(|refusal| match refusal.error {
        Some(error) => *error,
        None => OnnxError::Node {
            path: path.into(),
            place: eval::place(graph, refusal.blame.unwrap_or_default()).into(),
            found: refusal.found,
            expected: refusal.expected,
        },
    })
}

fn facts(
    path: &Path,
    llama: &Llama,
    evaluation: &Evaluation,
    unsaid: &Unsaid,
) -> Result<ModelFacts, OnnxError> {
    let Some(rope) = frequencies::explain(&llama.frequencies) else {
        return Err(OnnxError::Model {
            path: path.into(),
            found: format!("its rotary frequencies are {:?}", llama.frequencies),
            remedy: "known are powers of one base, all divided by a factor (linear), or scaled as Llama 3's".into(),
        });
    };
    let (vocab, hidden) = match llama.embedding.shape()[..] {
        [vocab, hidden] => (vocab, hidden),
        _ => (0, 0),
    };
    let layer = llama.layers.first();
    let has =
        |of: fn(&llama::Layer) -> &Projection| layer.is_some_and(|layer| of(layer).bias.is_some());
    // A graph of fixed size says how long its sequences are; with a past it says nothing.
    let fixed = evaluation.fixed_tokens.filter(|_| !evaluation.has_past);
    Ok(ModelFacts {
        architecture: Architecture::Llama,
        hidden,
        layers: llama.layers.len(),
        heads: llama.heads,
        kv_heads: llama.kv_heads,
        head_dim: llama.head_dim,
        intermediate: layer.map_or(0, |layer| layer.gate.weight.shape()[0]),
        vocab,
        norm_eps: llama.eps,
        positions: Positions::Rotary(rope),
        activation: Activation::Silu,
        tied: tied(path, llama)?,
        attention_bias: match (has(|layer| &layer.q), has(|layer| &layer.o)) {
            (false, _) => AttentionBias::None,
            (true, false) => AttentionBias::Qkv,
            (true, true) => AttentionBias::All,
        },
        mlp_bias: has(|layer| &layer.gate),
        bos: unsaid.bos,
        eos: unsaid.eos.clone(),
        max_positions: unsaid.max_positions.or(fixed).unwrap_or(POSITIONS),
    })
}

/// Whether head and embedding are one table: exporters store it twice, once transposed.
fn tied(path: &Path, llama: &Llama) -> Result<bool, OnnxError> {
    let (table, head) = (&llama.embedding, &llama.head);
    if table.shape() != head.shape() {
        return Ok(false);
    }
    table.same(head, path)
}

/// Every tensor by the checkpoint's naming.
fn tensors(facts: &ModelFacts, llama: Llama) -> BTreeMap<String, Weight> {
    let mut tensors = BTreeMap::from([
        (names::EMBEDDING.into(), llama.embedding),
        ("model.norm.weight".into(), llama.final_norm),
    ]);
    if !facts.tied {
        tensors.insert(names::HEAD.into(), llama.head);
    }
    for (i, layer) in llama.layers.into_iter().enumerate() {
        let projections = [
            ("self_attn.q_proj", layer.q),
            ("self_attn.k_proj", layer.k),
            ("self_attn.v_proj", layer.v),
            ("self_attn.o_proj", layer.o),
            ("mlp.gate_proj", layer.gate),
            ("mlp.up_proj", layer.up),
            ("mlp.down_proj", layer.down),
        ];
        let norms = [
            ("input_layernorm", layer.attention_norm),
            ("post_attention_layernorm", layer.mlp_norm),
        ];
        for (module, Projection { weight, bias }) in projections {
            tensors.insert(format!("model.layers.{i}.{module}.weight"), weight);
            tensors.extend(bias.map(|bias| (format!("model.layers.{i}.{module}.bias"), bias)));
        }
        for (module, weight) in norms {
            tensors.insert(format!("model.layers.{i}.{module}.weight"), weight);
        }
    }
    tensors
}
