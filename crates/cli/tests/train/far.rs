//! On another machine: stand-ins for ssh and scp.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use super::common::{contains_all, files, wait_ms};
use super::{Bench, OUT, events, is_alive, of, stderr_of};

/// `ssh` and `scp` that only change the folder, with what a `.bashrc` says before.
fn far(bench: &Bench, ssh: &str) -> String {
    let bin = bench.desk.path("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(bench.desk.path("far")).unwrap();
    let far = bench.desk.path("far").canonicalize().unwrap().display().to_string();
    let scp = "for word in \"$@\"; do from=$to; to=$word; done\ncp -r \"${from#box:}\" \"${to#box:}\"\n";
    for (name, script) in [("ssh", ssh), ("scp", scp)] {
        fs::write(bin.join(name), format!("#!/bin/sh\ncd {far}\n{script}")).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}

fn train_far(bench: &Bench, path: &str) -> Command {
    let python = bench.desk.path("py/python").display().to_string();
    let words = ["train", "ds", "--policy", "act", "--on", "ssh:box", "--steps", "10", "--python", &python, "--out", OUT, "--json"];
    let mut command = bench.desk.sinew(&words);
    command.env("PATH", path).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn what_a_login_says_far_away_is_no_answer() {
    let bench = Bench::new();
    // One whose login never gets to the script: nothing begins.
    let path = far(&bench, "echo Welcome; cat >/dev/null\n");
    let output = train_far(&bench, &path).output().unwrap();
    contains_all(&stderr_of(&output), &["expected a line of its own", "Welcome"]);
    assert_eq!(bench.began(), 0);
    let path = far(&bench, "printf 'Welcome\\nrunning 1\\nsinew-'; exec sh\n");
    let output = train_far(&bench, &path).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    let heard = events(&String::from_utf8(output.stdout).unwrap());
    assert_eq!((of(&heard, "started").len(), of(&heard, "done").len(), bench.began()), (1, 1, 1));
    let log = files(&bench.desk.path("far")).into_iter().find(|(path, _)| path.ends_with("train.log")).unwrap().1;
    assert_eq!(fs::read(bench.desk.path("out/train.log")).unwrap(), log, "no byte more, none less");
    assert!(bench.desk.path("out/pretrained_model/config.json").is_file());
    // The folder with the dataset is the one of the key that was remembered before.
    assert_eq!(fs::read_dir(bench.desk.path("far/sinew-train")).unwrap().count(), 1);
}

/// The line is cut when the training has begun and nobody has heard of it.
#[test]
fn a_line_that_is_cut_at_the_start_leaves_a_training_that_is_found() {
    let bench = Bench::new();
    fs::write(bench.desk.path("py/hold"), "").unwrap();
    let path = far(&bench, "cat >script; sh script; if grep -q ^setsid script; then exit 255; fi\n");
    let output = train_far(&bench, &path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    contains_all(&stderr_of(&output), &["it may run all the same", "sinew train --attach --out out", "reaching it on box"]);
    while bench.began() == 0 {
        wait_ms(20);
    }
    bench.release();
    let path = far(&bench, "exec sh\n");
    let output = bench.desk.sinew(&["train", "--attach", "--out", OUT, "--json"]).env("PATH", &path).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    assert_eq!(bench.began(), 1);
}

#[test]
fn a_training_that_is_cancelled_while_it_is_started_does_not_run() {
    let bench = Bench::new();
    fs::write(bench.desk.path("py/hold"), "").unwrap();
    let path = far(&bench, "sleep 1; exec sh\n");
    let child = train_far(&bench, &path).spawn().unwrap();
    let is_starting = || fs::read_to_string(bench.desk.path("out/train.json")).is_ok_and(|text| text.contains(r#""starting""#));
    while !is_starting() {
        wait_ms(20);
    }
    let output = bench.desk.sinew(&["train", "--cancel", "--out", OUT]).env("PATH", &path).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(1));
    assert_eq!(bench.state()["stage"]["failed"], "it was cancelled");
    let far = fs::read_dir(bench.desk.path("far/sinew-train")).unwrap().next().unwrap().unwrap().path();
    let pid = fs::read_to_string(far.join("pid")).ok().and_then(|text| text.trim().parse().ok());
    assert!(pid.is_none_or(|pid| !is_alive(pid)));
}

/// Who is to start it sees the mark before it has begun; whoever cancels finds nothing of it then.
#[test]
fn a_training_that_was_cancelled_before_it_was_started_is_over() {
    let bench = Bench::new();
    // The copy of the dataset is the last that happens before.
    let path = far(&bench, "exec sh\n");
    let scp = bench.desk.path("bin/scp");
    let copy = fs::read_to_string(&scp).unwrap();
    fs::write(&scp, format!("{copy}sleep 2\n")).unwrap();
    let child = train_far(&bench, &path).spawn().unwrap();
    while !bench.desk.path("out/train.json").exists() {
        wait_ms(20);
    }
    let output = bench.desk.sinew(&["train", "--cancel", "--out", OUT]).env("PATH", &path).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ended");
    assert_eq!((child.wait_with_output().unwrap().status.code(), bench.began()), (Some(1), 0));
}

/// sshd without a subsystem for files: scp's older way is tried, once, and where that fails as well, what is needed is said.
#[test]
fn a_machine_without_sftp_is_copied_from_in_the_older_way() {
    let bench = Bench::new();
    let path = far(&bench, "exec sh\n");
    let scp = bench.desk.path("bin/scp");
    let older = fs::read_to_string(&scp).unwrap();
    let (head, rest) = older.split_at(older.find("for word").unwrap());
    let refuse = "echo 'subsystem request failed on channel 0' >&2; echo 'scp: Connection closed' >&2; exit 255";
    fs::write(&scp, format!("{head}echo \"$@\" >>scps\n{refuse}\n")).unwrap();
    let output = train_far(&bench, &path).output().unwrap();
    contains_all(&stderr_of(&output), &["subsystem request failed", "sftp is needed there", "Subsystem sftp internal-sftp"]);
    assert_eq!(fs::read_to_string(bench.desk.path("far/scps")).unwrap().lines().count(), 2);
    fs::write(&scp, format!("{head}case \" $* \" in *' -O '*) ;; *) {refuse};; esac\n{rest}")).unwrap();
    let output = train_far(&bench, &path).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    assert!(bench.desk.path("out/pretrained_model/config.json").is_file());
}
