//! Arrays as compact integers.
//!
//! An array is stored as integers q with one scale: entry = q × scale, scale = max|x| / limit. Rounding to nearest, an entry is
//! off by at most scale / 2; the plan records the largest deviation that really occurred.

use super::Encoding;

/// A packed array.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Packed {
    pub(super) bytes: Vec<u8>,
    pub(super) scale: f64,
    pub(super) error: f64,
}

/// Pack finite numbers; otherwise the index of the first that is not.
pub(super) fn pack(values: &[f64], encoding: Encoding) -> Result<Packed, usize> {
    if let Some(entry) = values.iter().position(|x| !x.is_finite()) {
        return Err(entry);
    }
    let largest = values.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let scale = largest / encoding.limit();
    // All zero, or so small that the quotient underflows.
    let scale = if scale > 0.0 { scale } else { 1.0 };
    let mut bytes = Vec::with_capacity(values.len() * encoding.bytes() as usize);
    let mut error = 0.0f64;
    for &x in values {
        let limit = encoding.limit();
        let q = (x / scale).round().clamp(-limit, limit);
        error = error.max((q * scale - x).abs());
        // `q` is an integer within the limit.
        match encoding {
            Encoding::I8 => bytes.extend((q as i8).to_le_bytes()),
            Encoding::I16 => bytes.extend((q as i16).to_le_bytes()),
            Encoding::I32 => bytes.extend((q as i32).to_le_bytes()),
        }
    }
    Ok(Packed {
        bytes,
        scale,
        error,
    })
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

    proptest! {
        #[test]
        fn entries_are_off_by_half_a_step(
            values in proptest::collection::vec(-1e6f64..1e6, 0..40),
            exponent in -300i32..300,
        ) {
            let values: Vec<f64> = values.iter().map(|x| x * 10f64.powi(exponent)).collect();
            for encoding in [Encoding::I8, Encoding::I16, Encoding::I32] {
                let packed = pack(&values, encoding).unwrap();
                prop_assert_eq!(packed.bytes.len() as u64, values.len() as u64 * encoding.bytes());
                prop_assert!(packed.error <= packed.scale * 0.5001);
                let back = unpack(&packed.bytes, encoding, packed.scale);
                for (x, y) in values.iter().zip(&back) {
                    prop_assert!((x - y).abs() <= packed.error);
                }
                // What has been packed once packs to the same integers.
                let again = pack(&back, encoding).unwrap();
                prop_assert_eq!(again.bytes, packed.bytes);
            }
        }
    }

    #[test]
    fn zero_stays_zero_and_infinity_is_refused() {
        let zero = pack(&[0.0, -0.0], Encoding::I16).unwrap();
        assert_eq!(unpack(&zero.bytes, Encoding::I16, zero.scale), [0.0, 0.0]);
        assert_eq!(pack(&[1.0, f64::NAN], Encoding::I16), Err(1));
    }
}
