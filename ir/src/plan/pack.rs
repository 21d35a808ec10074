//! Arrays as compact integers.
//!
//! An array is stored as integers q with one scale: entry = q × scale, scale = max|x| / limit. Rounding to nearest, an entry is
//! off by at most scale / 2: with 16 bits, by 2^-16 of the array's largest. The plan records the largest deviation that really
//! occurred. Packing looks at an array twice, piece by piece, and never holds it.

use super::Encoding;

/// A first look at an array, piece by piece: what its scale follows from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Survey {
    /// Entries seen.
    pub(super) entries: usize,
    largest: f64,
}

impl Survey {
    /// Looks at more entries; otherwise the index of the first that is not finite, and the entry.
    pub(super) fn add(&mut self, values: &[f64]) -> Result<(), (usize, f64)> {
        if let Some(entry) = values.iter().position(|x| !x.is_finite()) {
            return Err((self.entries + entry, values[entry]));
        }
        self.largest = values.iter().fold(self.largest, |m, x| m.max(x.abs()));
        self.entries += values.len();
        Ok(())
    }

    /// Packs the array that was looked at.
    pub(super) fn packer(&self, encoding: Encoding) -> Packer {
        let scale = self.largest / encoding.limit();
        Packer {
            encoding,
            // All zero, or so small that the quotient underflows.
            scale: if scale > 0.0 { scale } else { 1.0 },
            error: 0.0,
        }
    }
}

/// Packs an array piece by piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packer {
    encoding: Encoding,
    /// Entry = integer × scale.
    pub(super) scale: f64,
    /// Largest deviation so far.
    pub(super) error: f64,
}

impl Packer {
    /// Appends the integers of `values` to `bytes`.
    pub(super) fn pack(&mut self, values: &[f64], bytes: &mut Vec<u8>) {
        let limit = self.encoding.limit();
        for &x in values {
            let q = (x / self.scale).round().clamp(-limit, limit);
            self.error = self.error.max((q * self.scale - x).abs());
            // `q` is an integer within the limit.
            match self.encoding {
                Encoding::I8 => bytes.extend((q as i8).to_le_bytes()),
                Encoding::I16 => bytes.extend((q as i16).to_le_bytes()),
                Encoding::I32 => bytes.extend((q as i32).to_le_bytes()),
            }
        }
    }
}

/// The numbers of a packed array; trailing bytes that make no entry are left out (sizes are checked before).
pub(super) fn unpack(bytes: &[u8], encoding: Encoding, scale: f64) -> Vec<f64> {
    let number = |q: i32| f64::from(q) * scale;
    match encoding {
        Encoding::I8 => bytes.iter().map(|&b| number(i32::from(b as i8))).collect(),
        Encoding::I16 => {
            let entries = bytes
                .chunks_exact(2)
                .map(|c| i16::from_le_bytes([c[0], c[1]]));
            entries.map(|q| number(i32::from(q))).collect()
        }
        Encoding::I32 => {
            let entries = bytes.chunks_exact(4);
            entries
                .map(|c| number(i32::from_le_bytes([c[0], c[1], c[2], c[3]])))
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bytes of an array looked at and packed in pieces, and its packer.
    fn pack(values: &[f64], encoding: Encoding) -> (Vec<u8>, Packer) {
        let mut survey = Survey::default();
        values
            .chunks(7)
            .for_each(|piece| survey.add(piece).unwrap());
        let (mut bytes, mut packer) = (Vec::new(), survey.packer(encoding));
        values
            .chunks(5)
            .for_each(|piece| packer.pack(piece, &mut bytes));
        (bytes, packer)
    }

    proptest! {
        #[test]
        fn entries_are_off_by_half_a_step(
            values in proptest::collection::vec(-1e6f64..1e6, 0..40),
            exponent in -300i32..300,
        ) {
            let values: Vec<f64> = values.iter().map(|x| x * 10f64.powi(exponent)).collect();
            for encoding in [Encoding::I8, Encoding::I16, Encoding::I32] {
                let (bytes, packed) = pack(&values, encoding);
                prop_assert_eq!(bytes.len() as u64, values.len() as u64 * encoding.bytes());
                prop_assert!(packed.error <= packed.scale * 0.5001);
                let back = unpack(&bytes, encoding, packed.scale);
                for (x, y) in values.iter().zip(&back) {
                    prop_assert!((x - y).abs() <= packed.error);
                }
                // What has been packed once packs to the same integers.
                prop_assert_eq!(pack(&back, encoding).0, bytes);
            }
        }
    }

    #[test]
    fn zero_stays_zero_and_infinity_is_refused() {
        let (bytes, zero) = pack(&[0.0, -0.0], Encoding::I16);
        assert_eq!(unpack(&bytes, Encoding::I16, zero.scale), [0.0, 0.0]);
        let mut survey = Survey::default();
        survey.add(&[1.0, 2.0]).unwrap();
        let refused = survey.add(&[3.0, f64::INFINITY]).unwrap_err();
        assert_eq!(refused, (3, f64::INFINITY));
    }
}
