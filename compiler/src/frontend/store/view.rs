//! Tensors that a checkpoint stores otherwise than the stage speaks of them: transposed, or side by side in one.

use std::ops::Range;

/// Where a tensor of the stage is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The tensor that is stored.
    pub tensor: String,
    /// Whether it is stored [in, out].
    pub transposed: bool,
    /// Which of how many equal parts of its outputs this is; all of them where absent.
    pub part: Option<(usize, usize)>,
}

impl View {
    /// The shape of the view of a stored tensor.
    pub(in super::super) fn shape(&self, stored: &[usize]) -> Vec<usize> {
        let mut shape = self.turned(stored);
        if let (Some((_, parts)), Some(outputs)) = (self.part, shape.first_mut()) {
            *outputs /= parts;
        }
        shape
    }

    /// The stored shape that gives a view of this one.
    pub(super) fn stored(&self, shape: &[usize]) -> Vec<usize> {
        let mut stored = shape.to_vec();
        if let (Some((_, parts)), Some(outputs)) = (self.part, stored.first_mut()) {
            *outputs *= parts;
        }
        self.turned(&stored)
    }

    /// Rows of the view, as outputs of the stored tensor, whose shape it is.
    pub(in super::super) fn outputs(&self, stored: &[usize], rows: Range<usize>) -> Range<usize> {
        let (index, _) = self.part.unwrap_or((0, 1));
        let count = self.shape(stored).first().copied().unwrap_or(0);
        index * count + rows.start..index * count + rows.end
    }

    fn turned(&self, shape: &[usize]) -> Vec<usize> {
        let mut shape = shape.to_vec();
        if self.transposed {
            shape.reverse();
        }
        shape
    }
}

/// Columns of a matrix [rows, columns] that comes row by row, gathered as rows.
pub(super) struct Columns {
    wanted: Range<usize>,
    rows: usize,
    columns: usize,
    seen: usize,
    data: Vec<f32>,
}

impl Columns {
    /// Of a matrix of these extents, nothing seen yet.
    pub(super) fn new(wanted: Range<usize>, rows: usize, columns: usize) -> Self {
        Self {
            data: vec![0.0; wanted.len() * rows],
            wanted,
            rows,
            columns,
            seen: 0,
        }
    }

    /// The matrix's next entries.
    pub(super) fn take(&mut self, entries: &[f32]) {
        for &entry in entries {
            let (row, column) = (self.seen / self.columns, self.seen % self.columns);
            if self.wanted.contains(&column) {
                self.data[(column - self.wanted.start) * self.rows + row] = entry;
            }
            self.seen += 1;
        }
    }

    /// One row for each wanted column.
    pub(super) fn into_rows(self) -> Vec<f32> {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_transposed_matrix_is_where_it_should_be() {
        let view = View {
            tensor: "w".into(),
            transposed: true,
            part: Some((1, 3)),
        };
        assert_eq!(view.shape(&[2, 6]), [2, 2]);
        assert_eq!(view.stored(&[2, 2]), [2, 6]);
        assert_eq!(view.outputs(&[2, 6], 1..2), 3..4);
        let mut columns = Columns::new(2..4, 2, 6);
        let entries: Vec<f32> = (0..12u8).map(f32::from).collect();
        // pieces need not end where rows do
        columns.take(&entries[..5]);
        columns.take(&entries[5..]);
        assert_eq!(columns.into_rows(), [2.0, 8.0, 3.0, 9.0]);
    }
}
