//! What takes long and moves nothing: each is a verb of this program, in a process of its own that can't slow the robot's down.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, ChildStdout};
use std::sync::{Arc, Mutex};

use serde_json::Value as Json;
use sinew_core::service::{Refusal, Task, TaskProgress, TaskState};

use super::publish::Staged;
use super::{Owned, children, lock, store, words};
use crate::text;
use crate::transfer::Told;

/// How many run at once, and how many are remembered.
const MOST_AT_ONCE: usize = 2;
const MOST_KEPT: usize = 50;
/// So long may a line be that a task prints.
const MOST_BYTES: u64 = 4 << 20;
const MOST_WORDS: usize = 4000;

/// Tasks that run, and those that ended lately.
#[derive(Default)]
pub struct Tasks(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    count: u64,
    states: VecDeque<TaskState>,
    running: Vec<Running>,
    is_over: bool,
}

struct Running {
    number: u64,
    /// Once it is started.
    child: Option<Child>,
    is_cancelled: bool,
}

impl Running {
    fn end(&self) {
        self.child.iter().for_each(children::end);
    }
}

/// The command line that does a task, and what is made for it before.
pub struct Order {
    words: Vec<String>,
    staged: Option<Staged>,
}

impl Owned {
    /// How a task is done.
    pub(super) fn order_of(&self, task: &Task) -> Result<Order, Refusal> {
        let order = |words: &[&str], names: &[&str]| {
            let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            if !names.is_empty() {
                words.push("--".to_owned());
            }
            words.extend(names.iter().map(|name| (*name).to_owned()));
            Order { words, staged: None }
        };
        let private = |is: bool| if is { &["--private"][..] } else { &[] };
        let robot = format!("--robot={}", self.args.rig.robot);
        Ok(match task {
            Task::FetchPolicy { policy } => {
                store::check_of_hub("policy", policy)?;
                order(&["hub", "download", "--type=model", "--json"], &[policy])
            }
            Task::CheckPolicy { policy } => {
                policy.as_deref().map_or(Ok(()), store::check_policy)?;
                let pin = |policy: &String| if store::is_of_hub(policy) { self.policies.pinned(policy) } else { policy.clone() };
                order(&["policy", "check", "--json", &robot], policy.as_ref().map(pin).as_deref().as_slice())
            }
            Task::FetchDataset { dataset } => {
                store::check_of_hub("dataset", dataset)?;
                order(&["hub", "download", "--type=dataset", "--json"], &[dataset])
            }
            Task::VerifyDataset { dataset } => order(&["dataset", "verify", "--json"], &[&self.dataset_or_hub(dataset)?]),
            Task::PublishDataset { dataset, repo, private: is_private } => {
                store::check_repo(repo)?;
                let place = self.dataset_to_publish(dataset)?.display().to_string();
                order(&[&["hub", "upload", "--type=dataset", "--json"], private(*is_private)].concat(), &[&place, repo])
            }
            Task::PublishPolicy { policy, repo, private: is_private } => {
                store::check_repo(repo)?;
                let staged = self.policy_to_publish(policy, repo)?;
                let place = staged.folder.display().to_string();
                let order = order(&[&["hub", "upload", "--type=model", "--json"], private(*is_private)].concat(), &[&place, repo]);
                Order { staged: Some(staged), ..order }
            }
            Task::Doctor {} => order(&["doctor", "--json"], &[]),
        })
    }
}

