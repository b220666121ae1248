//! Jobs: what was asked for, and what becomes of it as time goes on.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::access::short_id;
use super::clock::{instant, iso, unix_s};

/// How a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// `COMPLETED`.
    Completed,
    /// `ERROR`.
    Error,
    /// It goes on until it is cancelled.
    Never,
}

/// What a job does.
#[derive(Clone, Debug)]
pub struct JobScript {
    /// How long it waits for a machine.
    pub waits: Duration,
    /// Lines of its log, each so long after the one before.
    pub lines: Vec<(Duration, String)>,
    /// How it ends, right after its last line.
    pub end: JobEnd,
    /// What is said with its end.
    pub message: Option<String>,
}

/// One that was asked for.
#[derive(Debug)]
pub(super) struct Job {
    pub id: String,
    pub namespace: String,
    pub user: String,
    pub spec: Value,
    script: JobScript,
    begun: Instant,
    created_s: u64,
    cancelled: Option<Duration>,
}

impl Job {
    /// `SCHEDULING`, `RUNNING`, `COMPLETED`, `ERROR` or `CANCELED`.
    pub fn stage(&self) -> &'static str {
        let end = self.script.waits + self.script.lines.iter().map(|(after, _)| *after).sum::<Duration>();
        match self.begun.elapsed() {
            _ if self.cancelled.is_some() => "CANCELED",
            elapsed if elapsed < self.script.waits => "SCHEDULING",
            elapsed if elapsed < end || self.script.end == JobEnd::Never => "RUNNING",
            _ if self.script.end == JobEnd::Completed => "COMPLETED",
            _ => "ERROR",
        }
    }

    pub fn is_over(&self) -> bool {
        !["SCHEDULING", "RUNNING"].contains(&self.stage())
    }

    /// The lines that are there by now, each with its second.
    pub fn lines(&self) -> Vec<(u64, &str)> {
        let elapsed = self.cancelled.unwrap_or_else(|| self.begun.elapsed());
        let mut at = self.script.waits;
        let mut lines = Vec::new();
        if elapsed >= at {
            lines.push((at, "===== Job started at 2026-11-29 18:00:00 ====="));
        }
        for (after, line) in &self.script.lines {
            at += *after;
            if elapsed < at {
                break;
            }
            lines.push((at, line.as_str()));
        }
        lines.into_iter().map(|(at, line)| (self.created_s + at.as_secs(), line)).collect()
    }

    pub fn cancel(&mut self) {
        if !self.is_over() {
            self.cancelled = Some(self.begun.elapsed());
        }
    }

    /// As the Hub tells of it.
    pub fn json(&self) -> Value {
        let stage = self.stage();
        let started = (stage != "SCHEDULING").then(|| iso(self.created_s + self.script.waits.as_secs()));
        let message = self.script.message.as_ref().filter(|_| self.is_over());
        json!({
            "type": "job", "id": self.id, "createdAt": iso(self.created_s), "startedAt": started,
            "finishedAt": self.is_over().then(|| iso(unix_s())),
            "dockerImage": self.spec["dockerImage"], "spaceId": self.spec["spaceId"], "command": self.spec["command"],
            "arguments": self.spec["arguments"], "environment": self.spec["environment"], "secrets": [],
            "flavor": self.spec["flavor"], "labels": self.spec["labels"], "timeout": self.spec["timeoutSeconds"],
            "status": {"stage": stage, "message": message},
            "owner": {"id": short_id(&self.namespace), "name": self.namespace, "type": if self.namespace == self.user { "user" } else { "org" }},
            "initiator": {"type": "user", "id": short_id(&self.user), "name": self.user},
        })
    }
}

#[derive(Debug, Default)]
pub(super) struct Jobs {
    pub all: Vec<Job>,
    pub scripts: VecDeque<JobScript>,
}

impl Jobs {
    pub fn specs(&self) -> Vec<Value> {
        self.all.iter().map(|job| job.spec.clone()).collect()
    }

    /// Begins a job.
    pub fn begin(&mut self, namespace: &str, user: &str, spec: Value) -> &Job {
        let script = self.scripts.pop_front().unwrap_or_else(|| JobScript {
            waits: Duration::ZERO,
            lines: vec![(Duration::ZERO, spec["command"].to_string())],
            end: JobEnd::Completed,
            message: None,
        });
        let job = Job {
            id: short_id(&format!("job {} {namespace}", self.all.len())),
            namespace: namespace.to_owned(),
            user: user.to_owned(),
            spec,
            script,
            begun: instant(),
            created_s: unix_s(),
            cancelled: None,
        };
        self.all.push(job);
        &self.all[self.all.len() - 1]
    }

    pub fn find(&mut self, namespace: &str, id: &str) -> Option<&mut Job> {
        self.all.iter_mut().find(|job| job.namespace == namespace && job.id == id)
    }
}
