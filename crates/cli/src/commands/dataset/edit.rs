//! What changes a dataset: the plan is shown, the user asked, then it is done.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sinew_recorder::{Output, Plan, Progress, ToolError};

use super::watch::{Answer, Watch};
use crate::args::{EditArgs, HowArgs};
use crate::text::{note, say};
use crate::{Done, text};

pub struct Edit<'a> {
    output: Output,
    how: &'a HowArgs,
    watch: Watch,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    plan: &'a Plan,
    done: bool,
    roots: Vec<PathBuf>,
}

impl<'a> Edit<'a> {
    /// To where `--out` says, or in place.
    pub fn of(edit: &'a EditArgs) -> anyhow::Result<Self> {
        let output = edit.out.clone().map_or(Output::InPlace, Output::Folder);
        Ok(Self { output, how: &edit.how, watch: Watch::start()? })
    }

    pub fn to(out: &Path, how: &'a HowArgs) -> anyhow::Result<Self> {
        Ok(Self { output: Output::Folder(out.to_owned()), how, watch: Watch::start()? })
    }

    pub fn run(&self, plan: impl FnOnce(&mut Progress<'_>) -> Result<Plan, ToolError>) -> anyhow::Result<Done> {
        self.run_if_any(|progress| plan(progress).map(Some), "")
    }

    /// The same where there may be nothing to do; then `nothing` is said.
    pub fn run_if_any(
        &self,
        plan: impl FnOnce(&mut Progress<'_>) -> Result<Option<Plan>, ToolError>,
        nothing: &str,
    ) -> anyhow::Result<Done> {
        let Some(plan) = self.watch.run(plan)? else { return Ok(Done::Interrupted) };
        let Some(plan) = plan else {
            if self.how.json {
                text::print_json(&serde_json::json!({"plan": null, "done": false, "roots": []}))?;
            } else {
                say!("{nothing}");
            }
            return Ok(Done::Ok);
        };
        if !self.how.json {
            say!("{}", plan.to_string().trim_end());
            match &self.output {
                Output::InPlace => say!("  to   its own place; what is there now is kept for `sinew dataset undo`"),
                Output::Folder(folder) => say!("  to   {}", folder.display()),
            }
        }
        match may_go_on(&self.watch, self.how)? {
            Some(Answer::Yes) => {}
            Some(Answer::No) => return Ok(Done::Refused),
            Some(Answer::Interrupted) => return Ok(Done::Interrupted),
            None => {
                self.report(&plan, None)?;
                return Ok(Done::Ok);
            }
        }
        let Some(roots) = self.watch.run(|progress| plan.run(&self.output, progress))? else { return Ok(Done::Interrupted) };
        self.report(&plan, Some(roots))?;
        Ok(Done::Ok)
    }

    fn report(&self, plan: &Plan, roots: Option<Vec<PathBuf>>) -> anyhow::Result<()> {
        let done = roots.is_some();
        let roots = roots.unwrap_or_default();
        if self.how.json {
            return text::print_json(&Report { plan, done, roots });
        }
        for root in &roots {
            say!("done: {}", root.display());
            if self.output == Output::InPlace {
                say!("  sinew dataset undo {}", root.display());
            }
        }
        Ok(())
    }
}

/// Asks, where `how` does not say it already; `None` when nothing is to be done.
pub fn may_go_on(watch: &Watch, how: &HowArgs) -> anyhow::Result<Option<Answer>> {
    if how.dry_run {
        return Ok(None);
    }
    if how.yes {
        return Ok(Some(Answer::Yes));
    }
    let answer = watch.ask("Do it?", "--yes does it, --dry-run only looks")?;
    if answer == Answer::No {
        note!("nothing was changed");
    }
    Ok(Some(answer))
}

pub fn undo(dir: &Path, how: &HowArgs) -> anyhow::Result<Done> {
    let watch = Watch::start()?;
    if !how.json {
        say!("bring back what was in {} before the last change in place; that change is then what is kept", dir.display());
    }
    let answer = may_go_on(&watch, how)?;
    if answer == Some(Answer::Yes) {
        sinew_recorder::undo(dir)?;
    }
    super::finish(answer, how, dir)
}
