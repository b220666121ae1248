//! `/api/jobs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use hyper::http::Method;
use hyper::http::header::CONTENT_TYPE;
use serde_json::json;

use super::Call;
use crate::hub::clock::iso;
use crate::hub::jobs::Job;
use crate::hub::reply::{Content, Reply};
use crate::hub::server::header;
use crate::hub::state::{Hub, State};

/// How often a log is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How often something is sent where there is nothing to say.
const KEEP_ALIVE: u32 = 1_500;

fn not_found() -> Reply {
    Reply::error(404, None, "Job not found")
}

/// Jobs of a user or an organisation.
pub async fn answer(call: &mut Call<'_>, rest: &[&str]) -> Result<Reply, Reply> {
    let caller = call.caller()?;
    match rest {
        ["hardware"] => Ok(Reply::json(&json!([
            {"name": "cpu-basic", "prettyName": "CPU Basic", "cpu": "2 vCPU", "ram": "16 GB", "accelerator": null,
             "unitCostMicroUSD": 167, "unitCostUSD": 0.000_167, "unitLabel": "minute"},
            {"name": "a10g-small", "prettyName": "Nvidia A10G - small", "cpu": "4 vCPU", "ram": "15 GB",
             "accelerator": {"type": "gpu", "model": "A10G", "quantity": "1", "vram": "24 GB", "manufacturer": "Nvidia"},
             "unitCostMicroUSD": 16_667, "unitCostUSD": 0.016_667, "unitLabel": "minute"},
        ]))),
        [namespace] => {
            call.only(&[Method::GET, Method::POST])?;
            if call.method == Method::POST {
                let spec = call.body.json().await?;
                let has_image = spec["dockerImage"].is_string() || spec["spaceId"].is_string();
                if !has_image || !spec["command"].is_array() || !spec["flavor"].is_string() {
                    return Err(Reply::bad_request("expected dockerImage or spaceId, command and flavor"));
                }
                let mut state = call.hub.state();
                state.accounts.may_write(&caller, namespace)?;
                return Ok(Reply::json(&state.jobs.begin(namespace, caller.name().unwrap_or_default(), spec).json()));
            }
            let state = call.hub.state();
            check(call, &state, namespace)?;
            let stages: Vec<&str> = call.target.all("stage").collect();
            let labels: Vec<&str> = call.target.all("label").collect();
            let fits = |job: &&Job| {
                let has = |label: &&str| label.split_once('=').is_some_and(|(key, value)| job.spec["labels"][key] == value);
                job.namespace == *namespace && (stages.is_empty() || stages.contains(&job.stage())) && labels.iter().all(has)
            };
            Ok(Reply::json(&state.jobs.all.iter().rev().filter(fits).map(Job::json).collect()))
        }
        [namespace, id] => {
            call.get_or_head()?;
            let mut state = call.hub.state();
            check(call, &state, namespace)?;
            Ok(Reply::json(&state.jobs.find(namespace, id).ok_or_else(not_found)?.json()))
        }
        [namespace, id, "cancel"] => {
            call.only(&[Method::POST])?;
            let mut state = call.hub.state();
            state.accounts.may_write(&caller, namespace)?;
            let job = state.jobs.find(namespace, id).ok_or_else(not_found)?;
            job.cancel();
            Ok(Reply::json(&job.json()))
        }
        [namespace, id, "logs"] => {
            call.get_or_head()?;
            let count = {
                let mut state = call.hub.state();
                check(call, &state, namespace)?;
                state.jobs.find(namespace, id).ok_or_else(not_found)?.lines().len()
            };
            let tail = call.target.get("tail").and_then(|tail| tail.parse::<usize>().ok());
            let log = Log {
                hub: Arc::clone(call.hub),
                namespace: (*namespace).to_owned(),
                id: (*id).to_owned(),
                sent: tail.map_or(0, |tail| count.saturating_sub(tail)),
            };
            let events = stream::unfold(log, |mut log| async move { log.next().await.map(|event| (Bytes::from(event), log)) });
            Ok(Reply::new(200, Content::Stream(events.boxed())).with(CONTENT_TYPE, "text/event-stream"))
        }
        _ => Err(Reply::error(404, None, "Not found")),
    }
}

/// That the caller may see what `namespace` does.
fn check(call: &Call<'_>, state: &State, namespace: &str) -> Result<(), Reply> {
    let caller = state.accounts.caller(header(&call.headers, "authorization"))?;
    if state.accounts.owns(&caller, namespace) { Ok(()) } else { Err(not_found()) }
}

/// A log that is being followed.
struct Log {
    hub: Arc<Hub>,
    namespace: String,
    id: String,
    sent: usize,
}

impl Log {
    /// What to send next, as server-sent events; nothing once the job is over.
    async fn next(&mut self) -> Option<String> {
        for _ in 0..KEEP_ALIVE {
            {
                let mut state = self.hub.state();
                let job = state.jobs.find(&self.namespace, &self.id)?;
                let lines = job.lines();
                let new = lines.get(self.sent..).unwrap_or_default();
                if !new.is_empty() {
                    self.sent = lines.len();
                    let event = |(second, line): &(u64, &str)| format!("data: {}\n\n", json!({"timestamp": iso(*second), "data": line}));
                    return Some(new.iter().map(event).collect());
                }
                if job.is_over() {
                    return None;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        Some(": keep-alive\n\n".to_owned())
    }
}
