//! ONNX exports to change.

use super::fixture;
use onnx_protobuf::{Message, ModelProto, NodeProto, TensorProto};
use sotto_compiler::frontend::onnx::{Import, OnnxError, Unsaid};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A directory to put changed graphs into, beside the weights they share.
pub struct Bench {
    pub dir: tempfile::TempDir,
}

impl Bench {
    /// With the weights of the Llama and of the GPT-2.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for weights in ["llama-gqa.weights", "gpt2.weights"] {
            std::fs::copy(fixture("onnx").join(weights), dir.path().join(weights)).unwrap();
        }
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("graph.onnx")
    }

    /// Imports a graph by its bytes.
    pub fn import(&self, bytes: &[u8]) -> Result<Import, OnnxError> {
        std::fs::write(self.path(), bytes).unwrap();
        Import::open(&self.path(), &Unsaid::default())
    }

    /// The error of a changed graph.
    pub fn refusal(&self, name: &str, change: impl FnOnce(&mut ModelProto)) -> String {
        let mut model = graph(name);
        change(&mut model);
        let imported = self.import(&model.write_to_bytes().unwrap());
        imported.err().expect("refused").to_string()
    }
}

/// The file of an export.
pub fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture("onnx").join(format!("{name}.onnx"))).unwrap()
}

/// An export to change.
pub fn graph(name: &str) -> ModelProto {
    ModelProto::parse_from_bytes(&bytes(name)).unwrap()
}

/// Its node of this name.
pub fn node<'m>(model: &'m mut ModelProto, name: &str) -> &'m mut NodeProto {
    let nodes = &mut model.graph.as_mut().unwrap().node;
    nodes.iter_mut().find(|node| node.name == name).unwrap()
}

/// Its initializer of this name.
pub fn initializer<'m>(model: &'m mut ModelProto, name: &str) -> &'m mut TensorProto {
    let tensors = &mut model.graph.as_mut().unwrap().initializer;
    tensors
        .iter_mut()
        .find(|tensor| tensor.name == name)
        .unwrap()
}

/// Puts an operation behind the node at `at`: whoever read its first output now reads the operation's.
pub fn insert(model: &mut ModelProto, at: usize, op: &str, domain: &str) {
    let graph = model.graph.as_mut().unwrap();
    let value = graph.node[at].output[0].clone();
    let foreign = NodeProto {
        name: "the_foreign_one".into(),
        op_type: op.into(),
        domain: domain.into(),
        input: vec![value.clone()],
        output: vec!["foreign".into()],
        ..Default::default()
    };
    for node in &mut graph.node[at + 1..] {
        for input in node.input.iter_mut().filter(|input| **input == value) {
            *input = "foreign".into();
        }
    }
    for output in graph
        .output
        .iter_mut()
        .filter(|output| output.name == value)
    {
        output.name = "foreign".into();
    }
    graph.node.insert(at + 1, foreign);
}

/// How many nodes have a result that somebody reads.
pub fn places(name: &str) -> Vec<usize> {
    let graph = graph(name).graph.unwrap();
    let read: BTreeSet<&String> = graph
        .node
        .iter()
        .flat_map(|node| &node.input)
        .chain(graph.output.iter().map(|output| &output.name))
        .collect();
    (0..graph.node.len())
        .filter(|&at| read.contains(&graph.node[at].output[0]))
        .collect()
}
