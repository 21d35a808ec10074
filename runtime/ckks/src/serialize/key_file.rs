//! Evaluation keys in one file: an index, then one frame per key, so that writing and reading hold one key at a time.

use super::frame::{FrameReader, FrameWriter, HEADER_BYTES, Object, frame_bytes, write_atomically};
use crate::context::Context;
use crate::error::{CkksError, Result};
use crate::keys::{
    EvaluationKeys, KeyDigit, KeyGenerator, KeyId, KeyKind, KeyRequest, KeyShape, SwitchingKey,
};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// One key of a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// What the key switches.
    pub kind: KeyKind,
    /// The highest level it serves.
    pub level: usize,
    /// Where its frame starts.
    pub offset: u64,
    /// Bytes of its frame.
    pub bytes: u64,
}

/// Bytes of an index entry: tag, element, level, offset, bytes.
const ENTRY_BYTES: usize = 1 + 4 + 2 + 8 + 8;

/// More keys than any ring has Galois elements for.
const MAX_KEYS: u32 = 1 << 18;

fn kind_code(kind: KeyKind) -> (u8, u32) {
    match kind {
        KeyKind::Relinearization => (0, 0),
        KeyKind::Galois(element) => (1, element),
        KeyKind::ToEphemeral => (2, 0),
        KeyKind::FromEphemeral => (3, 0),
    }
}

fn write_kind<W: Write>(frame: &mut FrameWriter<W>, kind: KeyKind, level: usize) -> io::Result<()> {
    let (tag, element) = kind_code(kind);
    frame.bytes(&[tag])?;
    frame.bytes(&element.to_le_bytes())?;
    frame.bytes(&(level as u16).to_le_bytes())
}

fn read_kind<R: Read>(frame: &mut FrameReader<'_, R>, ctx: &Context) -> Result<(KeyKind, usize)> {
    let tag = frame.array::<1>()?[0];
    let element = u32::from_le_bytes(frame.array()?);
    let level = frame.level()?;
    let valid = element % 2 == 1 && u64::from(element) < 2 << ctx.params().log_n;
    let kind = match (tag, element) {
        (0, 0) => KeyKind::Relinearization,
        (1, _) if valid => KeyKind::Galois(element),
        (2, 0) if level == 0 => KeyKind::ToEphemeral,
        (3, 0) => KeyKind::FromEphemeral,
        _ => {
            return Err(frame.corrupt(format!(
                "no key has tag {tag}, element {element}, level {level}"
            )));
        }
    };
    Ok((kind, level))
}

/// Bytes of a key's frame.
fn key_bytes(ctx: &Context, kind: KeyKind, level: usize) -> Result<usize> {
    let shape = KeyShape::new(ctx, kind, level)?;
    Ok(frame_bytes(
        7 + 32 + 4 * ctx.params().n() * shape.primes.len() * shape.digits.len(),
    ))
}

impl SwitchingKey {
    fn write(&self, ctx: &Context, out: impl Write) -> io::Result<()> {
        let mut frame = FrameWriter::new(ctx, Object::SwitchingKey, self.id, out)?;
        write_kind(&mut frame, self.kind, self.level)?;
        frame.bytes(&self.seed)?;
        self.digits
            .iter()
            .try_for_each(|d| frame.words(d.b.words()))?;
        frame.finish().map(drop)
    }

    fn read(ctx: &Context, input: impl Read, path: &Path) -> Result<Self> {
        let mut frame = FrameReader::new(ctx, Object::SwitchingKey, input, Some(path))?;
        let (kind, level) = read_kind(&mut frame, ctx)?;
        let seed = frame.array()?;
        let shape = KeyShape::new(ctx, kind, level)?;
        let mut halves = Vec::with_capacity(shape.digits.len());
        for (index, _) in &shape.digits {
            halves.push((*index, frame.poly(&shape.primes)?));
        }
        let id = frame.id;
        frame.finish(false)?;
        let digits = halves
            .into_iter()
            .map(|(index, b)| KeyDigit {
                index,
                b,
                a: Self::expand(ctx, &seed, index, &shape.primes),
            })
            .collect();
        Ok(Self {
            kind,
            level,
            id,
            seed,
            primes: shape.primes,
            digits,
        })
    }
}

