//! Dense arrays of anything, and the ways in which ONNX operations move their entries about.
//!
//! Constants and activations are moved by the same code: what a `Reshape` or `Slice` does to features is then what it does to
//! numbers. Nothing here panics on shapes that a file may claim; what does not fit gives none.

/// More entries than this are refused: a small file can claim any size. 2^26 entries of the largest kind are 2 GiB.
pub(super) const MOST_ENTRIES: usize = 1 << 26;

/// Entries in row-major order; as many as the product of the extents.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array<T> {
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<T>,
}

/// The product of the extents, if it is below [`MOST_ENTRIES`].
pub(super) fn count(shape: &[usize]) -> Option<usize> {
    let product = shape
        .iter()
        .try_fold(1usize, |product, &n| product.checked_mul(n));
    product.filter(|&entries| entries <= MOST_ENTRIES)
}

/// Row-major strides.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    strides
}

/// The shape two operands are broadcast to.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let extent =
        |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map(|i| shape[i]);
    (0..rank)
        .map(
            |axis| match (extent(a, axis).unwrap_or(1), extent(b, axis).unwrap_or(1)) {
                (m, n) if m == n => Some(m),
                (1, n) | (n, 1) => Some(n),
                _ => None,
            },
        )
        .collect()
}

/// An axis counted from the front, or from the back where it is negative.
pub(super) fn axis(axis: i64, rank: usize) -> Option<usize> {
    let from_front = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_front).ok().filter(|&axis| axis < rank)
}

impl<T: Clone> Array<T> {
    pub(super) fn scalar(value: T) -> Self {
        Self {
            shape: Vec::new(),
            data: vec![value],
        }
    }

    pub(super) fn vector(data: Vec<T>) -> Self {
        Self {
            shape: vec![data.len()],
            data,
        }
    }

    pub(super) fn filled(shape: &[usize], value: T) -> Option<Self> {
        Some(Self {
            data: vec![value; count(shape)?],
            shape: shape.into(),
        })
    }

