//! A checkpoint and a robot side by side.

use std::fmt;

use serde::Serialize;

/// How a checkpoint and a robot compare, feature by feature. Displays as a table of two columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fit {
    pub robot: String,
    pub rows: Vec<FitRow>,
}

/// One feature on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FitRow {
    pub feature: String,
    /// What the checkpoint wants, in words.
    pub checkpoint: String,
    /// What the robot has, in words.
    pub robot: String,
    pub fits: bool,
}

impl Fit {
    /// Whether the checkpoint can drive the robot.
    pub fn is_fit(&self) -> bool {
        self.rows.iter().all(|row| row.fits)
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = FitRow { feature: String::new(), checkpoint: "checkpoint".into(), robot: format!("robot {}", self.robot), fits: true };
        let widest = |cell: fn(&FitRow) -> &str| self.rows.iter().chain([&title]).map(|row| cell(row).len()).max().unwrap_or(0);
        let (first, second) = (widest(|row| &row.feature), widest(|row| &row.checkpoint));
        for row in [&title].into_iter().chain(&self.rows) {
            let mark = if row.fits { ' ' } else { '!' };
            writeln!(f, "{mark} {:first$}  {:second$}  {}", row.feature, row.checkpoint, row.robot)?;
        }
        Ok(())
    }
}
