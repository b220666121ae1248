//! How what a server wants and answers compares with a robot.

use std::fmt;

use serde::Serialize;

/// Both sides, line by line. Displays as a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fit {
    pub robot: String,
    pub rows: Vec<FitRow>,
}

/// One thing on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FitRow {
    pub what: String,
    pub server: String,
    pub robot: String,
    pub fits: bool,
}

impl Fit {
    pub(crate) fn row(&mut self, what: impl Into<String>, server: impl Into<String>, robot: impl Into<String>, fits: bool) {
        self.rows.push(FitRow { what: what.into(), server: server.into(), robot: robot.into(), fits });
    }

    /// Whether all of it does.
    pub fn is_fit(&self) -> bool {
        self.rows.iter().all(|row| row.fits)
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = FitRow { what: String::new(), server: "server".into(), robot: format!("robot {}", self.robot), fits: true };
        let widest = |cell: fn(&FitRow) -> &str| self.rows.iter().chain([&title]).map(|row| cell(row).len()).max().unwrap_or(0);
        let (first, second) = (widest(|row| &row.what), widest(|row| &row.server));
        for row in [&title].into_iter().chain(&self.rows) {
            let mark = if row.fits { ' ' } else { '!' };
            writeln!(f, "{mark} {:first$}  {:second$}  {}", row.what, row.server, row.robot)?;
        }
        Ok(())
    }
}