impl Tasks {
    /// Begins what this orders, and does `then` when it has ended well.
    pub fn begin(&self, task: Task, order: Order, then: impl FnOnce() + Send + 'static) -> Result<u64, Refusal> {
        let mut inner = lock(&self.0);
        if inner.is_over || inner.running.len() >= MOST_AT_ONCE {
            return Err(Refusal::Conflict(format!("{MOST_AT_ONCE} tasks run; wait for one")));
        }
        if task.publishes() && inner.states.iter().any(|state| !state.is_done && state.task == task) {
            return Err(Refusal::Conflict("this is being published already".to_owned()));
        }
        inner.count += 1;
        let number = inner.count;
        let (tasks, own) = (self.0.clone(), number);
        let does = move || {
            let done = run(&tasks, own, order);
            if let Ok((None, Some(_))) = &done {
                then();
            }
            let mut inner = lock(&tasks);
            let running = inner.running.iter().position(|running| running.number == own).map(|at| inner.running.swap_remove(at));
            let Some(state) = inner.states.iter_mut().find(|state| state.number == own) else { return };
            (state.is_done, state.progress) = (true, None);
            match done {
                // What it says of its end is no error of its own.
                _ if running.is_some_and(|running| running.is_cancelled) => state.is_cancelled = true,
                Ok((error, result)) => (state.error, state.result) = (error, result),
                Err(error) => state.error = Some(words::of_the_api(&text::chain(&error))),
            }
        };
        let thread = std::thread::Builder::new().name("task".into());
        thread.spawn(does).map_err(|error| Refusal::Failed(format!("starting the task: {error}")))?;
        inner.running.push(Running { number, child: None, is_cancelled: false });
        inner.states.push_back(TaskState { number, task, is_done: false, is_cancelled: false, progress: None, error: None, result: None });
        if inner.states.len() > MOST_KEPT {
            inner.states.pop_front();
        }
        Ok(number)
    }

    pub fn list(&self) -> Vec<TaskState> {
        lock(&self.0).states.iter().cloned().collect()
    }

    /// Ends one that runs.
    pub fn cancel(&self, number: u64) -> Result<(), Refusal> {
        let mut inner = lock(&self.0);
        let running = inner.running.iter_mut().find(|running| running.number == number);
        let running = running.ok_or_else(|| Refusal::Missing(format!("there is no task {number} that runs")))?;
        running.is_cancelled = true;
        running.end();
        Ok(())
    }

    /// Those that run are ended, and no further one begins.
    pub fn end(&self) {
        let mut inner = lock(&self.0);
        inner.is_over = true;
        inner.running.iter().for_each(Running::end);
    }
}

/// Does a task to its end: why its verb failed, where it did, and what it printed.
fn run(tasks: &Mutex<Inner>, number: u64, Order { words: line, staged }: Order) -> anyhow::Result<(Option<String>, Option<Json>)> {
    staged.as_ref().map_or(Ok(()), Staged::fill)?;
    let (stdout, stderr, lifeline) = {
        let mut inner = lock(tasks);
        let is_over = inner.is_over;
        let Some(running) = inner.running.iter_mut().find(|running| running.number == number && !running.is_cancelled && !is_over) else {
            return Ok((None, None));
        };
        let (mut child, lifeline) = children::start(&line)?;
        let pipes = (child.stdout.take(), child.stderr.take(), lifeline);
        running.child = Some(child);
        pipes
    };
    let heard = std::thread::spawn(move || stderr.map(last_of).unwrap_or_default());
    let show = |progress| {
        if let Some(state) = lock(tasks).states.iter_mut().find(|state| state.number == number) {
            state.progress = Some(progress);
        }
    };
    let result = stdout.and_then(|stdout| result_of(stdout, show));
    let heard = heard.join().unwrap_or_default();
    // It has closed its outputs, so that it ends; who cancels it meanwhile still finds it.
    let status = loop {
        let mut inner = lock(tasks);
        let child = inner.running.iter_mut().find(|running| running.number == number).and_then(|running| running.child.as_mut());
        match child.map(Child::try_wait) {
            Some(Ok(None)) => {}
            Some(ended) => break ended?,
            None => break None,
        }
        drop(inner);
        std::thread::sleep(children::LOOK);
    };
    drop(lifeline);
    let is_good = status.is_some_and(|status| status.success());
    let error = (!is_good).then(|| match heard.trim().trim_start_matches("error: ") {
        "" => "it says that something is wrong; see the result".to_owned(),
        said => words::of_the_api(said),
    });
    Ok((error, result))
}

/// The last line of JSON that a verb prints, but for those that say how far it is.
fn result_of(stdout: ChildStdout, show: impl Fn(TaskProgress)) -> Option<Json> {
    let (mut reader, mut line, mut result) = (BufReader::new(stdout), Vec::new(), None);
    // What can't be read is the end.
    while (&mut reader).take(MOST_BYTES).read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        if let Ok(Told { progress }) = serde_json::from_slice(&line) {
            show(progress);
        } else if let Ok(value) = serde_json::from_slice(&line) {
            result = Some(value);
        }
        line.clear();
    }
    result
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