/// Writes a file of keys, each made or fetched when its turn comes.
fn write_keys(
    ctx: &Context,
    id: KeyId,
    kinds: &[(KeyKind, usize)],
    path: &Path,
    mut key: impl FnMut(usize, &mut dyn FnMut(&SwitchingKey) -> Result<()>) -> Result<()>,
) -> Result<()> {
    let failed = |source| CkksError::Io {
        path: path.into(),
        source,
    };
    write_atomically(path, false, |mut out| {
        let mut frame =
            FrameWriter::new(ctx, Object::EvaluationKeys, id, &mut out).map_err(failed)?;
        frame
            .bytes(&(kinds.len() as u32).to_le_bytes())
            .map_err(failed)?;
        let mut offset = frame_bytes(4 + ENTRY_BYTES * kinds.len()) as u64;
        for &(kind, level) in kinds {
            let bytes = key_bytes(ctx, kind, level)? as u64;
            write_kind(&mut frame, kind, level).map_err(failed)?;
            frame.bytes(&offset.to_le_bytes()).map_err(failed)?;
            frame.bytes(&bytes.to_le_bytes()).map_err(failed)?;
            offset += bytes;
        }
        frame.finish().map_err(failed)?;
        (0..kinds.len())
            .try_for_each(|i| key(i, &mut |key| key.write(ctx, &mut out).map_err(failed)))
    })
}

impl KeyRequest {
    /// Bytes of a file with these keys, all but its index: half of what they take in memory, since a key's uniform half is stored as a
    /// seed.
    ///
    /// # Errors
    /// If a level is not one of the set's.
    pub fn file_bytes(&self, ctx: &Context) -> Result<u64> {
        let kinds = self.kinds();
        let each = kinds
            .iter()
            .map(|&(kind, level)| key_bytes(ctx, kind, level));
        each.map(|bytes| Ok(bytes? as u64)).sum()
    }
}

impl KeyGenerator<'_> {
    /// Generates every key of a request into a file, one at a time, whole or not at all. `progress` is called with the number of keys done
    /// and the number asked for.
    ///
    /// # Errors
    /// If a key cannot be made (see [`Self::evaluation_keys`]) or the file cannot be written; nothing is left behind then.
    pub fn write_evaluation_keys(
        &self,
        request: &KeyRequest,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<()> {
        let ctx = self.context();
        let kinds = request.kinds();
        kinds
            .iter()
            .try_for_each(|&(_, level)| ctx.check_level("evaluation keys", level))?;
        write_keys(ctx, self.key_id(), &kinds, path.as_ref(), |i, write| {
            progress(i, kinds.len());
            write(&self.switching_key(kinds[i].0, kinds[i].1)?)
        })?;
        progress(kinds.len(), kinds.len());
        Ok(())
    }
}

/// An open file of evaluation keys, its index checked.
#[derive(Debug)]
pub struct EvaluationKeyFile {
    ctx: Context,
    file: BufReader<File>,
    path: PathBuf,
    id: KeyId,
    index: Vec<IndexEntry>,
}

