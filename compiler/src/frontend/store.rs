//! Tensors in safetensors files, one or several, by name: as they are stored, or as a [`View`] says.

mod view;

pub use view::View;

use super::FrontendError;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;
use sotto_ir::decoder::{Tensor, WeightError, check_rows};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use view::Columns;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// A header longer than this is damage, not a model: 100 MB, the limit of the safetensors library.
const HEADER_LIMIT: u64 = 100_000_000;
/// Bytes of tensors, as f32, that are kept once read. Calibration reads the model once for every sequence: a small one stays here, of a
/// large one what comes first does, and the rest is read again.
const KEPT: usize = 2 << 30;
/// Bytes that are read at once, so that no tensor is held both as stored and as f32.
const PIECE: usize = 1 << 20;

/// The checkpoint's files with every tensor's place.
pub(super) struct Store {
    /// Where the tensors are listed: the index, or the only file.
    listing: PathBuf,
    shards: Vec<Shard>,
    tensors: HashMap<String, Entry>,
    views: HashMap<String, Viewed>,
    /// What names begin with that the files' do not.
    implied: &'static str,
    /// What is left of [`KEPT`].
    room: Mutex<usize>,
}

struct Shard {
    path: PathBuf,
    file: Mutex<File>,
    /// Where tensor data start in the file.
    data_start: u64,
}

struct Entry {
    /// The files' name.
    name: String,
    shard: usize,
    info: TensorInfo,
    content: Kept,
}

/// A tensor's content, once somebody asked for it, if there was room.
type Kept = Mutex<Option<Arc<Tensor>>>;

struct Viewed {
    view: View,
    content: Kept,
}

/// What a name stands for.
#[derive(Clone, Copy)]
struct Named<'s> {
    entry: &'s Entry,
    view: Option<&'s View>,
    content: &'s Kept,
}

