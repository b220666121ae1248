//! On the Hub's machines: a fake Hub.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use sinew_testkit::hub::{FakeHub, Fault, Harm, JobEnd, JobScript, RepoKind, Rights};

use super::common::{contains_all, demo_policy, files, wait_ms};
use super::{Bench, OUT, events, of, signal, stderr_of};

/// While `run` goes on: as a job does it, pushes the policy once one has begun.
fn pushing(hub: &FakeHub, run: impl FnOnce() -> Output) -> Output {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while hub.jobs().is_empty() && !is_done.load(Ordering::Relaxed) {
                wait_ms(10);
            }
            let dir = hub.jobs().first().map_or_else(String::new, |job| {
                let words = job["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
                words.filter_map(|word| word.strip_prefix("--output_dir=")).collect()
            });
            let config = serde_json::json!({ "output_dir": dir }).to_string();
            hub.repo(RepoKind::Model, "ada/act_reach").commit(&[("train_config.json", config.as_bytes()), ("README.md", b"new")]);
        });
        let output = run();
        is_done.store(true, Ordering::Relaxed);
        output
    })
}

/// A fake Hub with the dataset and an older policy.
fn hub_of(bench: &Bench) -> FakeHub {
    let hub = FakeHub::start();
    hub.token("hf_write", "ada", Rights::Write);
    let commit = |kind, id, folder: &std::path::Path| {
        let files = files(folder);
        let files: Vec<(&str, &[u8])> = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        hub.add(kind, id).commit(&files)
    };
    commit(RepoKind::Dataset, "ada/reaches", &bench.desk.path("ds"));
    commit(RepoKind::Model, "ada/act_reach", &demo_policy());
    hub
}

fn job_lines(count: usize) -> Vec<(Duration, String)> {
    let line = |step: usize| {
        format!("INFO 2026-11-29 19:00:00 ot_train.py:607 step:{step} smpl:8 ep:1 epch:0.1 loss:{step}.500 updt_s:0.1 data_s:0.1")
    };
    (1..=count).map(|step| (Duration::from_millis(50), line(step))).collect()
}

fn on_jobs(bench: &Bench, hub: &FakeHub, words: &[&str]) -> Command {
    let mut command = bench.desk.sinew(words);
    command.env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", hub.endpoint()).env("HF_TOKEN", "hf_write");
    command
}

fn train_on_jobs(bench: &Bench, hub: &FakeHub, more: &[&str]) -> Output {
    let words =
        ["train", "ada/reaches", "--policy", "act", "--on", "jobs", "--push", "ada/act_reach", "--steps", "10", "--out", OUT, "--json"];
    on_jobs(bench, hub, &[&words, more].concat()).output().unwrap()
}

