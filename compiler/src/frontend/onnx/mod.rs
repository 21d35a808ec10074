//! ONNX graphs of Llama and GPT-2 decoders, as PyTorch's exporter writes them, to the same stage and weights that a checkpoint gives.
//!
//! | step | module |
//! |---|---|
//! | the file to a graph of our own | `proto`, `graph` |
//! | what the graph leaves open is bound to small sizes, and it is evaluated: constants are computed, activations are told by which feature of which term each entry is | `eval`, `fold`, `moves`, `value`, `weight` |
//! | what operations make of activations: norms, projections, positions, attention, activations | `rules`, `norm`, `rotary`, `attention`, `activation` |
//! | blocks, from the logits back to the token ids | `blocks`, `llama`, `gpt2` |
//! | facts, and tensors by the checkpoint's naming | `model` |
//! | rotary frequencies to theta and scaling | `frequencies` |
//! | a checkpoint directory, from which everything goes on as usual | `write` |
//!
//! Nothing is concluded from names: exporters lose them, fold transposes into weights and merge equal tensors. A graph is
//! evaluated at two sizes and must mean the same at both. Whatever is not understood is refused with the node, and what would
//! have been right there: an importer that guesses compiles another model.

mod activation;
mod array;
mod attention;
mod blocks;
mod call;
mod error;
mod eval;
mod fold;
mod frequencies;
mod gpt2;
mod graph;
mod llama;
mod model;
mod moves;
mod norm;
mod proto;
mod rotary;
mod rules;
mod value;
mod weight;
mod words;
mod write;

pub use error::{OnnxError, Place};

use super::store::View;
use super::{stage, views};
use array::Array;
use eval::{Evaluation, SIZES};
use graph::Graph;
use model::Model;
use sotto_ir::Digest;
use sotto_ir::decoder::{
    Decoder, ModelFacts, Tensor, WeightError, WeightSource, check_rows, instantiate,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weight::Weight;

/// What a graph does not say.
#[derive(Clone, Debug, Default)]
pub struct Unsaid {
    /// Token put before every prompt.
    pub bos: Option<u32>,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// Longest sequence the model was made for, in tokens [default: what the graph is fixed to, else 2048]. A table of learned
    /// positions says it by its rows; then anything else is refused.
    pub max_positions: Option<usize>,
}

/// A graph that was recognized.
pub struct Import {
    path: PathBuf,
    facts: ModelFacts,
    /// By the checkpoint's naming, as checkpoints store them.
    tensors: BTreeMap<String, Weight>,
    /// Those of the stage's tensors that checkpoints store otherwise.
    views: BTreeMap<String, View>,
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
        let model = recognize(&graph, path, &evaluation)?;
        let again = eval::evaluate(&graph, path, second, model.frequencies())?;
        if recognize(&graph, path, &again)? != model {
            return Err(OnnxError::Model {
                path: path.into(),
                found: "it computes one model for some numbers of tokens and another for others"
                    .into(),
                remedy: "export it with dynamic numbers of tokens".into(),
            });
        }
        let facts = model.facts(path, &evaluation, unsaid)?;
        let import = Self {
            path: path.into(),
            tensors: model.tensors(&facts),
            views: views(&facts).into_iter().collect(),
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
                Some(Found {
                    shape: self.shape_of(&name)?,
                    initializer: self.tensors.get(self.origin(&name))?.name().into(),
                    name,
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
            let shape = self.shape_of(&name);
            if shape.as_ref() != Some(&expected) {
                return Err(refuse(format!(
                    "what should be `{name}` has shape {shape:?}, the rest of the model needs {expected:?}"
                )));
            }
        }
        Ok(())
    }

    /// The name of the stored tensor that one of the stage's is or is a view of.
    fn origin<'n>(&'n self, name: &'n str) -> &'n str {
        self.views.get(name).map_or(name, |view| &view.tensor)
    }

    /// Extents of one of the stage's tensors.
    fn shape_of(&self, name: &str) -> Option<Vec<usize>> {
        let stored = self.tensors.get(self.origin(name))?.shape();
        Some(match self.views.get(name) {
            Some(view) => view.shape(&stored),
            None => stored,
        })
    }

    /// One of the stage's tensors.
    fn viewed(&self, name: &str) -> Result<Tensor, OnnxError> {
        let Some(view) = self.views.get(name) else {
            return self.read(name);
        };
        let Tensor { shape, data } = self.read(&view.tensor)?;
        let rows = 0..view.shape(&shape).first().copied().unwrap_or(0);
        let outputs = view.outputs(&shape, rows);
        let all = match (view.transposed, &shape[..]) {
            (true, &[inputs, width]) => Tensor {
                shape: vec![width, inputs],
                data: (0..data.len())
                    .map(|i| data[i % inputs * width + i / inputs])
                    .collect(),
            },
            _ => Tensor { shape, data },
        };
        Ok(all.slice(outputs))
    }

    /// A stored tensor's content; an f32 holds every entry exactly.
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
        self.shape_of(name).ok_or_else(|| WeightError::Missing {
            name: name.into(),
            hint: String::new(),
        })
    }

    fn tensor(&self, name: &str) -> Result<Arc<Tensor>, WeightError> {
        let read = self.viewed(name).map_err(|source| WeightError::Read {
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

fn recognize(graph: &Graph, path: &Path, evaluation: &Evaluation) -> Result<Model, OnnxError> {
    let found = Model::recognize(&evaluation.terms, evaluation.logits);
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
