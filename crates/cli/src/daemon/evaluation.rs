//! A policy is measured in the simulator of this machine, while the robot itself is at rest.

use anyhow::Context as _;
use sinew_core::service::{Eval, Refusal};
use sinew_runtime::StopFlag;

use super::asked::check_counts;
use super::work::{option, parsed};
use super::{Owned, children, store};

impl Owned {
    /// The words of an evaluation's command line.
    pub(super) fn eval(&self, work: &Eval) -> Result<Vec<String>, Refusal> {
        if let Some(policy) = &work.policy {
            store::check_of_hub("policy", policy)?;
        }
        check_counts(work.episodes, work.seed)?;
        let mut words = vec!["eval".to_owned(), "--json".to_owned(), "--force".to_owned(), format!("--robot={}", self.args.rig.robot)];
        option(&mut words, "policy", work.policy.as_deref().map(|policy| self.policies.pinned(policy)));
        option(&mut words, "task", work.task.as_deref());
        option(&mut words, "episodes", work.episodes);
        option(&mut words, "seed", work.seed);
        words.push(format!("--contact-sheet={}", self.datasets.join(".eval.png").display()));
        parsed(words.clone())?;
        Ok(words)
    }

    /// An evaluation is a process of its own: it keeps all cores busy and moves no robot, so that nothing here is to wait for it.
    pub(super) fn evaluate(&self, words: &[String], stop: &StopFlag) -> anyhow::Result<bool> {
        let (mut child, lifeline) = children::start(words).context("starting the evaluation")?;
        let heard = child.stderr.take().map(|stderr| std::thread::spawn(move || super::tasks::last_of(stderr)));
        let lines = child.stdout.take().map(|stdout| std::io::BufRead::lines(std::io::BufReader::new(stdout)));
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || {
                for line in lines.into_iter().flatten().map_while(Result::ok) {
                    self.update(|current| {
                        current.progress = None;
                        current.work.phase = sinew_core::service::Phase::Running;
                        current.work.episode = current.reports.len() as u64 + 1;
                        current.reports.extend(serde_json::from_str::<serde_json::Value>(&line));
                    });
                }
            });
            let status = loop {
                if let Some(status) = child.try_wait().context("waiting for the evaluation")? {
                    break status;
                }
                if stop.is_requested() {
                    // It has nothing to bring into safety.
                    children::end(&child);
                }
                std::thread::sleep(children::LOOK);
            };
            drop(lifeline);
            drop(reading.join());
            let said = heard.and_then(|heard| heard.join().ok()).unwrap_or_default();
            anyhow::ensure!(status.success() || stop.is_requested(), "evaluating: {}", said.trim().trim_start_matches("error: "));
            Ok(stop.is_requested())
        })
    }
}
