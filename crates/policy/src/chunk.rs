//! Rows of actions, which are what a policy answers.

/// Rows of actions in the dataset's units, as a robot would receive them: `[rows, width]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Actions {
    pub rows: usize,
    pub width: usize,
    pub values: Vec<f32>,
}

impl Actions {
    /// The action `[width]` of row `index`, counted from 0; empty where there is no such row.
    pub fn row(&self, index: usize) -> &[f32] {
        index.checked_mul(self.width).and_then(|at| self.values.get(at..)?.get(..self.width)).unwrap_or_default()
    }
}

/// An answer with what it was before the postprocessor: what the next answer can be made to continue
/// ([`Guidance::previous`](crate::Guidance::previous)).
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    pub actions: Actions,
    /// The same rows as the model gave them, normalised.
    pub normalized: Actions,
}

impl Chunk {
    /// The last `rows` rows, or all where there are not so many.
    pub fn rest(&self, rows: usize) -> Self {
        let rest = |all: &Actions| {
            let rows = rows.min(all.rows);
            Actions { rows, width: all.width, values: all.values.get((all.rows - rows) * all.width..).unwrap_or_default().to_vec() }
        };
        Self { actions: rest(&self.actions), normalized: rest(&self.normalized) }
    }
}
