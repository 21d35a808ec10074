//! Ciphertexts, plaintexts and public keys as bytes.

use super::frame::{FrameReader, FrameWriter, Object, frame_bytes};
use crate::ciphertext::Ciphertext;
use crate::context::Context;
use crate::encoding::Plaintext;
use crate::error::Result;
use crate::keys::{KeyId, PublicKey};
use std::io;

/// Writing to memory cannot fail.
fn to_memory(bytes: usize, write: impl FnOnce(Vec<u8>) -> io::Result<Vec<u8>>) -> Vec<u8> {
    write(Vec::with_capacity(frame_bytes(bytes))).expect("a vector accepts every write")
}

fn degree<R: io::Read>(frame: &mut FrameReader<'_, R>) -> Result<u8> {
    match frame.array::<1>()?[0] {
        degree @ 1..=2 => Ok(degree),
        other => Err(frame.corrupt(format!("degree {other}"))),
    }
}

impl Ciphertext {
    /// The ciphertext as bytes.
    pub fn to_bytes(&self, ctx: &Context) -> Vec<u8> {
        to_memory(3 + self.size_bytes(), |out| {
            let mut frame = FrameWriter::new(ctx, Object::Ciphertext, self.key, out)?;
            frame.bytes(&(self.level as u16).to_le_bytes())?;
            frame.bytes(&[self.degree])?;
            frame.words(self.c0.words())?;
            frame.words(self.c1.words())?;
            frame.finish()
        })
    }

    /// Reads a ciphertext.
    ///
    /// # Errors
    /// If the bytes are damaged, are not a ciphertext, or belong to another parameter set.
    pub fn from_bytes(ctx: &Context, bytes: &[u8]) -> Result<Self> {
        let mut frame = FrameReader::new(ctx, Object::Ciphertext, bytes, None)?;
        let (level, degree) = (frame.level()?, degree(&mut frame)?);
        let primes = ctx.level_primes(level);
        let (c0, c1) = (frame.poly(primes)?, frame.poly(primes)?);
        let key = frame.id;
        frame.finish(true)?;
        Ok(Self {
            c0,
            c1,
            level,
            degree,
            key,
        })
    }
}

impl Plaintext {
    /// The plaintext as bytes.
    pub fn to_bytes(&self, ctx: &Context) -> Vec<u8> {
        to_memory(3 + 4 * self.poly.words().len(), |out| {
            let mut frame = FrameWriter::new(ctx, Object::Plaintext, KeyId([0; 16]), out)?;
            frame.bytes(&(self.level as u16).to_le_bytes())?;
            frame.bytes(&[self.degree])?;
            frame.words(self.poly.words())?;
            frame.finish()
        })
    }

    /// Reads a plaintext.
    ///
    /// # Errors
    /// If the bytes are damaged, are not a plaintext, or belong to another parameter set.
    pub fn from_bytes(ctx: &Context, bytes: &[u8]) -> Result<Self> {
        let mut frame = FrameReader::new(ctx, Object::Plaintext, bytes, None)?;
        let (level, degree) = (frame.level()?, degree(&mut frame)?);
        let poly = frame.poly(ctx.level_primes(level))?;
        frame.finish(true)?;
        Ok(Self {
            poly,
            level,
            degree,
        })
    }
}

impl PublicKey {
    /// The key as bytes: seed and one polynomial.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_memory(34 + 4 * self.b.words().len(), |out| {
            let mut frame = FrameWriter::new(&self.ctx, Object::PublicKey, self.id, out)?;
            frame.bytes(&(self.level as u16).to_le_bytes())?;
            frame.bytes(&self.seed)?;
            frame.words(self.b.words())?;
            frame.finish()
        })
    }

    /// Reads a public key.
    ///
    /// # Errors
    /// If the bytes are damaged, are not a public key, or belong to another parameter set.
    pub fn from_bytes(ctx: &Context, bytes: &[u8]) -> Result<Self> {
        let mut frame = FrameReader::new(ctx, Object::PublicKey, bytes, None)?;
        let (level, seed) = (frame.level()?, frame.array()?);
        let b = frame.poly(&crate::keys::public_key_primes(ctx, level))?;
        let id = frame.id;
        frame.finish(true)?;
        Ok(Self::new(ctx, id, level, seed, b))
    }
}
