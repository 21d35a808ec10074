//! The door: bytes of an ONNX file to a [`Graph`]. Nothing behind it knows the file format.

use super::error::OnnxError;
use super::graph::{Attribute, Content, Format, Graph, Node, Port, Stored};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_proto::DataLocation;
use onnx_protobuf::tensor_shape_proto::dimension;
use onnx_protobuf::type_proto::Value as TypeValue;
use onnx_protobuf::{
    AttributeProto, GraphProto, Message, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Versions of ONNX's operations whose meaning is known here.
const OPSETS: std::ops::RangeInclusive<i64> = 18..=23;

/// Reads the file at `path`.
pub(super) fn read(path: &Path) -> Result<Graph, OnnxError> {
    let bytes = std::fs::read(path).map_err(|source| OnnxError::Io {
        path: path.into(),
        source,
    })?;
    let model = ModelProto::parse_from_bytes(&bytes).map_err(|cause| OnnxError::Parse {
        path: path.into(),
        cause: cause.to_string(),
    })?;
    drop(bytes);
    Door { path }.model(model)
}

struct Door<'p> {
    path: &'p Path,
}

impl Door<'_> {
    fn refuse(&self, found: impl Into<String>, remedy: impl Into<String>) -> OnnxError {
        OnnxError::Model {
            path: self.path.into(),
            found: found.into(),
            remedy: remedy.into(),
        }
    }

    fn initializer(&self, name: &str, cause: impl Into<String>, remedy: &'static str) -> OnnxError {
        OnnxError::Initializer {
            path: self.path.into(),
            name: name.into(),
            cause: cause.into(),
            remedy,
        }
    }

    fn model(&self, mut model: ModelProto) -> Result<Graph, OnnxError> {
        let Some(graph) = model.graph.take() else {
            return Err(OnnxError::Parse {
                path: self.path.into(),
                cause: "there is no graph in it".into(),
            });
        };
        let own = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let opset = model.opset_import.iter().find(|set| own(&set.domain));
        let opset = opset.map_or(0, |set| set.version);
        if !OPSETS.contains(&opset) {
            return Err(self.refuse(
                format!("its operations are of opset {opset}"),
                "read are 18 to 23; export with opset 20 or 23",
            ));
        }
        if let Some(function) = model.functions.first() {
            return Err(self.refuse(
                format!("it defines the function `{}`", function.name),
                "inline functions first (onnx.inliner.inline_local_functions)",
            ));
        }
        if !graph.sparse_initializer.is_empty() {
            return Err(self.refuse("it has sparse initializers", "store tensors densely"));
        }
        let producer = format!("{} {}", model.producer_name, model.producer_version);
        self.graph(graph, opset, producer.trim().into())
    }

    fn graph(&self, graph: GraphProto, opset: i64, producer: String) -> Result<Graph, OnnxError> {
        let mut initializers = BTreeMap::new();
        for tensor in graph.initializer {
            let stored = self.tensor(tensor)?;
            let name = stored.name.clone();
            if initializers
                .insert(name.clone(), Arc::new(stored))
                .is_some()
            {
                return Err(self.initializer(&name, "is there twice", "export the model again"));
            }
        }
        let nodes = graph.node.into_iter().map(|node| self.node(node));
        Ok(Graph {
            opset,
            producer,
            nodes: nodes.collect::<Result<_, _>>()?,
            inputs: graph
                .input
                .iter()
                .filter(|input| !initializers.contains_key(&input.name))
                .map(port)
                .collect(),
            outputs: graph.output.into_iter().map(|output| output.name).collect(),
            initializers,
        })
    }

    fn node(&self, node: NodeProto) -> Result<Node, OnnxError> {
        let mut attributes = BTreeMap::new();
        for attribute in node.attribute {
            let name = attribute.name.clone();
            attributes.insert(name, self.attribute(attribute)?);
        }
        let own = node.domain.is_empty() || node.domain == "ai.onnx";
        Ok(Node {
            name: node.name,
            op: match own {
                true => node.op_type,
                false => format!("{}.{}", node.domain, node.op_type),
            },
            inputs: node.input,
            outputs: node.output,
            attributes,
        })
    }

    fn attribute(&self, mut attribute: AttributeProto) -> Result<Attribute, OnnxError> {
        Ok(match attribute.type_.enum_value() {
            Ok(AttributeType::INT) => Attribute::Int(attribute.i),
            Ok(AttributeType::FLOAT) => Attribute::Float(attribute.f),
            Ok(AttributeType::STRING) => {
                Attribute::Text(String::from_utf8_lossy(&attribute.s).into_owned())
            }
            Ok(AttributeType::INTS) => Attribute::Ints(attribute.ints),
            Ok(AttributeType::FLOATS) => Attribute::Floats(attribute.floats),
            Ok(AttributeType::TENSOR) => match attribute.t.take() {
                Some(tensor) => Attribute::Tensor(Arc::new(self.tensor(tensor)?)),
                None => Attribute::Other,
            },
            _ => Attribute::Other,
        })
    }

    fn tensor(&self, mut tensor: TensorProto) -> Result<Stored, OnnxError> {
        let name = std::mem::take(&mut tensor.name);
        let format = Format::numbered(tensor.data_type);
        let Some(each) = format.bytes() else {
            return Err(self.initializer(
                &name,
                format!("is stored in ONNX format {}", tensor.data_type),
                "read are FLOAT, FLOAT16, BFLOAT16, DOUBLE, INT64, INT32, BOOL: export it unquantized",
            ));
        };
        let extents = tensor.dims.iter().map(|&n| usize::try_from(n).ok());
        let shape: Option<Vec<usize>> = extents.collect();
        let size = shape.as_ref().and_then(|shape| {
            shape
                .iter()
                .try_fold(each, |bytes, &n| bytes.checked_mul(n))
        });
        let (Some(shape), Some(size)) = (shape, size) else {
            let cause = format!("has the impossible shape {:?}", tensor.dims);
            return Err(self.initializer(&name, cause, "export the model again"));
        };
        let external = tensor.data_location.enum_value() == Ok(DataLocation::EXTERNAL);
        let content = match external {
            true => self.external(&name, &tensor, size)?,
            false => Content::Bytes(bytes(&mut tensor, format)),
        };
        if let Content::Bytes(bytes) = &content
            && bytes.len() != size
        {
            let cause = format!(
                "has {} bytes, its shape {shape:?} needs {size}",
                bytes.len()
            );
            return Err(self.initializer(&name, cause, "the file is damaged: export it again"));
        }
        Ok(Stored {
            name,
            format,
            shape,
            content,
        })
    }

    /// Data in a file beside the model.
    fn external(
        &self,
        name: &str,
        tensor: &TensorProto,
        size: usize,
    ) -> Result<Content, OnnxError> {
        let entry = |key: &str| {
            let found = tensor.external_data.iter().find(|entry| entry.key == key);
            found.map(|entry| entry.value.as_str())
        };
        let wrong = |cause: String| {
            self.initializer(
                name,
                cause,
                "keep the data file beside the model, as exported",
            )
        };
        let file = entry("location").unwrap_or_default();
        // A model must not make us read any file there is.
        if Path::new(file).file_name().is_none_or(|part| part != file) {
            return Err(wrong(format!(
                "is placed in \"{file}\", which is no file name"
            )));
        }
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(wrong(format!(
                    "has the {key} \"{text}\", which is no number"
                ))),
            },
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        if length.is_some_and(|length| length != size as u64) {
            let length = length.unwrap_or_default();
            return Err(wrong(format!(
                "has {length} bytes in \"{file}\", its shape needs {size}"
            )));
        }
        let path: PathBuf = self.path.with_file_name(file);
        let there = std::fs::metadata(&path)
            .map_err(|cause| wrong(format!("is in {}: {cause}", path.display())))?
            .len();
        if offset
            .checked_add(size as u64)
            .is_none_or(|end| end > there)
        {
            return Err(wrong(format!(
                "is in {}, which has only {there} bytes",
                path.display()
            )));
        }
        Ok(Content::File {
            path,
            offset,
            length: size,
        })
    }
}

