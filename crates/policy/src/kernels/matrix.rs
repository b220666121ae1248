//! Views of rows.

use std::ops::Range;

/// Rows of values in memory, perhaps part of wider ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    /// From the first value of the first row to at least the last one of the last.
    pub values: &'a [f32],
    pub rows: usize,
    pub width: usize,
    /// From one row to the next.
    pub stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `width` one right after the other. `width` is not 0.
    pub(crate) fn dense(values: &'a [f32], width: usize) -> Self {
        assert_eq!(values.len() % width, 0, "rows of {width} in {} values", values.len());
        Self { values, rows: values.len() / width, width, stride: width }
    }

    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..self.width]
    }

    pub(crate) fn columns(self, columns: Range<usize>) -> Self {
        assert!(columns.end <= self.width, "columns {columns:?} of {}", self.width);
        let values = if self.rows == 0 { self.values } else { &self.values[columns.start..] };
        Self { values, width: columns.len(), ..self }
    }

    pub(crate) fn rows(self, rows: Range<usize>) -> Self {
        assert!(rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        let values = if rows.is_empty() { &[] } else { &self.values[rows.start * self.stride..] };
        Self { values, rows: rows.len(), ..self }
    }
}
