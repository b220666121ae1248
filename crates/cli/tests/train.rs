//! `sinew train` with a stand-in for the Python that has LeRobot: a script that prints what `lerobot-train` 0.6.1
//! prints and leaves a checkpoint as it does. On the Hub's machines: a fake Hub. `scripts/check_train.py` has the real
//! one, and ssh.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{Desk, contains_all, demo_policy, files};
use serde_json::Value;
use sinew_testkit::hub::{FakeHub, Fault, Harm, JobEnd, JobScript, RepoKind, Rights};

/// Counts how often a training was begun, waits while there is a file `hold`, and fails where there is one `fail`.
const PYTHON: &str = r#"#!/bin/sh
dir=$(dirname "$0")
if [ "$1" = -c ]; then cat "$dir/version"; exit; fi
[ "$1 $2" = "-m lerobot.scripts.lerobot_train" ] || exit 2
shift 2
echo "$@" >>"$dir/began"
for word in "$@"; do
  case $word in --output_dir=*) out=${word#*=};; --steps=*) steps=${word#*=};; esac
done
[ -e "$out" ] && { echo "FileExistsError: Output directory $out already exists"; exit 1; }
mkdir -p "$out"
echo "INFO 2026-11-29 19:00:00 ot_train.py:389 Creating dataset" >&2
if [ -e "$dir/fail" ]; then echo "ValueError: the loss is not finite" >&2; exit 1; fi
printf 'Training:   0%%|          | 0/%s [00:00<?, ?step/s]\r' "$steps" >&2
printf 'Training:  50%%|█████     | %s/%s [00:01<00:01,  5.00step/s]' $((steps / 2)) "$steps" >&2
echo "INFO 2026-11-29 19:00:01 ot_train.py:607 step:$((steps / 2)) smpl:40 ep:1 epch:0.10 loss:5.250 grdn:9.1 lr:1.0e-05 updt_s:0.150 data_s:0.050 smp/s:40" >&2
while [ -e "$dir/hold" ]; do sleep 0.1; done
printf '\rTraining: 100%%|██████████| %s/%s [00:02<00:00,  5.00step/s]\n' "$steps" "$steps" >&2
echo "INFO 2026-11-29 19:00:02 ot_train.py:607 step:$steps smpl:80 ep:2 epch:0.20 loss:2.125 grdn:9.1 lr:1.0e-05 updt_s:0.150 data_s:0.050 smp/s:40" >&2
mkdir -p "$out/checkpoints/000010"
cp -r "$dir/policy" "$out/checkpoints/000010/pretrained_model"
ln -s 000010 "$out/checkpoints/last"
echo "INFO 2026-11-29 19:00:02 ot_train.py:709 End of training" >&2
"#;

const OUT: &str = "out";

struct Bench {
    desk: Desk,
}

impl Bench {
    fn new() -> Self {
        let desk = Desk::new();
        desk.ok(&["record", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", "1", "--out", "ds"]);
        fs::create_dir(desk.path("py")).unwrap();
        fs::write(desk.path("py/python"), PYTHON).unwrap();
        fs::set_permissions(desk.path("py/python"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(desk.path("py/version"), "0.6.1\n").unwrap();
        let bench = Self { desk };
        bench.desk.policy("py/policy");
        bench
    }

    fn words<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        let words = ["train", "ds", "--policy", "act", "--steps", "10", "--python", "py/python", "--out", OUT];
        words.into_iter().chain(more.iter().copied()).collect()
    }

    /// The events of a run that must succeed.
    fn events(&self, more: &[&str]) -> Vec<Value> {
        events(&self.desk.ok(&self.words(&[&["--json"], more].concat())))
    }

    fn error(&self, more: &[&str]) -> String {
        let output = self.desk.run(&self.words(more));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("error: ") && !text.contains("panicked"), "{text}");
        text
    }

    fn began(&self) -> usize {
        fs::read_to_string(self.desk.path("py/began")).map_or(0, |text| text.lines().count())
    }

    fn state(&self) -> Value {
        serde_json::from_slice(&fs::read(self.desk.path("out/train.json")).unwrap()).unwrap()
    }

    /// A run that waits in its middle.
    fn held(&self) -> (Child, u32) {
        fs::write(self.desk.path("py/hold"), "").unwrap();
        let mut child = self.desk.sinew(&self.words(&["--json"])).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(first["event"], "started", "{first}");
        let progress: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!((&progress["step"], &progress["loss"]), (&5.into(), &5.25.into()));
        (child, u32::try_from(first["pid"].as_u64().unwrap()).unwrap())
    }
}

fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

fn is_alive(pid: u32) -> bool {
    // One that is dead and not yet buried is listed as a zombie.
    let output = Command::new("ps").args(["-p", &pid.to_string(), "-o", "stat="]).output().unwrap();
    output.status.success() && !output.stdout.starts_with(b"Z")
}

#[test]
fn a_dry_run_says_the_line_and_leaves_nothing() {
    let bench = Bench::new();
    let before = files(&bench.desk.path("."));
    let text = bench.desk.ok(&bench.words(&["--dry-run", "--batch-size", "4", "--", "--policy.chunk_size=20", "--num_workers=0"]));
    let line = format!(
        "lerobot-train --dataset.repo_id=local/ds --dataset.root={0}/ds --policy.type=act --policy.push_to_hub=false \
         --output_dir={0}/out/run --steps=10 --batch_size=4 --log_freq=1 --policy.chunk_size=20 --num_workers=0",
        bench.desk.path(".").canonicalize().unwrap().display()
    );
    contains_all(&text, &[&line, "1 episodes"]);
    assert_eq!(files(&bench.desk.path(".")), before);
    assert_eq!(bench.began(), 0);
    assert!(bench.error(&["--dry-run", "--", "--steps=7"]).contains("sinew train says that itself"));
}

#[test]
fn a_policy_is_trained_here_checked_and_evaluated_once() {
    let bench = Bench::new();
    let heard = bench.events(&["--evaluate", "pick-place", "--evaluate-episodes", "1"]);
    assert_eq!(of(&heard, "started").len(), 1);
    let losses: Vec<&Value> = of(&heard, "progress").iter().map(|event| &event["loss"]).collect();
    assert_eq!(losses, [&Value::from(5.25), &2.125.into()]);
    assert!((of(&heard, "progress")[0]["left_s"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    let done = of(&heard, "done")[0];
    assert_eq!((&done["is_usable"], &done["evaluation"]["episodes"]), (&true.into(), &1.into()));
    let checkpoint = done["checkpoint"].as_str().unwrap();
    assert!(checkpoint.ends_with("out/run/checkpoints/000010/pretrained_model"), "{checkpoint}");
    let card = fs::read_to_string(format!("{checkpoint}/README.md")).unwrap();
    contains_all(&card, &["model-index", "of 1 episodes", "95 % interval"]);
    // Begun again it is what it was.
    let again = bench.events(&[]);
    assert_eq!(of(&again, "done")[0]["checkpoint"], checkpoint);
    assert_eq!((bench.began(), of(&again, "progress").len()), (1, 0));
    assert!(bench.error(&["--batch-size", "3"]).contains("another training was begun there"));
}

#[test]
fn a_killed_sinew_finds_what_it_started() {
    let bench = Bench::new();
    let (mut child, pid) = bench.held();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_alive(pid));
    // The same words, and those that only look, find the same run.
    let mut again = bench.desk.sinew(&bench.words(&["--json"])).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(again.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!((&first["event"], &first["pid"]), (&"started".into(), &pid.into()));
    assert!(
        String::from_utf8(bench.desk.run(&["train", "--attach", "--out", OUT]).stderr).unwrap().contains("another `sinew train` is at it")
    );
    again.kill().unwrap();
    again.wait().unwrap();
    fs::remove_file(bench.desk.path("py/hold")).unwrap();
    let heard = events(&bench.desk.ok(&["train", "--attach", "--out", OUT, "--json"]));
    assert_eq!((of(&heard, "done").len(), bench.began()), (1, 1));
}

/// Whoever was killed between remembering and starting, or right after, starts it once.
#[test]
fn what_was_to_be_started_is_started_once() {
    let bench = Bench::new();
    let (mut child, pid) = bench.held();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut state = bench.state();
    state["stage"] = "starting".into();
    state["pid"] = Value::Null;
    fs::write(bench.desk.path("out/train.json"), state.to_string()).unwrap();
    fs::remove_file(bench.desk.path("py/hold")).unwrap();
    let heard = bench.events(&[]);
    assert!(of(&heard, "started").iter().all(|event| event["pid"] == pid));
    assert_eq!((of(&heard, "done").len(), bench.began()), (1, 1));
}

#[test]
fn ctrl_c_ends_a_training_here_in_order() {
    let bench = Bench::new();
    let (mut child, pid) = bench.held();
    signal("INT", child.id());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(!is_alive(pid));
    assert_eq!(bench.state()["stage"]["failed"], "it was ended by Ctrl-C");
    let error = bench.error(&[]);
    contains_all(&error, &["ended by Ctrl-C", "another --out"]);
}

#[test]
fn a_training_that_was_killed_is_no_training_that_goes_on() {
    let bench = Bench::new();
    let (child, pid) = bench.held();
    // All of it: its group.
    assert!(Command::new("kill").args(["-s", "KILL", "--", &format!("-{pid}")]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    contains_all(&String::from_utf8(output.stderr).unwrap(), &["its process is gone"]);
}

#[test]
fn cancel_ends_what_runs_whoever_looks() {
    let bench = Bench::new();
    let (mut child, pid) = bench.held();
    bench.desk.ok(&["train", "--cancel", "--out", OUT]);
    assert!(!is_alive(pid));
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(bench.desk.ok(&["train", "--cancel", "--out", OUT]).contains("over already"));
}

#[test]
fn a_training_that_fails_shows_why() {
    let bench = Bench::new();
    fs::write(bench.desk.path("py/fail"), "").unwrap();
    contains_all(&bench.error(&[]), &["exit code 1", "the loss is not finite", "out/train.log"]);
    contains_all(&fs::read_to_string(bench.desk.path("out/train.log")).unwrap(), &["Creating dataset", "not finite"]);
}

#[test]
fn a_python_without_the_right_lerobot_is_told_how_to_get_it() {
    let bench = Bench::new();
    fs::write(bench.desk.path("py/version"), "0.5.1\n").unwrap();
    contains_all(&bench.error(&[]), &["it is 0.5.1, expected 0.6.1", "py/python -m pip install 'lerobot[training]==0.6.1'"]);
    fs::write(bench.desk.path("py/version"), "0.6.1 accelerate\n").unwrap();
    contains_all(&bench.error(&[]), &["accelerate can't be imported", "pip install"]);
    fs::remove_file(bench.desk.path("py/version")).unwrap();
    contains_all(&bench.error(&[]), &["importing lerobot in py/python", "pip install"]);
    assert!(!bench.desk.path("out/train.json").exists());
    assert_eq!(bench.began(), 0);
}

#[test]
fn a_dataset_that_a_family_can_not_use_is_refused_with_the_reason() {
    let bench = Bench::new();
    let error = |family: &str, more: &[&str]| {
        let words = [&["train", "ds", "--policy", family, "--dry-run"], more].concat();
        let output = bench.desk.run(&words);
        assert_eq!(output.status.code(), Some(1), "{family}");
        String::from_utf8(output.stderr).unwrap()
    };
    contains_all(&error("vqbet", &[]), &["needs one camera and no more", "observation.images.front"]);
    contains_all(&error("lingua", &[]), &["\"lingua\"", "act, diffusion", "smolvla"]);
    contains_all(&error("act", &["--commercial"]), &["--commercial", "not stated"]);
    contains_all(&error("act", &["--on", "jobs"]), &["put it on the Hub first"]);
    let stats = bench.desk.path("ds/meta/stats.json");
    let whole: Value = serde_json::from_slice(&fs::read(&stats).unwrap()).unwrap();
    let spoil = |change: &dyn Fn(&mut Value)| {
        let mut value = whole.clone();
        change(&mut value);
        fs::write(&stats, value.to_string()).unwrap();
    };
    spoil(&|stats| drop(stats["action"].as_object_mut().unwrap().remove("q99")));
    contains_all(&error("pi05", &[]), &["scales action by q01 and q99 (QUANTILES)", "has no q99", "sinew dataset stats"]);
    bench.desk.ok(&["train", "ds", "--policy", "act", "--dry-run"]);
    spoil(&|stats| drop(stats.as_object_mut().unwrap().remove("observation.images.front")));
    contains_all(&error("act", &[]), &["nothing of observation.images.front"]);
    spoil(&|stats| stats["observation.state"]["std"][0] = "many".into());
    contains_all(&error("act", &[]), &["the std of observation.state", "not all numbers"]);
    spoil(&|_| ());
    bench.desk.ok(&["dataset", "convert", "ds", "--to", "v2.1", "--out", "old", "--yes"]);
    let output = bench.desk.run(&["train", "old", "--policy", "act", "--dry-run"]);
    contains_all(&String::from_utf8(output.stderr).unwrap(), &["version v2.1", "opens v3.0", "sinew dataset convert"]);
    bench.desk.ok(&["dataset", "remove-feature", "ds", "observation.images.front", "observation.images.wrist", "--out", "blind", "--yes"]);
    let output = bench.desk.run(&["train", "blind", "--policy", "smolvla", "--dry-run"]);
    contains_all(&String::from_utf8(output.stderr).unwrap(), &["smolvla needs a camera; it has none"]);
}

/// A fake Hub with the dataset and, as if the job had pushed it, the policy.
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
    let output = train_on_jobs(&bench, &hub, &[]);
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
            "--output_dir=outputs/run",
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