/// The numbers of a tensor as bytes, whichever field they are in.
fn bytes(tensor: &mut TensorProto, format: Format) -> Vec<u8> {
    if !tensor.raw_data.is_empty() {
        return std::mem::take(&mut tensor.raw_data);
    }
    let small = tensor.int32_data.iter();
    match format {
        Format::F32 => flat(tensor.float_data.iter().map(|x| x.to_le_bytes())),
        Format::F64 => flat(tensor.double_data.iter().map(|x| x.to_le_bytes())),
        Format::I64 => flat(tensor.int64_data.iter().map(|x| x.to_le_bytes())),
        Format::I32 => flat(small.map(|x| x.to_le_bytes())),
        // Two bytes or one of the four, by the standard.
        Format::F16 | Format::Bf16 => flat(small.map(|&x| (x as u16).to_le_bytes())),
        Format::Bool | Format::Other(_) => small.map(|&x| x as u8).collect(),
    }
}

fn flat<const N: usize>(words: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    words.flatten().collect()
}

fn port(info: &ValueInfoProto) -> Port {
    let tensor = match info.type_.as_ref().and_then(|kind| kind.value.as_ref()) {
        Some(TypeValue::TensorType(tensor)) => Some(tensor),
        _ => None,
    };
    let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
    let extents = shape.map(|shape| {
        let extent = |dim: &onnx_protobuf::tensor_shape_proto::Dimension| match dim.value {
            Some(dimension::Value::DimValue(n)) => usize::try_from(n).ok(),
            _ => None,
        };
        shape.dim.iter().map(extent).collect()
    });
    Port {
        name: info.name.clone(),
        format: Format::numbered(tensor.map_or(0, |tensor| tensor.elem_type)),
        shape: extents,
    }
}