impl EvaluationKeyFile {
    /// Opens a file and checks its index and length.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged or truncated, is not an evaluation key file, or belongs to another parameter set.
    pub fn open(ctx: &Context, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |source| CkksError::Io {
            path: path.into(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut frame = FrameReader::new(ctx, Object::EvaluationKeys, &mut file, Some(path))?;
        let count = u32::from_le_bytes(frame.array()?);
        if count > MAX_KEYS {
            return Err(frame.corrupt(format!("an index of {count} keys")));
        }
        let mut offset = (HEADER_BYTES + 4 + ENTRY_BYTES * count as usize + 32) as u64;
        let mut index = Vec::new();
        for _ in 0..count {
            let (kind, level) = read_kind(&mut frame, ctx)?;
            let entry = IndexEntry {
                kind,
                level,
                offset: u64::from_le_bytes(frame.array()?),
                bytes: u64::from_le_bytes(frame.array()?),
            };
            if (entry.offset, entry.bytes) != (offset, key_bytes(ctx, kind, level)? as u64) {
                return Err(frame.corrupt("the index contradicts the parameter set"));
            }
            offset += entry.bytes;
            index.push(entry);
        }
        let id = frame.id;
        if offset != length {
            return Err(frame.corrupt(format!(
                "{length} bytes long where the index says {offset}: truncated or damaged"
            )));
        }
        frame.finish(false)?;
        Ok(Self {
            ctx: ctx.clone(),
            file,
            path: path.into(),
            id,
            index,
        })
    }

    /// The secret key the keys belong to.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The keys in the file.
    pub fn index(&self) -> &[IndexEntry] {
        &self.index
    }

    /// Reads one key.
    ///
    /// # Errors
    /// If the file lacks the key, cannot be read, or the key is damaged.
    pub fn read(&mut self, kind: KeyKind) -> Result<SwitchingKey> {
        let entry = *self
            .index
            .iter()
            .find(|e| e.kind == kind)
            .ok_or_else(|| self.missing(kind, 0))?;
        let failed = |source| CkksError::Io {
            path: self.path.clone(),
            source,
        };
        self.file
            .seek(SeekFrom::Start(entry.offset))
            .map_err(failed)?;
        let key = SwitchingKey::read(&self.ctx, &mut self.file, &self.path)?;
        if (key.kind, key.level, key.id) != (entry.kind, entry.level, self.id) {
            let why = format!(
                "the key at byte {} is not the one the index names",
                entry.offset
            );
            return Err(CkksError::Corrupt {
                what: "evaluation keys",
                why,
            });
        }
        Ok(key)
    }

    /// Reads the keys of a request (a key for a higher level serves), or all of them. `progress` is called with the number of keys done and the number to read.
    ///
    /// # Errors
    /// As [`Self::read`]; a missing key is named before any is read.
    pub fn load(
        &mut self,
        request: Option<&KeyRequest>,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<EvaluationKeys> {
        let kinds: Vec<KeyKind> = match request {
            None => self.index.iter().map(|e| e.kind).collect(),
            Some(request) => {
                let wanted = request.kinds();
                for &(kind, level) in &wanted {
                    if !self
                        .index
                        .iter()
                        .any(|e| e.kind == kind && e.level >= level)
                    {
                        return Err(self.missing(kind, level));
                    }
                }
                wanted.into_iter().map(|(kind, _)| kind).collect()
            }
        };
        let mut keys = EvaluationKeys::empty(self.id);
        for (done, &kind) in kinds.iter().enumerate() {
            progress(done, kinds.len());
            keys.insert(self.read(kind)?)?;
        }
        progress(kinds.len(), kinds.len());
        Ok(keys)
    }

    fn missing(&self, kind: KeyKind, level: usize) -> CkksError {
        CkksError::MissingKey {
            op: "loading evaluation keys",
            key: kind.describe(self.ctx.params().log_n),
            level,
        }
    }
}

impl EvaluationKeys {
    /// Writes all keys to a file, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written; nothing is left behind then.
    pub fn write_file(&self, ctx: &Context, path: impl AsRef<Path>) -> Result<()> {
        let keys: Vec<_> = self.iter().collect();
        let kinds: Vec<_> = keys.iter().map(|k| (k.kind, k.level)).collect();
        write_keys(ctx, self.id(), &kinds, path.as_ref(), |i, write| {
            write(keys[i])
        })
    }
}