impl Named<'_> {
    fn shape(&self) -> Vec<usize> {
        let stored = &self.entry.info.shape;
        self.view
            .map_or_else(|| stored.clone(), |view| view.shape(stored))
    }
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
                views: HashMap::new(),
                implied: "",
                room: Mutex::new(KEPT),
            };
            let infos = store.add(single)?;
            store.tensors.extend(
                infos
                    .into_iter()
                    .map(|(name, info)| (name.clone(), Entry::new(&name, 0, info))),
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
            views: HashMap::new(),
            implied: "",
            room: Mutex::new(KEPT),
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
            let entry = Entry::new(&tensor, *number, info.clone());
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

    /// Lets names begin with `prefix` where no file's does.
    pub(super) fn imply(&mut self, prefix: &'static str) {
        if !self.tensors.keys().any(|name| name.starts_with(prefix)) {
            self.implied = prefix;
        }
    }

    /// Gives tensors further names.
    pub(super) fn view(&mut self, views: Vec<(String, View)>) {
        let viewed = |(name, view)| {
            let content = Mutex::default();
            (name, Viewed { view, content })
        };
        self.views.extend(views.into_iter().map(viewed));
    }

    /// The name of the stored tensor that `name` is or is a view of.
    pub(super) fn origin<'n>(&'n self, name: &'n str) -> &'n str {
        self.views
            .get(name)
            .map_or(name, |viewed| &viewed.view.tensor)
    }

    /// The files' name of a stored tensor.
    fn in_files<'n>(&self, name: &'n str) -> &'n str {
        let without = name.strip_prefix(self.implied);
        match without.filter(|without| self.tensors.contains_key(*without)) {
            Some(without) => without,
            None => name,
        }
    }

    fn entry(&self, name: &str, remedy: impl FnOnce() -> String) -> Result<&Entry, FrontendError> {
        let name = self.in_files(name);
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
        let origin = self.origin(name);
        let entry = self.entry(origin, remedy)?;
        let path = || self.shards[entry.shard].path.clone();
        if !matches!(entry.info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            let found = format!("{:?}", entry.info.dtype);
            return Err(FrontendError::Format {
                path: path(),
                name: self.in_files(origin).into(),
                found,
            });
        }
        let viewed = self.views.get(name);
        let expected = viewed.map_or_else(|| expected.into(), |v| v.view.stored(expected));
        if entry.info.shape != expected {
            return Err(FrontendError::Shape {
                path: path(),
                name: self.in_files(origin).into(),
                expected,
                actual: entry.info.shape.clone(),
            });
        }
        Ok(())
    }

    /// A tensor as stored.
    pub(super) fn raw(&self, name: &str) -> Result<Raw<'_>, FrontendError> {
        let entry = self.entry(name, || {
            "it was there when the checkpoint was opened".into()
        })?;
        let (start, end) = entry.info.data_offsets;
        Ok(Raw {
            description: format!("{:?} {:?}", entry.info.dtype, entry.info.shape),
            shard: &self.shards[entry.shard],
            place: start..end,
        })
    }

    /// A tensor's extents.
    pub(super) fn shape(&self, name: &str) -> Result<Vec<usize>, WeightError> {
        Ok(self.known(name)?.shape())
    }

    /// A tensor's content; kept if there is room.
    pub(super) fn tensor(&self, name: &str) -> Result<Arc<Tensor>, WeightError> {
        let named = self.known(name)?;
        let mut content = lock(named.content);
        if let Some(tensor) = &*content {
            return Ok(tensor.clone());
        }
        let all = 0..named.shape().first().copied().unwrap_or(0);
        let tensor = Arc::new(self.read(name, named, all)?);
        if self.makes_room(size_of_val(&tensor.data[..])) {
            *content = Some(tensor.clone());
        }
        Ok(tensor)
    }

    /// Some rows of a tensor; read from its file unless it is kept.
    pub(super) fn rows(&self, name: &str, rows: Range<usize>) -> Result<Tensor, WeightError> {
        let named = self.known(name)?;
        check_rows(name, &named.shape(), &rows)?;
        let kept = lock(named.content).clone();
        match kept {
            Some(tensor) => Ok(tensor.slice(rows)),
            None => self.read(name, named, rows),
        }
    }

    fn known(&self, name: &str) -> Result<Named<'_>, WeightError> {
        let viewed = self.views.get(name);
        let stored = viewed.map_or(name, |viewed| &viewed.view.tensor);
        let entry = self.tensors.get(self.in_files(stored));
        let entry = entry.ok_or_else(|| WeightError::Missing {
            name: name.into(),
            hint: String::new(),
        })?;
        Ok(Named {
            entry,
            view: viewed.map(|viewed| &viewed.view),
            content: viewed.map_or(&entry.content, |viewed| &viewed.content),
        })
    }

    /// Whether so many bytes may be kept; they are counted then.
    fn makes_room(&self, bytes: usize) -> bool {
        let mut room = lock(&self.room);
        let fits = bytes <= *room;
        if fits {
            *room -= bytes;
        }
        fits
    }

    fn read(
        &self,
        name: &str,
        named: Named<'_>,
        rows: Range<usize>,
    ) -> Result<Tensor, WeightError> {
        let mut shape = named.shape();
        if let Some(first) = shape.first_mut() {
            *first = rows.len();
        }
        let stored = &named.entry.info.shape;
        let data = match named.view {
            None => self.stored_rows(named.entry, rows),
            Some(view) => {
                let outputs = view.outputs(stored, rows);
                match (view.transposed, &stored[..]) {
                    (true, &[inputs, all]) => {
                        let mut columns = Columns::new(outputs, inputs, all);
                        let every = 0..inputs;
                        let each = &mut |entries: &[f32]| columns.take(entries);
                        let read = self.decode(named.entry, every, each);
                        read.map(|()| columns.into_rows())
                    }
                    _ => self.stored_rows(named.entry, outputs),
                }
            }
        };
        let data = data.map_err(|source| WeightError::Read {
            name: name.into(),
            source: Box::new(source),
        })?;
        Ok(Tensor { shape, data })
    }

    fn stored_rows(&self, entry: &Entry, rows: Range<usize>) -> Result<Vec<f32>, FrontendError> {
        let width: usize = entry.info.shape[1..].iter().product();
        let mut data = Vec::with_capacity(rows.len() * width);
        self.decode(entry, rows, &mut |entries| data.extend_from_slice(entries))?;
        Ok(data)
    }

    /// Hands out rows of a stored tensor in order, in pieces.
    fn decode(
        &self,
        entry: &Entry,
        rows: Range<usize>,
        each: &mut dyn FnMut(&[f32]),
    ) -> Result<(), FrontendError> {
        let shard = &self.shards[entry.shard];
        let shape = &entry.info.shape;
        let width: usize = shape[1..].iter().product();
        let (start, end) = entry.info.data_offsets;
        let stored = (end - start) / (shape[0] * width).max(1);
        let place = start + rows.start * width * stored..start + rows.end * width * stored;
        let name = || entry.name.clone();
        let (mut piece, mut seen) = (Vec::new(), rows.start * width);
        shard.read(place, &mut |bytes| {
            piece.clear();
            let known = widen(bytes, entry.info.dtype, &mut piece);
            known.ok_or_else(|| FrontendError::Format {
                path: shard.path.clone(),
                name: name(),
                found: format!("{:?}", entry.info.dtype),
            })?;
            if let Some(at) = piece.iter().position(|x| !x.is_finite()) {
                return Err(FrontendError::NotFinite {
                    path: shard.path.clone(),
                    name: name(),
                    found: piece[at],
                    entry: seen + at,
                });
            }
            seen += piece.len();
            each(&piece);
            Ok(())
        })
    }
}

