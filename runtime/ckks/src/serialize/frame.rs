//! The frame around every serialized object.

use crate::context::Context;
use crate::error::{CkksError, Result};
use crate::keys::KeyId;
use crate::ring::{Form, Primes, RnsPoly};
use std::io::{self, Read, Write};
use std::path::Path;

const MAGIC: [u8; 8] = *b"SOTTOCKK";

/// Version of the format.
const VERSION: u16 = 1;

const CHECKSUM_BYTES: usize = 32;
/// Magic, version, kind, digest of the parameters, key.
pub(super) const HEADER_BYTES: usize = 8 + 2 + 1 + 32 + 16;

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Object {
    Ciphertext = 1,
    Plaintext = 2,
    PublicKey = 3,
    SecretKey = 4,
    SwitchingKey = 5,
    EvaluationKeys = 6,
}

impl Object {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ciphertext => "ciphertext",
            Self::Plaintext => "plaintext",
            Self::PublicKey => "public key",
            Self::SecretKey => "secret key",
            Self::SwitchingKey => "switching key",
            Self::EvaluationKeys => "evaluation keys",
        }
    }

    fn from_tag(tag: u8) -> Option<Self> {
        [
            Self::Ciphertext,
            Self::Plaintext,
            Self::PublicKey,
            Self::SecretKey,
            Self::SwitchingKey,
            Self::EvaluationKeys,
        ]
        .into_iter()
        .find(|&k| k as u8 == tag)
    }
}

/// Bytes of a frame with `body` bytes in it.
pub(super) fn frame_bytes(body: usize) -> usize {
    HEADER_BYTES + body + CHECKSUM_BYTES
}

/// Writes one frame.
pub(super) struct FrameWriter<W> {
    inner: W,
    hasher: blake3::Hasher,
}

impl<W: Write> FrameWriter<W> {
    pub(super) fn new(ctx: &Context, object: Object, id: KeyId, inner: W) -> io::Result<Self> {
        let mut frame = Self {
            inner,
            hasher: blake3::Hasher::new(),
        };
        frame.bytes(&MAGIC)?;
        frame.bytes(&VERSION.to_le_bytes())?;
        frame.bytes(&[object as u8])?;
        frame.bytes(&ctx.digest())?;
        frame.bytes(&id.0)?;
        Ok(frame)
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.inner.write_all(bytes)
    }

    pub(super) fn words(&mut self, words: &[u32]) -> io::Result<()> {
        if cfg!(target_endian = "little") {
            return self.bytes(bytemuck::cast_slice(words));
        }
        words.iter().try_for_each(|w| self.bytes(&w.to_le_bytes()))
    }

    /// Writes the checksum.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(self.hasher.finalize().as_bytes())?;
        Ok(self.inner)
    }
}

/// Reads one frame.
pub(super) struct FrameReader<'a, R> {
    ctx: &'a Context,
    inner: R,
    hasher: blake3::Hasher,
    object: Object,
    path: Option<&'a Path>,
    pub(super) id: KeyId,
}

impl<'a, R: Read> FrameReader<'a, R> {
    /// Reads and checks the header. `path` is for error messages.
    pub(super) fn new(
        ctx: &'a Context,
        object: Object,
        inner: R,
        path: Option<&'a Path>,
    ) -> Result<Self> {
        let mut frame = Self {
            ctx,
            inner,
            hasher: blake3::Hasher::new(),
            object,
            path,
            id: KeyId([0; 16]),
        };
        if frame.array::<8>()? != MAGIC {
            return Err(frame.corrupt("does not start like anything this library writes"));
        }
        let version = u16::from_le_bytes(frame.array()?);
        if version != VERSION {
            return Err(frame.corrupt(format!(
                "format version {version}; this program reads version {VERSION}"
            )));
        }
        let tag = frame.array::<1>()?[0];
        if tag != object as u8 {
            let found = Object::from_tag(tag).map_or("an unknown object", Object::name);
            return Err(frame.corrupt(format!("the bytes hold {found} instead")));
        }
        if frame.array::<32>()? != ctx.digest() {
            return Err(CkksError::ForeignParams {
                what: object.name(),
                set: ctx.params().name.clone(),
            });
        }
        frame.id = KeyId(frame.array()?);
        Ok(frame)
    }