#[test]
fn a_job_is_started_once_followed_through_broken_streams_and_its_policy_fetched() {
    let bench = Bench::new();
    let hub = hub_of(&bench);
    hub.next_job(JobScript { waits: Duration::from_millis(300), lines: job_lines(10), end: JobEnd::Completed, message: None });
    // Nothing is heard of the first answer, and the log breaks off twice.
    hub.fault(Fault::on("/api/jobs/ada", Harm::LostAnswer).method("POST").times(1));
    hub.fault(Fault::on("*/logs", Harm::CutAnswer { at: Some(700), reset: true }).times(2));
    let output = pushing(&hub, || train_on_jobs(&bench, &hub, &[]));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("the log broke off"), "{text}");
    let heard = events(&String::from_utf8(output.stdout).unwrap());
    let steps: Vec<u64> = of(&heard, "progress").iter().map(|event| event["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=10).collect::<Vec<u64>>(), "each line is heard once");
    let jobs = hub.jobs();
    assert_eq!(jobs.len(), 1);
    let commit = hub.commit_of(RepoKind::Dataset, "ada/reaches", "main").unwrap();
    let command: Vec<&str> = jobs[0]["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(
        command,
        [
            "lerobot-train",
            "--dataset.repo_id=ada/reaches",
            &format!("--dataset.revision={commit}"),
            "--policy.type=act",
            "--policy.push_to_hub=true",
            "--policy.repo_id=ada/act_reach",
            &format!("--output_dir=outputs/{}/run", bench.state()["key"].as_str().unwrap()),
            "--steps=10",
            "--batch_size=8",
            "--log_freq=1",
        ]
    );
    assert_eq!(jobs[0]["secrets"]["HF_TOKEN"], "hf_write");
    assert_eq!((&jobs[0]["flavor"], &jobs[0]["timeoutSeconds"]), (&"a10g-small".into(), &172_800.into()));
    let mut open = jobs[0].clone();
    open["secrets"] = Value::Null;
    assert!(!open.to_string().contains("hf_write") && !bench.state().to_string().contains("hf_write"));
    let done = of(&heard, "done")[0];
    assert_eq!(done["policy_commit"], hub.commit_of(RepoKind::Model, "ada/act_reach", "main").unwrap().as_str());
    assert!(fs::metadata(bench.desk.path("out/pretrained_model/model.safetensors")).unwrap().len() > 1000);
    assert_eq!(fs::read_to_string(bench.desk.path("out/train.log")).unwrap().matches("loss:").count(), 10);
    // Of the dataset only what says what it is was fetched.
    let fetched: Vec<String> =
        hub.requests().into_iter().map(|it| it.path).filter(|path| path.contains("/datasets/ada/reaches/resolve/")).collect();
    assert!(!fetched.is_empty() && fetched.iter().all(|path| path.contains("/meta/")), "{fetched:?}");
    // Begun again it starts nothing; the evaluation that is asked for now comes onto the card there, and nothing else changes.
    let weights = hub.file(RepoKind::Model, "ada/act_reach", "main", "model.safetensors");
    let output = train_on_jobs(&bench, &hub, &["--evaluate", "pick-place", "--evaluate-episodes", "1"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(hub.jobs().len(), 1);
    let card = String::from_utf8(hub.file(RepoKind::Model, "ada/act_reach", "main", "README.md").unwrap()).unwrap();
    contains_all(&card, &["model-index", "of 1 episodes"]);
    assert_eq!(hub.file(RepoKind::Model, "ada/act_reach", "main", "model.safetensors"), weights);
}

#[test]
fn a_job_goes_on_when_its_user_goes() {
    let bench = Bench::new();
    let hub = hub_of(&bench);
    hub.next_job(JobScript { waits: Duration::ZERO, lines: job_lines(3), end: JobEnd::Never, message: None });
    let words = ["train", "ada/reaches", "--policy", "act", "--on", "jobs", "--push", "ada/act_reach", "--steps", "10", "--out", OUT];
    let leave = |words: &[&str], name: &str| {
        let mut child = on_jobs(&bench, &hub, words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().starts_with("step 3 of 10, loss 3.500")));
        signal(name, child.id());
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        (child.wait().unwrap().code(), rest.join("\n"))
    };
    let (code, said) = leave(&words, "INT");
    assert_eq!(code, Some(130));
    contains_all(&said, &["sinew train --attach --out out", "sinew train --cancel --out out"]);
    assert_eq!(leave(&words, "KILL").0, None);
    assert_eq!(leave(&["train", "--attach", "--out", OUT], "TERM").0, Some(130));
    assert_eq!(hub.jobs().len(), 1);
    let cancelled = on_jobs(&bench, &hub, &["train", "--cancel", "--out", OUT]).output().unwrap();
    assert!(cancelled.status.success());
    let cancels = hub.requests().iter().filter(|request| request.path.ends_with("/cancel") && request.status == 200).count();
    assert_eq!((cancels, hub.jobs().len()), (1, 1));
    let again = train_on_jobs(&bench, &hub, &[]);
    assert!(String::from_utf8(again.stderr).unwrap().contains("it was cancelled"));
}

#[test]
fn a_job_that_fails_says_why_and_one_that_keeps_nothing_is_not_started() {
    let bench = Bench::new();
    let hub = hub_of(&bench);
    hub.next_job(JobScript { waits: Duration::ZERO, lines: job_lines(1), end: JobEnd::Error, message: Some("Job timeout".into()) });
    let output = train_on_jobs(&bench, &hub, &[]);
    assert_eq!(output.status.code(), Some(1));
    contains_all(&String::from_utf8(output.stderr).unwrap(), &["failed: Job timeout"]);
    let words = ["train", "ada/reaches", "--policy", "act", "--on", "jobs", "--out", "other"];
    let output = on_jobs(&bench, &hub, &words).output().unwrap();
    contains_all(&String::from_utf8(output.stderr).unwrap(), &["--push OWNER/NAME"]);
    assert_eq!(hub.jobs().len(), 1);
}

#[test]
fn what_a_repository_held_before_is_not_what_was_trained() {
    let bench = Bench::new();
    let hub = hub_of(&bench);
    hub.next_job(JobScript { waits: Duration::ZERO, lines: job_lines(1), end: JobEnd::Completed, message: None });
    let output = train_on_jobs(&bench, &hub, &[]);
    assert_eq!(output.status.code(), Some(1));
    contains_all(&stderr_of(&output), &["as it was before the training", "nothing was pushed"]);
    assert!(!bench.desk.path("out/pretrained_model").exists());
    // Nor is what another training pushed meanwhile. Pushed later, by hand, it is found.
    let config = |dir: &str| serde_json::json!({ "output_dir": dir }).to_string();
    hub.repo(RepoKind::Model, "ada/act_reach").commit(&[("train_config.json", config("outputs/other/run").as_bytes())]);
    let output = on_jobs(&bench, &hub, &["train", "--attach", "--out", OUT]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    contains_all(&stderr_of(&output), &["the policy of another training", "outputs/other/run"]);
    let dir = format!("{}/run", bench.state()["folder"].as_str().unwrap());
    let commit = hub.repo(RepoKind::Model, "ada/act_reach").commit(&[("train_config.json", config(&dir).as_bytes())]);
    let output = on_jobs(&bench, &hub, &["train", "--attach", "--out", OUT, "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    let heard = events(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(of(&heard, "done")[0]["policy_commit"], commit.as_str());
    assert_eq!(hub.jobs().len(), 1);
}

#[test]
fn a_push_that_is_not_allowed_is_told_before_and_one_that_fails_costs_no_policy() {
    let bench = Bench::new();
    let hub = hub_of(&bench);
    hub.token("hf_read", "ada", Rights::Read);
    let words = ["train", "ada/reaches", "--policy", "act", "--on", "jobs", "--push", "bob/act", "--out", OUT];
    contains_all(
        &stderr_of(&on_jobs(&bench, &hub, &words).output().unwrap()),
        &["bob/act", "the token is of ada", "expected the owner bob"],
    );
    let words = ["train", "ada/reaches", "--policy", "act", "--on", "jobs", "--push", "ada/act", "--out", OUT];
    contains_all(&stderr_of(&on_jobs(&bench, &hub, &words).env("HF_TOKEN", "hf_read").output().unwrap()), &["may only read"]);
    assert_eq!(hub.jobs().len(), 0);
    // Here LeRobot fails at the end, when it pushes.
    fs::write(bench.desk.path("py/fail_late"), "").unwrap();
    let output = on_jobs(&bench, &hub, &bench.words(&["--push", "ada/act_reach", "--json"])).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    contains_all(&stderr_of(&output), &["exit code 1", "the policy of the last step is there", "sinew hub upload"]);
    let heard = events(&String::from_utf8(output.stdout).unwrap());
    let done = of(&heard, "done")[0];
    assert_eq!((&done["is_usable"], &done["pushed_to"]), (&true.into(), &Value::Null));
    assert!(bench.desk.path("out/run/checkpoints/last/pretrained_model/model.safetensors").is_file());
}

#[test]
fn a_job_that_a_token_does_not_see_is_not_forgotten() {
    let bench = Bench::new();
    let hub = hub_of(&bench);
    hub.token("hf_bob", "bob", Rights::Write);
    hub.next_job(JobScript { waits: Duration::ZERO, lines: job_lines(3), end: JobEnd::Never, message: None });
    let words = ["train", "ada/reaches", "--policy", "act", "--on", "jobs", "--push", "ada/act_reach", "--steps", "10", "--out", OUT];
    let mut child = on_jobs(&bench, &hub, &words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("step 3 of 10")));
    signal("INT", child.id());
    child.wait().unwrap();
    for (what, says) in [("--attach", "this token may see"), ("--cancel", "it may go on")] {
        let output = on_jobs(&bench, &hub, &["train", what, "--out", OUT]).env("HF_TOKEN", "hf_bob").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        contains_all(&stderr_of(&output), &[says]);
        assert_eq!(bench.state()["stage"], "running");
    }
    let output = on_jobs(&bench, &hub, &["train", "--cancel", "--out", OUT]).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    assert!(hub.requests().iter().any(|request| request.path.ends_with("/cancel") && request.status == 200));
}

/// The Hub behind somebody who takes his time with a job that is asked for, and hands it on also when who asked has gone.
fn slow_way(hub: &FakeHub) -> String {
    let address = hub.endpoint().trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let hand_on = move |mut client: TcpStream| {
        let mut far = TcpStream::connect(&address).unwrap();
        let (mut answers, mut to) = (far.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut answers, &mut to));
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = client.read(&mut buffer) {
                if buffer.starts_with(b"POST /api/jobs/ada ") {
                    wait_ms(2000);
                }
                far.write_all(&buffer[..count]).unwrap();
            }
            // What was asked for is done all the same.
            wait_ms(1000);
        });
    };
    std::thread::spawn(move || listener.incoming().flatten().for_each(hand_on));
    endpoint
}

/// The Hub takes a while over a job that was asked for, and who asked is killed meanwhile.
#[test]
fn a_job_that_the_hub_is_still_at_is_neither_started_twice_nor_left_running() {
    let words = ["train", "ada/reaches", "--policy", "act", "--on", "jobs", "--push", "ada/act_reach", "--steps", "10", "--out", OUT];
    let killed_while_asking = |bench: &Bench| {
        let hub = hub_of(bench);
        hub.next_job(JobScript { waits: Duration::ZERO, lines: job_lines(1), end: JobEnd::Never, message: None });
        let mut command = on_jobs(bench, &hub, &words);
        let mut child = command.env("HF_ENDPOINT", slow_way(&hub)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let is_asked = || fs::read_to_string(bench.desk.path("out/train.json")).is_ok_and(|text| text.contains("\"is_job_asked\": true"));
        while !is_asked() {
            wait_ms(10);
        }
        wait_ms(500);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(hub.jobs().len(), 0, "the Hub is still at it");
        hub
    };
    let bench = Bench::new();
    let hub = killed_while_asking(&bench);
    let mut child = on_jobs(&bench, &hub, &words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("step 1 of 10")));
    signal("INT", child.id());
    child.wait().unwrap();
    let asked = hub.requests().iter().filter(|request| request.method == "POST" && request.path == "/api/jobs/ada").count();
    assert_eq!((hub.jobs().len(), asked), (1, 1));
    let bench = Bench::new();
    let hub = killed_while_asking(&bench);
    let output = on_jobs(&bench, &hub, &["train", "--cancel", "--out", OUT]).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ended");
    assert!(hub.requests().iter().any(|request| request.path.ends_with("/cancel") && request.status == 200));
}