/// A tensor as stored.
pub(super) struct Raw<'a> {
    /// Format and shape, printed.
    pub(super) description: String,
    shard: &'a Shard,
    place: Range<usize>,
}

impl Raw<'_> {
    pub(super) fn len(&self) -> usize {
        self.place.len()
    }

    /// Hands out the bytes in order, in pieces.
    pub(super) fn read(&self, each: &mut dyn FnMut(&[u8])) -> Result<(), FrontendError> {
        self.shard.read(self.place.clone(), &mut |bytes| {
            each(bytes);
            Ok(())
        })
    }
}

/// What a lock guards here is whole whenever it is free: that a thread panicked holding it does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Entry {
    fn new(name: &str, shard: usize, info: TensorInfo) -> Self {
        Self {
            name: name.into(),
            shard,
            info,
            content: Mutex::default(),
        }
    }
}

impl Shard {
    /// Hands out a place's bytes in order, in pieces that hold whole numbers.
    fn read(
        &self,
        place: Range<usize>,
        each: &mut dyn FnMut(&[u8]) -> Result<(), FrontendError>,
    ) -> Result<(), FrontendError> {
        let mut bytes = vec![0; place.len().min(PIECE)];
        for start in place.clone().step_by(PIECE) {
            bytes.truncate(place.end - start);
            // Other threads move the file's offset, and every read seeks first.
            let mut file = lock(&self.file);
            file.seek(SeekFrom::Start(self.data_start + start as u64))
                .and_then(|_| file.read_exact(&mut bytes))
                .map_err(io(&self.path))?;
            drop(file);
            each(&bytes)?;
        }
        Ok(())
    }
}

/// Appends little-endian floats of at most 32 bits as f32, exactly; none for other formats.
fn widen(bytes: &[u8], dtype: Dtype, data: &mut Vec<f32>) -> Option<()> {
    let halves = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    match dtype {
        Dtype::F32 => data.extend(
            bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        ),
        Dtype::F16 => data.extend(halves().map(|b| f16::from_le_bytes(b).to_f32())),
        Dtype::BF16 => data.extend(halves().map(|b| bf16::from_le_bytes(b).to_f32())),
        _ => return None,
    }
    Some(())
}
