//! Tensors in safetensors files, one or several, by name.

use super::FrontendError;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;
use sotto_ir::decoder::{Tensor, WeightError};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// A header longer than this is damage, not a model: 100 MB, the limit of the safetensors library.
const HEADER_LIMIT: u64 = 100_000_000;

/// The checkpoint's files with every tensor's place.
pub(super) struct Store {
    /// Where the tensors are listed: the index, or the only file.
    listing: PathBuf,
    shards: Vec<Shard>,
    tensors: HashMap<String, Entry>,
}

struct Shard {
    path: PathBuf,
    file: Mutex<File>,
    /// Where tensor data start in the file.
    data_start: u64,
}

struct Entry {
    shard: usize,
    info: TensorInfo,
    /// The content, once somebody asked for it.
    content: OnceLock<Tensor>,
}

#[derive(Deserialize)]
struct Index {
    /// Tensor name to file name; sorted, so that errors do not depend on the run.
    weight_map: BTreeMap<String, String>,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> FrontendError {
    let path = path.to_path_buf();
    move |source| FrontendError::Io { path, source }
}

impl Store {
    /// Reads the headers of the checkpoint's files.
    pub(super) fn open(dir: &Path) -> Result<Self, FrontendError> {
        let (single, index) = (dir.join(SINGLE), dir.join(INDEX));
        if index.is_file() {
            return Self::open_sharded(dir, index);
        }
        if single.is_file() {
            let mut store = Self {
                listing: single.clone(),
                shards: Vec::new(),
                tensors: HashMap::new(),
            };
            let infos = store.add(single)?;
            store.tensors.extend(
                infos
                    .into_iter()
                    .map(|(name, info)| (name, Entry::new(0, info))),
            );
            return Ok(store);
        }
        let pytorch = dir.join("pytorch_model.bin").is_file()
            || dir.join("pytorch_model.bin.index.json").is_file();
        let remedy = if pytorch {
            "there are PyTorch .bin files: convert them (save_pretrained with safe_serialization=True)"
        } else {
            "name the directory that holds config.json and the weights"
        };
        Err(FrontendError::NoWeights {
            dir: dir.into(),
            remedy,
        })
    }

    fn open_sharded(dir: &Path, listing: PathBuf) -> Result<Self, FrontendError> {
        let text = std::fs::read(&listing).map_err(io(&listing))?;
        let index: Index = serde_json::from_slice(&text).map_err(|source| FrontendError::Json {
            path: listing.clone(),
            source,
        })?;
        let mut store = Self {
            listing,
            shards: Vec::new(),
            tensors: HashMap::new(),
        };
        let mut opened: HashMap<String, (usize, HashMap<String, TensorInfo>)> = HashMap::new();
        for (tensor, shard) in index.weight_map {
            if !opened.contains_key(&shard) {
                let path = store.shard_path(dir, &tensor, &shard)?;
                let number = store.shards.len();
                opened.insert(shard.clone(), (number, store.add(path)?));
            }
            let (number, infos) = &opened[&shard];
            let Some(info) = infos.get(&tensor) else {
                let remedy = format!(
                    "{} places it there: fetch both again",
                    store.listing.display()
                );
                let path = store.shards[*number].path.clone();
                return Err(FrontendError::MissingTensor {
                    path,
                    name: tensor,
                    remedy,
                });
            };
            let entry = Entry::new(*number, info.clone());
            store.tensors.insert(tensor, entry);
        }
        Ok(store)
    }

    fn shard_path(&self, dir: &Path, tensor: &str, shard: &str) -> Result<PathBuf, FrontendError> {
        if Path::new(shard)
            .file_name()
            .is_none_or(|name| name != shard)
        {
            return Err(FrontendError::ShardName {
                index: self.listing.clone(),
                tensor: tensor.into(),
                shard: shard.into(),
            });
        }
        let path = dir.join(shard);
        if !path.is_file() {
            return Err(FrontendError::MissingShard {
                index: self.listing.clone(),
                tensor: tensor.into(),
                shard: path,
            });
        }
        Ok(path)
    }