    pub(super) fn corrupt(&self, why: impl Into<String>) -> CkksError {
        let why = why.into();
        let why = match self.path {
            Some(path) => format!("{why} ({})", path.display()),
            None => why,
        };
        CkksError::Corrupt {
            what: self.object.name(),
            why,
        }
    }

    fn io(&self, e: io::Error) -> CkksError {
        match self.path {
            Some(_) if e.kind() == io::ErrorKind::UnexpectedEof => {
                self.corrupt("truncated: copy it again, or make it anew")
            }
            None if e.kind() == io::ErrorKind::UnexpectedEof => self.corrupt("truncated"),
            Some(path) => CkksError::Io {
                path: path.into(),
                source: e,
            },
            None => self.corrupt(e.to_string()),
        }
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.inner.read_exact(bytes).map_err(|e| self.io(e))?;
        self.hasher.update(bytes);
        Ok(())
    }

    pub(super) fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN]> {
        let mut bytes = [0; LEN];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// A level within the parameter set.
    pub(super) fn level(&mut self) -> Result<usize> {
        let level = usize::from(u16::from_le_bytes(self.array()?));
        let top = self.ctx.params().top_level();
        if level <= top {
            Ok(level)
        } else {
            Err(self.corrupt(format!("level {level}, but the highest is {top}")))
        }
    }

    /// A transformed polynomial; every residue must be reduced.
    pub(super) fn poly(&mut self, primes: &Primes) -> Result<RnsPoly> {
        let ring = self.ctx.ring();
        let mut poly = RnsPoly::dirty(ring, primes, Form::Transformed);
        self.fill(bytemuck::cast_slice_mut(poly.words_mut()))?;
        if cfg!(target_endian = "big") {
            poly.words_mut()
                .iter_mut()
                .for_each(|w| *w = u32::from_le(*w));
        }
        for (i, &prime) in primes.iter().enumerate() {
            let p = ring.modulus(prime).p;
            // A fold without early exit vectorizes.
            if poly.limb(i).iter().fold(0, |m, &w| m.max(w)) >= p {
                return Err(self.corrupt(format!("a residue is not below its prime {p}")));
            }
        }
        Ok(poly)
    }

    /// Checks the checksum; the input must have nothing left if `last`.
    pub(super) fn finish(mut self, last: bool) -> Result<()> {
        let expected = self.hasher.finalize();
        let mut checksum = [0; CHECKSUM_BYTES];
        self.inner
            .read_exact(&mut checksum)
            .map_err(|e| self.io(e))?;
        if expected != checksum {
            return Err(self.corrupt("the checksum does not match: the bytes were damaged"));
        }
        let rest = if last {
            self.inner.read(&mut [0]).map_err(|e| self.io(e))?
        } else {
            0
        };
        if rest == 0 {
            Ok(())
        } else {
            Err(self.corrupt("bytes follow after the end"))
        }
    }
}

/// Writes a file so that it is either whole or absent: into a temporary file beside it, renamed at the end.
/// `private` files are readable by their owner only.
pub(super) fn write_atomically(
    path: &Path,
    private: bool,
    write: impl FnOnce(&mut io::BufWriter<&std::fs::File>) -> Result<()>,
) -> Result<()> {
    let failed = |source: io::Error| CkksError::Io {
        path: path.into(),
        source,
    };
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".sotto-partial-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The process's umask applies on top.
        builder.permissions(std::fs::Permissions::from_mode(if private {
            0o600
        } else {
            0o666
        }));
    }
    let file = builder.tempfile_in(folder).map_err(failed)?;
    {
        // A secret body is longer than the buffer, so it passes by: no copy of it stays behind in freed memory.
        let capacity = if private { 64 } else { 1 << 20 };
        let mut buffered = io::BufWriter::with_capacity(capacity, file.as_file());
        write(&mut buffered)?;
        buffered.flush().map_err(failed)?;
    }
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}
