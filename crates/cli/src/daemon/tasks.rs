//! What takes long and moves nothing: each is a verb of this program, in a process of its own that can't slow the robot's down.

use std::collections::VecDeque;
use std::io::Read;
use std::process::Child;
use std::sync::{Arc, Mutex};

use sinew_core::service::{Refusal, Task, TaskState};

use super::{Owned, children, lock, words};

/// How many run at once, and how many are remembered.
const MOST_AT_ONCE: usize = 2;
const MOST_KEPT: usize = 50;
/// So much of what a task prints is kept.
const MOST_BYTES: u64 = 4 << 20;
const MOST_WORDS: usize = 4000;

/// Tasks that run, and those that ended lately.
#[derive(Default)]
pub struct Tasks(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    count: u64,
    states: VecDeque<TaskState>,
    children: Vec<(u64, Child)>,
    is_over: bool,
}

impl Owned {
    /// The command line that does a task.
    pub(super) fn words_of(&self, task: &Task) -> Result<Vec<String>, Refusal> {
        let words = |words: &[&str], name: Option<&str>| {
            let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            words.extend(name.into_iter().flat_map(|name| ["--".to_owned(), name.to_owned()]));
            words
        };
        let robot = format!("--robot={}", self.args.rig.robot);
        Ok(match task {
            Task::FetchPolicy { policy } => {
                super::store::check_of_hub("policy", policy)?;
                words(&["hub", "download", "--type=model", "--json"], Some(policy))
            }
            Task::CheckPolicy { policy } => {
                policy.as_deref().map_or(Ok(()), super::store::check_policy)?;
                let pin = |policy: &String| if super::store::is_of_hub(policy) { self.policies.pinned(policy) } else { policy.clone() };
                words(&["policy", "check", "--json", &robot], policy.as_ref().map(pin).as_deref())
            }
            Task::FetchDataset { dataset } => {
                super::store::check_of_hub("dataset", dataset)?;
                words(&["hub", "download", "--type=dataset", "--json"], Some(dataset))
            }
            Task::VerifyDataset { dataset } => words(&["dataset", "verify", "--json"], Some(&self.dataset_or_hub(dataset)?)),
            Task::Doctor {} => words(&["doctor", "--json"], None),
        })
    }
}

impl Tasks {
    /// Begins the verb of these words, and does `then` when it has ended well.
    pub fn begin(&self, task: Task, line: Vec<String>, then: impl FnOnce() + Send + 'static) -> Result<u64, Refusal> {
        let failed = |error: std::io::Error| Refusal::Failed(format!("starting the task: {error}"));
        let mut inner = lock(&self.0);
        if inner.is_over || inner.children.len() >= MOST_AT_ONCE {
            return Err(Refusal::Conflict(format!("{MOST_AT_ONCE} tasks run; wait for one")));
        }
        let (mut child, lifeline) = children::start(&line).map_err(failed)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        inner.count += 1;
        let number = inner.count;
        inner.states.push_back(TaskState { number, task, is_done: false, error: None, result: None });
        if inner.states.len() > MOST_KEPT {
            inner.states.pop_front();
        }
        inner.children.push((number, child));
        drop(inner);
        let tasks = self.0.clone();
        let wait = move || {
            let heard = std::thread::spawn(move || stderr.map(last_of).unwrap_or_default());
            let mut said = String::new();
            // What is no UTF-8 is no JSON.
            drop(stdout.map(|stdout| stdout.take(MOST_BYTES).read_to_string(&mut said)));
            let heard = heard.join().unwrap_or_default();
            let child = {
                let mut inner = lock(&tasks);
                let at = inner.children.iter().position(|(other, _)| *other == number);
                at.map(|at| inner.children.swap_remove(at).1)
            };
            let status = child.and_then(|mut child| child.wait().ok());
            drop(lifeline);
            let result = said.lines().rev().find_map(|line| serde_json::from_str(line).ok());
            let is_good = status.is_some_and(|status| status.success());
            if is_good {
                then();
            }
            let error = (!is_good).then(|| match heard.trim().trim_start_matches("error: ") {
                "" => "it says that something is wrong; see the result".to_owned(),
                said => words::of_the_api(said),
            });
            if let Some(state) = lock(&tasks).states.iter_mut().find(|state| state.number == number) {
                (state.is_done, state.error, state.result) = (true, error, result);
            }
        };
        std::thread::Builder::new().name("task".into()).spawn(wait).map_err(failed)?;
        Ok(number)
    }

    pub fn list(&self) -> Vec<TaskState> {
        lock(&self.0).states.iter().cloned().collect()
    }

    /// Those that run are ended, and no further one begins.
    pub fn end(&self) {
        let mut inner = lock(&self.0);
        inner.is_over = true;
        inner.children.iter().for_each(|(_, child)| children::end(child));
    }
}

/// The end of what comes, as text.
pub fn last_of(mut from: impl Read) -> String {
    let (mut kept, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(count) = from.read(&mut piece)
        && count > 0
    {
        kept.extend_from_slice(&piece[..count]);
        let before = kept.len().saturating_sub(MOST_WORDS);
        kept.drain(..before);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
