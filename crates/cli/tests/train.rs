//! `sinew train` with a stand-in for the Python that has LeRobot: a script that prints what `lerobot-train` 0.6.1
//! prints and leaves a checkpoint as it does. On the Hub's machines: a fake Hub. `scripts/check_train.py` has the real
//! one, and ssh.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;
#[cfg(target_os = "linux")]
#[path = "train/far.rs"]
mod far;
#[path = "train/jobs.rs"]
mod jobs;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Output, Stdio};

use common::{Desk, contains_all, files, wait_ms};
use serde_json::Value;

/// Counts how often a training was begun, waits while there is a file `hold`, fails where there is one `fail`, and after the
/// last step where there is one `fail_late`.
const PYTHON: &str = r#"#!/bin/sh
dir=$(dirname "$0")
if [ "$1" = -c ]; then cat "$dir/version"; exit; fi
case "$1 $2" in "-X sinew-train="*) shift 2;; *) exit 2;; esac
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
if [ -e "$dir/fail_late" ]; then echo "HfHubHTTPError: 403 Forbidden" >&2; exit 1; fi
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
        self.fails(more, 1)
    }

    fn misused(&self, more: &[&str]) -> String {
        self.fails(more, 2)
    }

    fn fails(&self, more: &[&str], code: i32) -> String {
        let output = self.desk.run(&self.words(more));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains("error: ") && !text.contains("panicked"), "{text}");
        text
    }

    /// Lets the kept one go on.
    fn release(&self) {
        fs::remove_file(self.desk.path("py/hold")).unwrap();
    }

    fn began(&self) -> usize {
        fs::read_to_string(self.desk.path("py/began")).map_or(0, |text| text.lines().count())
    }

    fn state(&self) -> Value {
        serde_json::from_slice(&fs::read(self.desk.path("out/train.json")).unwrap()).unwrap()
    }

    /// A run that waits in its middle.
    fn held(&self) -> (Child, u32) {
        self.held_by(self.desk.sinew(&self.words(&["--json"])))
    }

    /// The same, of `command`.
    fn held_by(&self, mut command: Command) -> (Child, u32) {
        fs::write(self.desk.path("py/hold"), "").unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
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

fn stderr_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
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
    assert!(bench.misused(&["--dry-run", "--", "--steps=7"]).contains("sinew train says that itself"));
    // What a path has in it is no YAML.
    fs::rename(bench.desk.path("ds"), bench.desk.path("ds #1: a")).unwrap();
    let text = bench.desk.ok(&["train", "ds #1: a", "--policy", "act", "--dry-run", "--json", "--out", "o\t:"]);
    let words = events(&text)[0]["words"].to_string();
    contains_all(&words, &[r#"/ds #1: a\""#, r#"/o\\u0009:/run\""#, r#"--dataset.root=\"/"#, r#"--output_dir=\"/"#]);
}

#[test]
fn what_can_not_be_meant_is_refused_before_anything_starts() {
    let bench = Bench::new();
    for (words, code) in [
        (&["train", "--attach", "--out", OUT, "--steps", "3"][..], 2),
        (&["train", "--cancel", "--out", OUT, "--evaluate", "reach"], 2),
        (&["train", "ds", "--policy", "act", "--evaluate-episodes", "3"], 2),
        (&["train", "ds", "--policy", "act", "--flavor", "h200", "--dry-run"], 2),
    ] {
        assert_eq!(bench.desk.run(words).status.code(), Some(code), "{words:?}");
    }
    contains_all(&bench.misused(&["--dry-run", "--", "steps=3"]), &["steps=3", "--name=value"]);
    contains_all(&bench.misused(&["--dry-run", "--", "--save_checkpoint=false"]), &["without a checkpoint"]);
    contains_all(&bench.misused(&["--dry-run", "--evaluate", "juggle"]), &["--evaluate juggle", "reach"]);
    let other = ["train", "ds", "--policy", "fastwam", "--dry-run"];
    contains_all(&bench.desk.error(&other), &["observation.state has 6 values, fastwam takes 8", "--policy.proprio_dim"]);
    assert!(bench.desk.run(&[&other[..], &["--", "--policy.proprio_dim=6", "--policy.action_dim=6"]].concat()).status.success());
    let config = bench.desk.path("py/policy/config.json");
    let whole: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    let from = ["train", "ds", "--from", "py/policy", "--dry-run"];
    bench.desk.ok(&from);
    for (at, words) in [("/input_features/observation.state/shape", "of observation.state"), ("/output_features/action/shape", "of action")]
    {
        let mut other = whole.clone();
        *other.pointer_mut(at).unwrap() = vec![7].into();
        fs::write(&config, other.to_string()).unwrap();
        contains_all(&bench.desk.error(&from), &["has learnt from 7 values", words, "the dataset has 6"]);
    }
    let info = bench.desk.path("ds/meta/info.json");
    let text = fs::read_to_string(&info).unwrap();
    fs::write(&info, text.replace("shoulder_pan", "waist")).unwrap();
    contains_all(&bench.error(&["--dry-run", "--evaluate", "reach"]), &["robot", "shoulder_pan.pos", "waist.pos"]);
    fs::write(&info, text).unwrap();
    let data = files(&bench.desk.path("ds")).into_keys().find(|path| path.starts_with("data/")).unwrap();
    fs::remove_file(bench.desk.path("ds").join(data)).unwrap();
    contains_all(&bench.error(&["--dry-run"]), &["it is not whole", "sinew dataset verify"]);
    assert_eq!(bench.began(), 0);
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
    assert_eq!(bench.state()["stage"]["failed"], "its user ended it (Ctrl-C)");
    let error = bench.error(&[]);
    contains_all(&error, &["ended it (Ctrl-C)", "another --out"]);
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

/// The script around the training is gone, and the training goes on: it is followed, and its policy is taken.
#[test]
fn a_training_that_lost_its_script_is_followed_to_its_end() {
    let bench = Bench::new();
    let (child, pid) = bench.held();
    signal("KILL", pid);
    wait_ms(3_000);
    bench.release();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    contains_all(&stderr_of(&output), &["its process is gone", "the policy of the last step is there"]);
    assert_eq!((bench.began(), bench.state()["stage"].as_str()), (1, Some("trained")));
}

#[test]
fn a_lost_terminal_ends_no_training() {
    let bench = Bench::new();
    // Who runs the tests may ignore it, which is inherited.
    let mut command = Command::new("env");
    bench.desk.prepare(&mut command);
    command.arg("--default-signal=HUP").arg(env!("CARGO_BIN_EXE_sinew")).args(bench.words(&["--json"]));
    let (child, pid) = bench.held_by(command);
    signal("HUP", child.id());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    contains_all(&stderr_of(&output), &["it goes on here", "--attach"]);
    assert!(is_alive(pid));
    bench.release();
    let heard = events(&bench.desk.ok(&["train", "--attach", "--out", OUT, "--json"]));
    assert_eq!((of(&heard, "done").len(), bench.began()), (1, 1));
}

/// A disk that is not mounted, a folder that was moved: what can't be seen is not begun again.
#[test]
fn what_is_not_seen_any_more_is_not_begun_again() {
    let bench = Bench::new();
    let (mut child, pid) = bench.held();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(Command::new("kill").args(["-s", "KILL", "--", &format!("-{pid}")]).status().unwrap().success());
    for name in ["claim", "run"] {
        fs::rename(bench.desk.path("out").join(name), bench.desk.path(name)).unwrap();
    }
    fs::remove_file(bench.desk.path("out/pid")).unwrap();
    for words in [&bench.words(&[])[..], &["train", "--attach", "--out", OUT], &["train", "--cancel", "--out", OUT]] {
        contains_all(&bench.desk.error(words), &["nothing of it any more", "nothing was started"]);
    }
    assert_eq!((bench.began(), bench.state()["stage"].as_str()), (1, Some("running")));
    // Begun by somebody, and nobody knows as what.
    fs::create_dir(bench.desk.path("out/claim")).unwrap();
    contains_all(&bench.desk.error(&["train", "--cancel", "--out", OUT]), &["its process is not known"]);
}

#[test]
fn a_training_that_could_not_be_found_again_does_not_begin() {
    let bench = Bench::new();
    fs::create_dir_all(bench.desk.path("out/pid")).unwrap();
    contains_all(&bench.error(&[]), &["nothing has begun", "is there room"]);
    assert_eq!(bench.began(), 0);
    fs::remove_dir(bench.desk.path("out/pid")).unwrap();
    bench.events(&[]);
    assert_eq!(bench.began(), 1);
}

#[test]
fn a_training_that_is_cancelled_before_it_begins_never_does() {
    let bench = Bench::new();
    let (mut child, pid) = bench.held();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(Command::new("kill").args(["-s", "KILL", "--", &format!("-{pid}")]).status().unwrap().success());
    let mut state = bench.state();
    state["stage"] = "starting".into();
    fs::write(bench.desk.path("out/train.json"), state.to_string()).unwrap();
    fs::remove_dir(bench.desk.path("out/claim")).unwrap();
    fs::remove_file(bench.desk.path("out/pid")).unwrap();
    let heard = events(&bench.desk.ok(&["train", "--cancel", "--out", OUT, "--json"]));
    assert_eq!((&heard[0]["event"], &heard[0]["had_begun"]), (&"cancelled".into(), &false.into()));
    contains_all(&bench.error(&[]), &["it was cancelled"]);
    assert_eq!(bench.began(), 1);
}

#[test]
fn a_policy_of_another_family_is_not_what_was_trained() {
    let bench = Bench::new();
    let config = bench.desk.path("py/policy/config.json");
    fs::write(&config, fs::read_to_string(&config).unwrap().replace(r#""act""#, r#""diffusion""#)).unwrap();
    contains_all(&bench.error(&[]), &["expected the family act", "diffusion"]);
}

#[test]
fn cancel_ends_what_runs_whoever_looks() {
    let bench = Bench::new();
    let (mut child, pid) = bench.held();
    let heard = events(&bench.desk.ok(&["train", "--cancel", "--out", OUT, "--json"]));
    assert_eq!((&heard[0]["event"], &heard[0]["had_begun"]), (&"cancelled".into(), &true.into()));
    assert!(!is_alive(pid));
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(bench.state()["stage"]["failed"], "it was cancelled");
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
    fs::remove_file(bench.desk.path("py/python")).unwrap();
    contains_all(&bench.error(&[]), &["no such program", "--python"]);
    assert!(!bench.desk.path("out/train.json").exists());
    assert_eq!(bench.began(), 0);
}

#[test]
fn a_dataset_that_a_family_can_not_use_is_refused_with_the_reason() {
    let bench = Bench::new();
    let error = |family: &str, more: &[&str]| {
        let words = [&["train", "ds", "--policy", family, "--dry-run"], more].concat();
        let output = bench.desk.run(&words);
        assert_eq!(output.status.code(), Some(if family == "lingua" { 2 } else { 1 }), "{family}");
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
    spoil(&|stats| stats["observation.state"]["std"] = vec![1.0; 5].into());
    contains_all(&error("act", &[]), &["the std of observation.state", "has 5 values, expected 6"]);
    spoil(&|stats| stats["observation.state"]["std"][2] = (-1.0).into());
    contains_all(&error("act", &[]), &["is below zero"]);
    spoil(&|stats| stats["action"]["min"][1] = 1e9.into());
    contains_all(&error("vqbet", &[]), &["needs one camera"]);
    contains_all(&error("evo1", &[]), &["the min of action", "above its max"]);
    spoil(&|_| ());
    bench.desk.ok(&["dataset", "convert", "ds", "--to", "v2.1", "--out", "old", "--yes"]);
    let output = bench.desk.run(&["train", "old", "--policy", "act", "--dry-run"]);
    contains_all(&String::from_utf8(output.stderr).unwrap(), &["version v2.1", "opens v3.0", "sinew dataset convert"]);
    bench.desk.ok(&["dataset", "remove-feature", "ds", "observation.images.front", "observation.images.wrist", "--out", "blind", "--yes"]);
    let output = bench.desk.run(&["train", "blind", "--policy", "smolvla", "--dry-run"]);
    contains_all(&String::from_utf8(output.stderr).unwrap(), &["smolvla needs a camera; it has none"]);
}

/// Who wants it to wait, as Ctrl-Z does, has not said that it is to end.
#[test]
fn control_z_ends_no_training() {
    let bench = Bench::new();
    let mut command = Command::new("env");
    bench.desk.prepare(&mut command);
    command.arg("--default-signal=TSTP").arg(env!("CARGO_BIN_EXE_sinew")).args(bench.words(&["--json"]));
    let (child, pid) = bench.held_by(command);
    signal("TSTP", child.id());
    let output = child.wait_with_output().unwrap();
    contains_all(&stderr_of(&output), &["it goes on here", "--attach"]);
    assert!(is_alive(pid));
    contains_all(&bench.desk.misused(&["train", "--attach", "--out", OUT, "--evaluate", "juggle"]), &["juggle"]);
    bench.release();
    assert_eq!(of(&events(&bench.desk.ok(&["train", "--attach", "--out", OUT, "--json"])), "done").len(), 1);
}

/// An answer without an end fills no memory, and one long line no screen.
#[test]
fn a_python_that_says_too_much_is_cut() {
    let bench = Bench::new();
    fs::write(bench.desk.path("py/python"), "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' x >&2; exit 1\n").unwrap();
    let text = bench.error(&[]);
    assert!(text.len() < 3000, "{} bytes", text.len());
}

/// A token among the further words is for LeRobot, and for nobody who reads along.
#[test]
fn a_token_in_the_line_is_shown_to_nobody() {
    let bench = Bench::new();
    let words = bench.words(&["--dry-run", "--", "--wandb.notes=hf_abcdefghijkl"]);
    for more in [&[][..], &["--json"]] {
        let words: Vec<&str> = words[..1].iter().chain(more).chain(&words[1..]).copied().collect();
        let output = bench.desk.sinew(&words).env("HF_TOKEN", "hf_abcdefghijkl").output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr_of(&output);
        assert!(output.status.success() && told.contains("--wandb.notes=[secret]") && !told.contains("hf_abcdefghijkl"), "{told}");
    }
}
