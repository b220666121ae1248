//! What is printed at the end.

use std::collections::{BTreeMap, BTreeSet};

use super::trouble::{PHASES, Phase, Plan, TROUBLES, Trouble};

/// What has been found, a cell a trouble and phase.
#[derive(Default)]
pub struct Table {
    cells: BTreeMap<(Trouble, Phase), Found>,
    /// Why some of those who act don't meet it, with who they are.
    not_by: BTreeMap<&'static str, BTreeSet<String>>,
    /// Why it is not run everywhere, with what that is.
    elsewhere: BTreeMap<&'static str, BTreeSet<String>>,
}

#[derive(Default)]
struct Found {
    cells: u32,
    slowest_ns: Option<i64>,
    faults: Vec<String>,
    why_not: Option<&'static str>,
}

impl Table {
    pub fn add(&mut self, plan: &Plan, came: Result<Option<i64>, String>) {
        let found = self.cells.entry((plan.trouble, plan.phase)).or_default();
        found.cells += 1;
        match came {
            Ok(reaction_ns) => found.slowest_ns = found.slowest_ns.max(reaction_ns),
            Err(what) => found.faults.push(format!("{:?} {:?}: {what}", plan.who, plan.venue)),
        }
    }

    /// It can't occur; where nobody can meet it, the reason is that of who is asked last.
    pub fn add_reason(&mut self, plan: &Plan, why: &'static str) {
        self.cells.entry((plan.trouble, plan.phase)).or_default().why_not = Some(why);
        self.not_by.entry(why).or_default().insert(format!("{:?}", plan.who));
    }

    /// It can occur, and is run elsewhere.
    pub fn add_elsewhere(&mut self, plan: &Plan, why: &'static str) {
        self.elsewhere.entry(why).or_default().insert(plan.trouble.to_string());
    }

    /// All that went wrong.
    pub fn faults(&self) -> Vec<String> {
        let of = |((trouble, phase), found): (&(Trouble, Phase), &Found)| {
            found.faults.iter().map(|what| format!("{trouble} × {phase:?}: {what}")).collect::<Vec<_>>()
        };
        self.cells.iter().flat_map(of).collect()
    }

    /// Those cells of which nobody says anything.
    pub fn gaps(&self) -> Vec<String> {
        let all = TROUBLES.iter().flat_map(|trouble| PHASES.map(|phase| (*trouble, phase)));
        let is_gap = |key: &(Trouble, Phase)| self.cells.get(key).is_none_or(|found| found.cells == 0 && found.why_not.is_none());
        all.filter(is_gap).map(|(trouble, phase)| format!("{trouble} × {phase:?}")).collect()
    }

    pub fn print(&self) {
        let mut reasons: Vec<&str> = Vec::new();
        let names = ["arming", "way to start", "first tick", "mid-episode", "hand-over", "way to rest"];
        println!("\n{:24}{}", "", names.map(|name| format!("{name:>14}")).join(""));
        for trouble in TROUBLES {
            let mut line = format!("{trouble:24}");
            for phase in PHASES {
                let found = self.cells.get(&(*trouble, phase));
                let text = match found {
                    Some(found) if !found.faults.is_empty() => "FAILS".to_owned(),
                    Some(Found { cells: 1.., slowest_ns: Some(ns), .. }) => format!("ok {} ms", (ns + 500_000) / 1_000_000),
                    Some(Found { cells: 1.., .. }) => "ok".to_owned(),
                    Some(Found { why_not: Some(why), .. }) => {
                        let at = reasons.iter().position(|reason| reason == why).unwrap_or_else(|| {
                            reasons.push(why);
                            reasons.len() - 1
                        });
                        format!("– ({})", at + 1)
                    }
                    _ => "?".to_owned(),
                };
                line += &format!("{text:>14}");
            }
            println!("{line}");
        }
        println!("ok N ms: the slowest safe action after the fault was final; ok: borne, or the way to rest comes first.");
        println!("– cannot occur:");
        reasons.iter().enumerate().for_each(|(i, why)| println!("  ({}) {why}", i + 1));
        println!("Nor, where only some of those who act meet it:");
        for (why, whos) in self.not_by.iter().filter(|(why, _)| !reasons.contains(*why)) {
            println!("  {why}: {}", whos.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
        }
        println!("Not run everywhere, because");
        for (why, troubles) in &self.elsewhere {
            let some: Vec<&str> = troubles.iter().map(String::as_str).collect();
            let words = if some.len() > 20 { format!("{} of them", some.len()) } else { some.join(", ") };
            println!("  {why}: {words}");
        }
        println!("{} cells", self.cells.values().map(|found| found.cells).sum::<u32>());
    }
}
