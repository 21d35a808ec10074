//! The secret key file.

use super::frame::{FrameReader, FrameWriter, Object, write_atomically};
use crate::context::Context;
use crate::error::{CkksError, Result};
use crate::keys::SecretKey;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zeroize::Zeroizing;

/// No secret key file is longer: a byte per coefficient and a frame around them.
const MAX_FILE: usize = 1 << 18;

impl SecretKey {
    /// Writes the key to a file only its owner may read (mode 0600), whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written; nothing is left behind then.
    pub fn write_file(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let failed = |source| CkksError::Io {
            path: path.into(),
            source,
        };
        // One byte per coefficient, plus one.
        let body: Zeroizing<Vec<u8>> =
            Zeroizing::new(self.coefficients.iter().map(|&c| (c + 1) as u8).collect());
        write_atomically(path, true, |out| {
            let mut frame =
                FrameWriter::new(&self.ctx, Object::SecretKey, self.id, out).map_err(failed)?;
            frame.bytes(&body).map_err(failed)?;
            frame.finish().map_err(failed)?;
            Ok(())
        })
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, is not a secret key, or belongs to another parameter set.
    pub fn read_file(ctx: &Context, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |source| CkksError::Io {
            path: path.into(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        // Room for all of it at once: growing would leave copies behind.
        let length = file.metadata().map_err(failed)?.len() as usize;
        let mut content = Zeroizing::new(Vec::with_capacity(length.min(MAX_FILE) + 1));
        let most = content.capacity() as u64;
        (&mut file)
            .take(most)
            .read_to_end(&mut content)
            .map_err(failed)?;
        let mut frame = FrameReader::new(ctx, Object::SecretKey, &content[..], Some(path))?;
        let mut body = Zeroizing::new(vec![0u8; ctx.params().n()]);
        frame.fill(&mut body)?;
        if body.iter().any(|&b| b > 2) {
            return Err(frame.corrupt("a coefficient is not ternary"));
        }
        let id = frame.id;
        frame.finish(true)?;
        let coefficients = Zeroizing::new(body.iter().map(|&b| i32::from(b) - 1).collect());
        Ok(Self {
            ctx: ctx.clone(),
            coefficients,
            id,
        })
    }
}
