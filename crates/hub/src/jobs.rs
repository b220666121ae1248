//! Jobs: programs that run on the Hub's machines, for money.
//!
//! Routes, fields and stages are those of huggingface_hub 2.4 (`HfApi.run_job`, `inspect_job`, `list_jobs`,
//! `fetch_job_logs`, `cancel_job`; `_jobs_api.py`).

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::http::{Ask, Http, broken, host};
use crate::{Hub, HubError, HubOptions, Token};

/// A log says at least that it is still there every 30 s; two such words may be lost.
const LOG_SILENCE: Duration = Duration::from_secs(75);
/// How often the job is looked at while its log is open: a proxy between may hold a stream open that has no end.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How long the rest of a log is waited for when its job is over.
const REST: Duration = Duration::from_secs(3);
/// The longest line of a log that is taken, bytes.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Jobs a listing may have: more are of no use to anyone who looks for one.
const MAX_JOBS: usize = 10_000;

/// What is to run, and where.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// A Docker image, such as `huggingface/lerobot-gpu:latest`.
    pub image: String,
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// Variables of the environment that nobody is shown. A token belongs here, never into the command.
    pub secrets: BTreeMap<String, Token>,
    /// The machine, such as `a10g-small`.
    pub flavor: String,
    /// When the Hub ends it, whatever it does.
    pub timeout: Duration,
    /// Words to find it by.
    pub labels: BTreeMap<String, String>,
}

/// Which job: its owner and its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobId {
    pub namespace: String,
    pub id: String,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobStage {
    Scheduling,
    Running,
    Completed,
    Canceled,
    Error,
    Deleted,
    /// One that the Hub has had since.
    Other(String),
}

impl JobStage {
    fn of(name: &str) -> Self {
        match name {
            "SCHEDULING" => Self::Scheduling,
            "RUNNING" => Self::Running,
            "COMPLETED" => Self::Completed,
            "CANCELED" => Self::Canceled,
            "ERROR" => Self::Error,
            "DELETED" => Self::Deleted,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Whether nothing more will come of it.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Completed | Self::Canceled | Self::Error | Self::Deleted)
    }
}

impl std::fmt::Display for JobStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Scheduling => "waits for a machine",
            Self::Running => "runs",
            Self::Completed => "is completed",
            Self::Canceled => "was cancelled",
            Self::Error => "failed",
            Self::Deleted => "was deleted",
            Self::Other(name) => name,
        })
    }
}

/// A job as the Hub tells of it.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: JobId,
    pub stage: JobStage,
    /// Why it is there, where the Hub says it.
    pub message: Option<String>,
}

impl Job {
    /// Where people look at it.
    pub fn page(&self, endpoint: &str) -> String {
        format!("{endpoint}/jobs/{}/{}", self.id.namespace, self.id.id)
    }
}

#[derive(Deserialize)]
struct Answer {
    id: String,
    status: Status,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Status {
    stage: String,
    message: Option<String>,
}

impl Answer {
    fn into_job(self, namespace: &str) -> Result<Job, String> {
        // It becomes a step of addresses and is stored.
        if self.id.is_empty() || self.id.len() > 128 || !self.id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            return Err(format!("a job with the id {:?}", self.id));
        }
        let id = JobId { namespace: namespace.to_owned(), id: self.id };
        Ok(Job { id, stage: JobStage::of(&self.status.stage), message: self.status.message.filter(|message| !message.is_empty()) })
    }
}

impl Hub {
    /// Starts a job of `namespace`, a user or an organisation, who pays for it. It is never asked for twice: an answer
    /// that is lost leaves open whether it runs, which [`jobs_with`](Self::jobs_with) finds out by a label.
    ///
    /// # Errors
    /// When the Hub refuses it or can't be reached.
    pub fn run_job(&self, namespace: &str, spec: &JobSpec) -> Result<Job, HubError> {
        let doing = format!("starting a job of {namespace} on {}", spec.flavor);
        self.needs_network(doing.clone())?;
        let http = self.http()?;
        let secrets: BTreeMap<&str, &str> = spec.secrets.iter().map(|(name, token)| (name.as_str(), token.secret())).collect();
        let body = json!({
            "dockerImage": spec.image, "command": spec.command, "arguments": [], "environment": spec.environment,
            "secrets": secrets, "flavor": spec.flavor, "timeoutSeconds": spec.timeout.as_secs(), "labels": spec.labels,
        });
        let mut ask = Ask::get(http.url(["api", "jobs", namespace])?, doing);
        ask.may_repeat = false;
        let url = ask.url.clone();
        let answer: Answer = self.wait(http.post(ask, &body))??;
        self.job_of(answer, namespace, &url)
    }

    fn job_of(&self, answer: Answer, namespace: &str, url: &url::Url) -> Result<Job, HubError> {
        let hostile = |what| HubError::Hostile { doing: format!("reading of a job of {namespace}"), host: host(url), what };
        answer.into_job(namespace).map_err(hostile)
    }

    /// How far a job is; `None` where there is none, or this token may not see it, which the Hub tells alike.
    ///
    /// # Errors
    /// When the Hub can't be reached.
    pub fn job(&self, id: &JobId) -> Result<Option<Job>, HubError> {
        self.needs_network(format!("looking at the job {}/{}", id.namespace, id.id))?;
        self.wait(self.look(self.http()?, id))?
    }