    /// Opens a file, checks header and length, and adds it as the last shard; returns its tensors.
    fn add(&mut self, path: PathBuf) -> Result<HashMap<String, TensorInfo>, FrontendError> {
        let mut file = File::open(&path).map_err(io(&path))?;
        let actual = file.metadata().map_err(io(&path))?.len();
        let header = |cause: String| FrontendError::Header {
            path: path.clone(),
            cause,
        };
        let mut length = [0; 8];
        file.read_exact(&mut length)
            .map_err(|_| header(format!("it has only {actual} bytes")))?;
        let length = u64::from_le_bytes(length);
        if length > HEADER_LIMIT {
            return Err(header(format!("its header claims {length} bytes")));
        }
        let data_start = 8 + length;
        if data_start > actual {
            return Err(FrontendError::Length {
                path,
                expected: data_start,
                actual,
            });
        }
        let mut text = vec![0; length as usize];
        file.read_exact(&mut text).map_err(io(&path))?;
        let metadata: Metadata =
            serde_json::from_slice(&text).map_err(|e| header(e.to_string()))?;
        let expected = data_start + metadata.data_len() as u64;
        if expected != actual {
            return Err(FrontendError::Length {
                path,
                expected,
                actual,
            });
        }
        let infos = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| (name, info.clone()))
            .collect();
        self.shards.push(Shard {
            path,
            file: Mutex::new(file),
            data_start,
        });
        Ok(infos)
    }

    fn entry(&self, name: &str, remedy: impl FnOnce() -> String) -> Result<&Entry, FrontendError> {
        self.tensors
            .get(name)
            .ok_or_else(|| FrontendError::MissingTensor {
                path: self.listing.clone(),
                name: name.into(),
                remedy: remedy(),
            })
    }

    /// Checks that `name` is there, readable and of shape `expected`; `remedy` says what to do if it is not there.
    pub(super) fn check(
        &self,
        name: &str,
        expected: &[usize],
        remedy: impl FnOnce() -> String,
    ) -> Result<(), FrontendError> {
        let entry = self.entry(name, remedy)?;
        let path = || self.shards[entry.shard].path.clone();
        if !matches!(entry.info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let found = format!("{:?}", entry.info.dtype);
            return Err(FrontendError::Format {
                path: path(),
                name: name.into(),
                found,
            });
        }
        if entry.info.shape != expected {
            let (expected, actual) = (expected.into(), entry.info.shape.clone());
            return Err(FrontendError::Shape {
                path: path(),
                name: name.into(),
                expected,
                actual,
            });
        }
        Ok(())
    }

    /// A tensor's format and shape, printed, and its bytes as stored.
    pub(super) fn raw(&self, name: &str) -> Result<(String, Vec<u8>), FrontendError> {
        let entry = self.entry(name, || {
            "it was there when the checkpoint was opened".into()
        })?;
        let description = format!("{:?} {:?}", entry.info.dtype, entry.info.shape);
        Ok((description, self.shards[entry.shard].read(&entry.info)?))
    }

    /// A tensor's content; read from its file the first time.
    pub(super) fn tensor(&self, name: &str) -> Result<&Tensor, WeightError> {
        let Some(entry) = self.tensors.get(name) else {
            return Err(WeightError::Missing {
                name: name.into(),
                hint: String::new(),
            });
        };
        if let Some(tensor) = entry.content.get() {
            return Ok(tensor);
        }
        let read = self.decode(name, entry);
        let tensor = read.map_err(|source| WeightError::Read {
            name: name.into(),
            source: Box::new(source),
        })?;
        Ok(entry.content.get_or_init(|| tensor))
    }

    fn decode(&self, name: &str, entry: &Entry) -> Result<Tensor, FrontendError> {
        let shard = &self.shards[entry.shard];
        let data = widen(&shard.read(&entry.info)?, entry.info.dtype).ok_or_else(|| {
            FrontendError::Format {
                path: shard.path.clone(),
                name: name.into(),
                found: format!("{:?}", entry.info.dtype),
            }
        })?;
        if let Some(at) = data.iter().position(|x| !x.is_finite()) {
            return Err(FrontendError::NotFinite {
                path: shard.path.clone(),
                name: name.into(),
                found: data[at],
                entry: at,
            });
        }
        Ok(Tensor {
            shape: entry.info.shape.clone(),
            data,
        })
    }
}

impl Entry {
    fn new(shard: usize, info: TensorInfo) -> Self {
        Self {
            shard,
            info,
            content: OnceLock::new(),
        }
    }
}

impl Shard {
    fn read(&self, info: &TensorInfo) -> Result<Vec<u8>, FrontendError> {
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        // A thread that panicked while reading leaves the file at some offset, and every read seeks first.
        let mut file = self
            .file
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        file.seek(SeekFrom::Start(self.data_start + start as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(io(&self.path))?;
        Ok(bytes)
    }
}

/// Little-endian floats of at most 32 bits as f32, exactly; none for other formats.
fn widen(bytes: &[u8], dtype: Dtype) -> Option<Vec<f32>> {
    let halves = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    Some(match dtype {
        Dtype::F32 => bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        Dtype::F16 => halves().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => halves().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        _ => return None,
    })
}
