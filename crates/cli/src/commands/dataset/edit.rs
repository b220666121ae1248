//! What changes a dataset: the plan is shown, the user asked, then it is done.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sinew_recorder::{Output, Plan, Progress, Space, ToolError, kept_for_undo, plan_undo};

use crate::args::{EditArgs, HowArgs};
use crate::text::{note, say};
use crate::watch::{Answer, Watch};
use crate::{Done, text};

pub struct Edit<'a> {
    output: Output,
    how: &'a HowArgs,
    watch: Watch,
}

/// How often a plan is made again for a dataset that changes all the time.
const MOST_PLANS: u32 = 4;

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    plan: &'a Plan,
    room: Space,
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

    pub fn run(&self, plan: impl Fn(&mut Progress<'_>) -> Result<Plan, ToolError>) -> anyhow::Result<Done> {
        self.run_if_any(|progress| plan(progress).map(Some), "")
    }

    /// The same where there may be nothing to do; then `nothing` is said.
    pub fn run_if_any(&self, plan: impl Fn(&mut Progress<'_>) -> Result<Option<Plan>, ToolError>, nothing: &str) -> anyhow::Result<Done> {
        for again in (0..MOST_PLANS).rev() {
            let Some(plan) = self.watch.run(&plan)? else { return Ok(Done::Interrupted) };
            let Some(plan) = plan else {
                if self.how.json {
                    text::print_json(&serde_json::json!({"plan": null, "done": false, "roots": []}))?;
                } else {
                    say!("{nothing}");
                }
                return Ok(Done::Ok);
            };
            // Before anything is asked.
            plan.check(&self.output)?;
            self.show(&plan)?;
            match may_go_on(&self.watch, self.how)? {
                Some(Answer::Yes) => {}
                Some(Answer::No) => return Ok(Done::Refused),
                Some(Answer::Interrupted) => return Ok(Done::Interrupted),
                None => {
                    self.report(&plan, None)?;
                    return Ok(Done::Ok);
                }
            }
            let place = Place::of(plan.sources.first().filter(|_| self.output == Output::InPlace));
            match self.watch.run(|progress| plan.run(&self.output, progress)) {
                Ok(None) => return Ok(Done::Interrupted),
                Ok(roots) => {
                    self.report(&plan, roots)?;
                    place.say();
                    return Ok(Done::Ok);
                }
                // While the question waited, an episode was recorded, or so.
                Err(error) if again > 0 && matches!(error.downcast_ref(), Some(ToolError::Changed { .. })) => {
                    note!("{error}; this is the plan now");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Done::Refused)
    }

    fn show(&self, plan: &Plan) -> anyhow::Result<()> {
        if self.how.json {
            return Ok(());
        }
        say!("{}", plan.to_string().trim_end());
        let space = plan.space(&self.output)?;
        let free = space.free_bytes.map_or(String::new(), |free| format!(", {} are free there", text::bytes(free)));
        say!("  room: about {}{free}", text::bytes(space.needed_bytes));
        match &self.output {
            Output::Folder(folder) => say!("  to   {}", folder.display()),
            Output::InPlace => {
                say!("  to   its own place; what is there now is kept for `sinew dataset undo`");
                if let Some(kept) = plan.sources.first().map(|root| kept_for_undo(root)).transpose()?.flatten() {
                    say!("  what was kept until now goes: {}, {}", kept.contents, text::bytes(kept.own_bytes));
                }
            }
        }
        Ok(())
    }

    fn report(&self, plan: &Plan, roots: Option<Vec<PathBuf>>) -> anyhow::Result<()> {
        let done = roots.is_some();
        let roots = roots.unwrap_or_default();
        if self.how.json {
            return text::print_json(&Report { plan, room: plan.space(&self.output)?, done, roots });
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

/// A dataset's folder, if the shell that this was started from is in it.
struct Place(Option<PathBuf>);

impl Place {
    fn of(dir: Option<impl AsRef<Path>>) -> Self {
        let resolved = dir.and_then(|dir| std::fs::canonicalize(dir).ok());
        let here = std::env::current_dir().and_then(std::fs::canonicalize).ok();
        Self(resolved.filter(|root| here.is_some_and(|here| here.starts_with(root))))
    }

    /// Once another folder has taken its place.
    fn say(&self) {
        if let Some(root) = &self.0 {
            note!("this shell is now in what is kept for undo, not in the dataset: cd {}", root.display());
        }
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
    match answer {
        Answer::Yes => {}
        Answer::No => note!("nothing was changed"),
        Answer::Interrupted => note!("{}", ToolError::Stopped),
    }
    Ok(Some(answer))
}

/// `sinew dataset undo`; what was made since the last change goes only with `lose_newer`.
pub fn undo(dir: &Path, lose_newer: bool, how: &HowArgs) -> anyhow::Result<Done> {
    let watch = Watch::start()?;
    let plan = plan_undo(dir)?;
    if !how.json {
        say!("{}", plan.to_string().trim_end());
    }
    if let Some(newer) = plan.newer().filter(|_| !lose_newer && !how.dry_run) {
        let first = plan.newer_episodes.map_or(String::new(), |(first, end)| {
            let root = dir.display();
            format!("; `sinew dataset split {root} --part newer={first}-{} --out OUT` takes them out before", end - 1)
        });
        anyhow::bail!("undoing the last change of {}: {newer}, and would go; --lose-newer does it all the same{first}", dir.display());
    }
    let answer = may_go_on(&watch, how)?;
    let done = answer == Some(Answer::Yes);
    let place = Place::of(Some(dir).filter(|_| done));
    // What is at a name that begins in the dataset is another folder afterwards.
    let root = place.0.clone().unwrap_or_else(|| dir.to_owned());
    if done {
        plan.run(lose_newer)?;
    }
    let ended = if how.json {
        text::print_json(&serde_json::json!({"root": root, "plan": plan, "done": done}))?;
        super::ended(answer)
    } else {
        super::finish(answer, how, &root)?
    };
    place.say();
    Ok(ended)
}

/// `sinew dataset undo --forget`.
pub fn forget(dir: &Path, how: &HowArgs) -> anyhow::Result<Done> {
    let watch = Watch::start()?;
    for again in (0..MOST_PLANS).rev() {
        let Some(kept) = kept_for_undo(dir)? else { anyhow::bail!("forgetting what is kept of {}: there is nothing", dir.display()) };
        if !how.json {
            let operation = kept.operation.as_ref().map_or(String::new(), |operation| format!(" before: {operation}"));
            say!("forget what was in {}{operation}", dir.display());
            say!("  {}, {}", kept.contents, text::bytes(kept.own_bytes));
        }
        let answer = may_go_on(&watch, how)?;
        let forgotten = if answer == Some(Answer::Yes) { kept.forget() } else { Ok(()) };
        match forgotten {
            Ok(()) => return super::finish(answer, how, dir),
            // While the question waited, the dataset was changed again.
            Err(error @ ToolError::Changed { .. }) if again > 0 && !how.yes => note!("{error}; this is what is kept now"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Done::Refused)
}