    async fn look(&self, http: &Http, id: &JobId) -> Result<Option<Job>, HubError> {
        let mut ask = Ask::get(http.url(["api", "jobs", &id.namespace, &id.id])?, format!("looking at the job {}/{}", id.namespace, id.id));
        ask.understands = Some(StatusCode::NOT_FOUND);
        let response = http.send(&ask).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let body = http.body(&ask, response, MAX_LINE_BYTES).await?;
        let answer = serde_json::from_slice(&body).map_err(|err| http.server(&ask, &ask.url, format!("expected a job, found {err}")))?;
        self.job_of(answer, &id.namespace, &ask.url).map(Some)
    }

    /// The jobs of `namespace` that have the label, the newest first.
    ///
    /// # Errors
    /// When they may not be seen, or the Hub can't be reached.
    pub fn jobs_with(&self, namespace: &str, label: (&str, &str)) -> Result<Vec<Job>, HubError> {
        let doing = format!("listing the jobs of {namespace}");
        self.needs_network(doing.clone())?;
        let http = self.http()?;
        let mut url = http.url(["api", "jobs", namespace])?;
        url.query_pairs_mut().append_pair("label", &format!("{}={}", label.0, label.1));
        let mut jobs = Vec::new();
        let mut next = Some(url);
        while let Some(url) = next.take() {
            let ask = Ask::get(url, doing.clone());
            let (answers, more): (Vec<Answer>, _) = self.wait(http.page(&ask))??;
            next = more.filter(|_| !answers.is_empty() && jobs.len() < MAX_JOBS);
            // Whose label is another is another's, whatever was asked for.
            let has = |answer: &Answer| answer.labels.as_ref().and_then(|labels| labels.get(label.0)).is_some_and(|it| it == label.1);
            for answer in answers.into_iter().filter(has) {
                jobs.push(self.job_of(answer, namespace, &ask.url)?);
            }
        }
        Ok(jobs)
    }

    /// Ends a job. One that is over stays as it is.
    ///
    /// # Errors
    /// When there is no such job, the token may not, or the Hub can't be reached.
    pub fn cancel_job(&self, id: &JobId) -> Result<(), HubError> {
        let doing = format!("cancelling the job {}/{}", id.namespace, id.id);
        self.needs_network(doing.clone())?;
        let http = self.http()?;
        let ask = Ask::new(Method::POST, http.url(["api", "jobs", &id.namespace, &id.id, "cancel"])?, doing);
        self.wait(http.send(&ask))?.map(drop)
    }

    /// Tells the lines of a job's log, the first first, as long as the Hub sends them: it ends when the job does, and
    /// may end before. The log begins anew with every call; `skip` lines are passed over. A stream that stays open
    /// when its job is over is left.
    ///
    /// # Errors
    /// When there is no such job, or the stream breaks off.
    pub fn job_log(&self, id: &JobId, mut skip: u64, tell: &mut (dyn FnMut(String) -> ControlFlow<()> + Send)) -> Result<(), HubError> {
        #[derive(Deserialize)]
        struct Event {
            data: String,
        }
        let doing = format!("reading the log of the job {}/{}", id.namespace, id.id);
        self.needs_network(doing.clone())?;
        let patient = HubOptions { timeout: self.options().timeout.max(LOG_SILENCE), ..self.options().clone() };
        let http = Http::new(Arc::new(patient))?;
        let ask = Ask::get(http.url(["api", "jobs", &id.namespace, &id.id, "logs"])?, doing);
        self.wait(async {
            let mut response = http.send(&ask).await?;
            http.check_encoding(&ask, &response)?;
            let url = response.url().clone();
            let mut begun: Vec<u8> = Vec::new();
            let (mut is_over, mut pause) = (false, Box::pin(tokio::time::sleep(LOOK_EVERY)));
            loop {
                let heard = {
                    let mut chunk = pin!(response.chunk());
                    poll_fn(|cx| match chunk.as_mut().poll(cx) {
                        Poll::Ready(chunk) => Poll::Ready(Some(chunk)),
                        Poll::Pending => pause.as_mut().poll(cx).map(|()| None),
                    })
                    .await
                };
                let Some(chunk) = heard else {
                    if is_over {
                        return Ok(());
                    }
                    // Where the look fails, the stream is still there to be read.
                    is_over = self.look(&http, id).await.is_ok_and(|job| job.is_some_and(|job| job.stage.is_over()));
                    pause = Box::pin(tokio::time::sleep(if is_over { REST } else { LOOK_EVERY }));
                    continue;
                };
                let Some(chunk) = chunk.map_err(|err| broken(&ask, &url, &err))? else { return Ok(()) };
                begun.extend_from_slice(&chunk);
                while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = begun.drain(..=end).collect();
                    // Server-sent events, each a line of JSON; the other lines keep the connection alive.
                    let Some(event) = line.strip_prefix(b"data:").and_then(|json| serde_json::from_slice::<Event>(json).ok()) else {
                        continue;
                    };
                    if skip > 0 {
                        skip -= 1;
                    } else if tell(event.data).is_break() {
                        return Ok(());
                    }
                }
                if begun.len() > MAX_LINE_BYTES {
                    let what = format!("a line is longer than {MAX_LINE_BYTES} bytes");
                    return Err(HubError::Hostile { doing: ask.doing.clone(), host: host(&url), what });
                }
            }
        })?
    }
}