    /// An array whose entry is made from its indices.
    pub(super) fn from_fn(shape: &[usize], mut entry: impl FnMut(&[usize]) -> T) -> Option<Self> {
        let entries = count(shape)?;
        let mut index = vec![0; shape.len()];
        let mut data = Vec::with_capacity(entries);
        for _ in 0..entries {
            data.push(entry(&index));
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                if index[axis] < shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Some(Self {
            shape: shape.into(),
            data,
        })
    }

    /// The only entry of an array of one.
    pub(super) fn single(&self) -> Option<&T> {
        match &self.data[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The last extent; 1 for a scalar.
    pub(super) fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    pub(super) fn map<U>(&self, f: impl FnMut(&T) -> U) -> Array<U> {
        Array {
            shape: self.shape.clone(),
            data: self.data.iter().map(f).collect(),
        }
    }

    /// The entry at `index`, each of whose places exists.
    pub(super) fn at(&self, index: &[usize]) -> &T {
        let place = index
            .iter()
            .zip(strides(&self.shape))
            .map(|(i, s)| i * s)
            .sum::<usize>();
        &self.data[place]
    }

    pub(super) fn reshape(&self, shape: &[usize]) -> Option<Self> {
        (count(shape)? == self.data.len()).then(|| Self {
            shape: shape.into(),
            data: self.data.clone(),
        })
    }

    /// Axis `i` of the result is axis `axes[i]` of this.
    pub(super) fn transpose(&self, axes: &[usize]) -> Option<Self> {
        let mut seen = axes.to_vec();
        seen.sort_unstable();
        if seen != (0..self.shape.len()).collect::<Vec<_>>() {
            return None;
        }
        let shape: Vec<usize> = axes.iter().map(|&axis| self.shape[axis]).collect();
        let from = strides(&self.shape);
        let strides: Vec<usize> = axes.iter().map(|&axis| from[axis]).collect();
        Self::from_fn(&shape, |index| {
            let place = index
                .iter()
                .zip(&strides)
                .map(|(i, s)| i * s)
                .sum::<usize>();
            self.data[place].clone()
        })
    }

    /// Repeats along extents of 1, ahead of the first where there are more.
    pub(super) fn expand(&self, shape: &[usize]) -> Option<Self> {
        let target = broadcast(&self.shape, shape)?;
        let own = strides(&self.shape);
        let lead = target.len() - self.shape.len();
        Self::from_fn(&target, |index| {
            let place = (0..self.shape.len())
                .filter(|&axis| self.shape[axis] > 1)
                .map(|axis| index[lead + axis] * own[axis])
                .sum::<usize>();
            self.data[place].clone()
        })
    }

    /// Entries `places` along an axis, in that order.
    pub(super) fn pick(&self, axis: usize, places: &[usize]) -> Option<Self> {
        if axis >= self.shape.len() || places.iter().any(|&place| place >= self.shape[axis]) {
            return None;
        }
        let mut shape = self.shape.clone();
        shape[axis] = places.len();
        let mut index = vec![0; shape.len()];
        Self::from_fn(&shape, |to| {
            index.copy_from_slice(to);
            index[axis] = places[to[axis]];
            self.at(&index).clone()
        })
    }

    /// One array behind the other along an axis; all other extents are equal.
    pub(super) fn concat(parts: &[&Self], axis: usize) -> Option<Self> {
        let first = parts.first()?;
        let fits = |part: &&Self| {
            part.shape.len() == first.shape.len()
                && (0..first.shape.len())
                    .all(|other| other == axis || part.shape[other] == first.shape[other])
        };
        if axis >= first.shape.len() || !parts.iter().all(fits) {
            return None;
        }
        let mut shape = first.shape.clone();
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        let outer = count(&shape[..axis])?;
        let mut data = Vec::with_capacity(count(&shape)?);
        for row in 0..outer {
            for part in parts {
                let length: usize = part.shape[axis..].iter().product();
                data.extend_from_slice(&part.data[row * length..(row + 1) * length]);
            }
        }
        Some(Self { shape, data })
    }
}

/// Entry by entry, with broadcasting.
pub(super) fn zip<A: Clone, B: Clone, C>(
    a: &Array<A>,
    b: &Array<B>,
    mut f: impl FnMut(&A, &B) -> C,
) -> Option<Array<C>> {
    let shape = broadcast(&a.shape, &b.shape)?;
    let (a, b) = (a.expand(&shape)?, b.expand(&shape)?);
    let data = a.data.iter().zip(&b.data).map(|(a, b)| f(a, b)).collect();
    Some(Array { shape, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(shape: &[usize]) -> Array<i64> {
        let entries = count(shape).unwrap();
        Array {
            shape: shape.into(),
            data: (0..entries as i64).collect(),
        }
    }

    #[test]
    fn entries_go_where_onnx_puts_them() {
        let a = counting(&[2, 3]);
        assert_eq!(a.transpose(&[1, 0]).unwrap().data, [0, 3, 1, 4, 2, 5]);
        assert_eq!(a.pick(1, &[2, 0]).unwrap().data, [2, 0, 5, 3]);
        let both = Array::concat(&[&a, &a], 1).unwrap();
        assert_eq!(both.data, [0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]);
        let row = counting(&[3]).expand(&[2, 1]).unwrap();
        assert_eq!((row.shape, row.data), (vec![2, 3], vec![0, 1, 2, 0, 1, 2]));
        let sum = zip(&a, &counting(&[2, 1]), |a, b| a + b).unwrap();
        assert_eq!(sum.data, [0, 1, 2, 4, 5, 6]);
    }

    #[test]
    fn what_does_not_fit_gives_none() {
        let a = counting(&[2, 3]);
        assert!(a.reshape(&[5]).is_none());
        assert!(a.reshape(&[usize::MAX, 7]).is_none());
        assert!(a.transpose(&[0, 0]).is_none());
        assert!(a.expand(&[2, 4]).is_none());
        assert!(a.pick(1, &[3]).is_none() && a.pick(2, &[0]).is_none());
        assert!(Array::concat(&[&a, &counting(&[2])], 0).is_none());
        assert!(Array::concat(&[&a], 2).is_none());
        assert!(Array::filled(&[1 << 40], 0).is_none());
        assert_eq!(
            (axis(-1, 2), axis(2, 2), axis(-3, 2)),
            (Some(1), None, None)
        );
    }
}
