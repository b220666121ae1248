//! Jobs against the fake Hub.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use sinew_hub::{HubError, JobId, JobSpec, JobStage, Token};
use sinew_testkit::hub::{Fault, Harm, JobEnd, JobScript};

fn spec(label: &str) -> JobSpec {
    JobSpec {
        image: "huggingface/lerobot-gpu:latest".into(),
        command: vec!["lerobot-train".into(), "--steps=1".into()],
        environment: BTreeMap::new(),
        secrets: BTreeMap::from([("HF_TOKEN".into(), Token::new("hf_secret").unwrap())]),
        flavor: "a10g-small".into(),
        timeout: Duration::from_secs(60),
        labels: BTreeMap::from([("which".into(), label.into())]),
    }
}

#[test]
fn a_job_is_started_found_read_and_cancelled() {
    let fake = common::fake();
    let cache = tempfile::tempdir().unwrap();
    let hub = common::client(&fake, &cache);
    let line = |text: &str| (Duration::ZERO, text.to_owned());
    let lines = vec![line("one"), line("two"), line("three")];
    fake.next_job(JobScript { waits: Duration::ZERO, lines, end: JobEnd::Never, message: None });
    let job = hub.run_job("someone", &spec("first")).unwrap();
    hub.run_job("someone", &spec("second")).unwrap();
    assert!(!format!("{:?}", spec("x")).contains("hf_secret"));
    let found = hub.jobs_with("someone", ("which", "first")).unwrap();
    assert_eq!(found.iter().map(|job| &job.id).collect::<Vec<_>>(), [&job.id]);
    assert_eq!(hub.job(&job.id).unwrap().unwrap().stage, JobStage::Running);
    let mut heard = Vec::new();
    let mut tell = |text: String| {
        heard.push(text);
        if heard.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    // The first line is the Hub's own word that the job has begun.
    hub.job_log(&job.id, 2, &mut tell).unwrap();
    assert_eq!(heard, ["two", "three"]);
    hub.cancel_job(&job.id).unwrap();
    assert_eq!(hub.job(&job.id).unwrap().unwrap().stage, JobStage::Canceled);
    assert!(hub.job_log(&job.id, 0, &mut |_| ControlFlow::Continue(())).is_ok(), "its log ends with it");
}

#[test]
fn a_start_is_never_asked_for_twice_and_what_is_answered_is_not_trusted() {
    let fake = common::fake();
    let cache = tempfile::tempdir().unwrap();
    let hub = common::client(&fake, &cache);
    fake.fault(Fault::on("/api/jobs/someone", Harm::LostAnswer).method("POST").times(1));
    hub.run_job("someone", &spec("first")).unwrap_err();
    assert_eq!((fake.jobs().len(), hub.jobs_with("someone", ("which", "first")).unwrap().len()), (1, 1));
    let body = r#"{"id": "../../other", "status": {"stage": "RUNNING"}}"#.to_owned();
    fake.fault(Fault::on("/api/jobs/someone/x", Harm::Body { content_type: "application/json".into(), body }).times(1));
    let id = JobId { namespace: "someone".into(), id: "x".into() };
    assert!(matches!(hub.job(&id), Err(HubError::Hostile { .. })));
    assert!(hub.job(&id).unwrap().is_none(), "there is no such job");
    fake.fault(Fault::on("*/logs", Harm::Endless).times(1));
    assert!(matches!(hub.job_log(&id, 0, &mut |_| ControlFlow::Continue(())), Err(HubError::Hostile { .. })));
}

#[test]
fn a_log_that_never_ends_is_left_when_its_job_is_over() {
    let fake = common::fake();
    let cache = tempfile::tempdir().unwrap();
    let hub = common::client(&fake, &cache);
    fake.fault(Fault::on("*/logs", Harm::Stall { at: Some(0) }));
    let job = hub.run_job("someone", &spec("first")).unwrap();
    hub.job_log(&job.id, 0, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(hub.job(&job.id).unwrap().unwrap().stage, JobStage::Completed);
}

#[test]
fn a_job_with_another_label_is_another_whatever_was_asked_for() {
    let fake = common::fake();
    let cache = tempfile::tempdir().unwrap();
    let hub = common::client(&fake, &cache);
    let job = |labels: &str| format!(r#"[{{"id": "x", "status": {{"stage": "RUNNING"}}{labels}}}]"#);
    for (labels, count) in
        [("", 0), (r#", "labels": null"#, 0), (r#", "labels": {"which": "second"}"#, 0), (r#", "labels": {"which": "first"}"#, 1)]
    {
        let harm = Harm::Body { content_type: "application/json".into(), body: job(labels) };
        fake.fault(Fault::on("/api/jobs/someone", harm).method("GET").times(1));
        assert_eq!(hub.jobs_with("someone", ("which", "first")).unwrap().len(), count, "{labels}");
    }
}
