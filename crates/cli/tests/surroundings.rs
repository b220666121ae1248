//! Machines that lack something: a home, a folder that can be written to, a locale with UTF-8, room on the disk.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Desk, contains_all};

/// What `output` says, which did not panic.
#[track_caller]
fn said(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    assert!(!text.contains("panicked") && output.status.code().is_some(), "{:?}: {text}", output.status);
    text
}

#[test]
fn without_a_home_there_is_no_configuration_and_what_needs_a_place_says_which_variable_names_one() {
    let desk = Desk::new();
    let run = |args: &[&str]| desk.sinew(args).env_remove("HOME").output().unwrap();
    for args in [&["robots"][..], &["doctor"], &["sim", "render"], &["policy", "check", "./own"], &["dataset", "info", "./none"]] {
        said(&run(args));
    }
    desk.policy("own");
    for args in [&["robots"][..], &["policy", "check", "./own", "--robot", "so101"], &["sim", "render", "--force"], &["doctor"]] {
        let output = run(args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
    }
    for (args, says) in [
        (&["rollout", "--pace", "fast"][..], "neither XDG_CACHE_HOME nor HOME is set"),
        (&["eval", "--episodes", "1"], "neither XDG_CACHE_HOME nor HOME is set"),
        (&["config"], "neither XDG_CONFIG_HOME nor HOME is set"),
        (&["rig", "list"], "neither XDG_CONFIG_HOME nor HOME is set"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        contains_all(&said(&output), &["error: ", says]);
    }
}

/// A home that is not there, as services have it.
#[test]
fn a_home_that_is_not_there_is_named() {
    let desk = Desk::new();
    let output = desk.sinew(&["eval", "--episodes", "1"]).env("HOME", "/proc/nobody").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    contains_all(&said(&output), &["error: unpacking the demonstration policy to /proc/nobody/.cache/sinew"]);
}

#[test]
fn a_folder_that_can_not_be_written_to_is_named_before_anything_runs() {
    let desk = Desk::new();
    // Root may write everywhere but to what the kernel makes itself.
    let run = |args: &[&str]| desk.sinew(args).current_dir("/proc").output().unwrap();
    for (args, says) in [
        (&["rollout", "--pace", "fast", "--episodes", "1"][..], "outputs/rollout-1"),
        (&["rollout", "--pace", "fast", "--episodes", "1", "--no-rerun"][..], "outputs/rollout-1"),
        (&["record", "--teleop", "scripted", "--task", "reach", "--episodes", "1", "--out", "ds"], "ds"),
        (&["sim", "render", "--out", "pictures"], "pictures"),
        (&["eval", "--episodes", "1", "--task", "reach"], "outputs/eval-1.png"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", said(&output));
        let error = String::from_utf8(output.stderr).unwrap();
        contains_all(&error, &["error: ", says]);
        assert!(error.contains("No such file or directory") || error.contains("Permission denied"), "{args:?}: {error}");
        assert!(!String::from_utf8(output.stdout).unwrap().contains("success "), "{args:?} ran all the same");
    }
    said(&run(&["doctor"]));
}

#[test]
fn a_dataset_that_may_only_be_read_is_looked_at() {
    let desk = Desk::new();
    desk.ok(&["record", "--teleop", "scripted", "--task", "reach", "--episodes", "1", "--out", "ds"]);
    for folder in ["ds", "ds/meta", "ds/data", "ds/videos"] {
        std::fs::set_permissions(desk.path(folder), std::fs::Permissions::from_mode(0o555)).unwrap();
    }
    for args in [&["dataset", "info", "ds"][..], &["dataset", "verify", "ds", "--deep"], &["dataset", "view", "ds", "--html", "page.html"]]
    {
        let output = desk.run(args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
    }
}

#[test]
fn where_the_locale_is_not_utf8_text_is_ascii() {
    let desk = Desk::new();
    for locale in ["C", "POSIX", "en_US.ISO-8859-1"] {
        for args in [
            &["rollout", "--help"][..],
            &["record", "-h"],
            &["robots"],
            &["robots", "show", "so101"],
            &["policy", "info"],
            &["doctor"],
            &["rollout", "--pace", "fast", "--episodes", "1", "--no-rerun", "--out", "ds"],
            &["dataset", "info", "ds"],
            &["rollout", "--camera", "front"],
            &["hub", "whoami"],
        ] {
            let output = desk.sinew(args).env("LC_ALL", locale).output().unwrap();
            let text = said(&output);
            assert!(text.is_ascii(), "{args:?} with {locale}: {:?}", text.chars().filter(|c| !c.is_ascii()).collect::<String>());
        }
        std::fs::remove_dir_all(desk.path("ds")).unwrap();
    }
    // JSON is UTF-8 everywhere, and what a user wrote stays as it is.
    let json = desk.sinew(&["dataset", "info", "./größe", "--json"]).env("LC_ALL", "C").output().unwrap();
    assert!(said(&json).contains("größe"), "{}", said(&json));
}

/// A limit of nothing on the size of files stands for a disk that is full at once.
#[test]
fn a_disk_that_is_full_at_the_first_file_is_named() {
    let desk = Desk::new();
    desk.ok(&["eval", "--episodes", "1"]);
    for (args, place) in [
        ("record --teleop scripted --task reach --episodes 1 --out ds", "ds"),
        ("rollout --pace fast --episodes 1 --no-rerun --out run", "run"),
        ("sim render --out pictures", "pictures"),
        ("config set rollout.inference rtc", "config.toml"),
        ("eval --episodes 1 --contact-sheet sheet.png", "sheet.png"),
    ] {
        let mut command = Command::new("sh");
        desk.prepare(&mut command);
        let script = format!("trap '' XFSZ; ulimit -f 0; exec {} {args}", env!("CARGO_BIN_EXE_sinew"));
        let output = command.args(["-c", &script]).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{args}: {text}");
        contains_all(&text, &["error: ", place, "File too large"]);
    }
}

/// What was to be read by somebody and got lost is a failure, whatever was done besides.
#[test]
fn output_that_can_not_be_written_is_a_failure() {
    let desk = Desk::new();
    desk.ok(&["record", "--teleop", "scripted", "--task", "reach", "--episodes", "1", "--out", "ds"]);
    for args in [
        "--help",
        "--version",
        "rollout -h",
        "rollout --explain",
        "rollout --pace fast --episodes 1 --no-record --no-rerun",
        "rollout --pace fast --episodes 1 --no-record --no-rerun --json",
        "eval --episodes 1",
        "record --teleop scripted --task reach --episodes 1 --out other",
        "replay ds",
        "robots",
        "robots show so101 --json",
        "config",
        "rig list",
        "policy info",
        "policy check",
        "dataset info ds",
        "dataset verify ds",
        "dataset stats ds --yes",
        "sim render --out pictures",
        "completions bash",
        "man-pages pages",
        "hub cache list",
        "doctor",
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = desk.sinew(&args.split(' ').collect::<Vec<_>>()).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args}: {}", said(&output));
        contains_all(&said(&output), &["error: writing to standard output: No space left on device"]);
    }
    // A reader who has seen enough is no fault.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = desk.sinew(&["robots"]).stdout(writer).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_rerun_recording_that_the_disk_has_no_room_for_is_a_failure_and_the_dataset_is_whole() {
    let desk = Desk::new();
    let mut command = Command::new("sh");
    desk.prepare(&mut command);
    let script = format!(
        "trap '' XFSZ; {0} eval --episodes 1 >/dev/null; ulimit -f 1000; exec {0} rollout --pace fast --episodes 1 --seed 20 --rerun run.rrd --out ds",
        env!("CARGO_BIN_EXE_sinew")
    );
    let output = command.args(["-c", &script]).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    contains_all(&text, &["error: recording to run.rrd: it is not whole: ", "File too large"]);
    assert_eq!(desk.recorded("ds", "beside a recording that failed")["total_episodes"], 1);
}

/// What was begun and has no episode is not there: the next run may use its name, whatever robot it is of.
#[test]
fn an_interrupted_first_episode_leaves_nothing_and_a_killed_one_is_named() {
    let desk = Desk::new();
    for (args, is_killed) in [
        (&["record", "--teleop", "scripted", "--pace", "real", "--out", "ds"][..], false),
        (&["rollout", "--no-rerun", "--out", "ds"], false),
        (&["record", "--teleop", "scripted", "--pace", "real", "--out", "ds"], true),
    ] {
        let mut child = desk.sinew(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let began = Instant::now();
        while !desk.path("ds/.sinew/episode").exists() {
            assert!(began.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(), "{args:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(300));
        let pid = child.id().to_string();
        let signal = if is_killed { "-KILL" } else { "-INT" };
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        if !is_killed {
            assert_eq!(output.status.code(), Some(130), "{args:?}: {}", said(&output));
            assert!(!desk.path("ds").exists(), "{args:?}");
        }
    }
    let record = ["record", "--teleop", "scripted", "--task", "reach", "--episodes", "1", "--out", "ds"];
    contains_all(&desk.error(&record), &["an episode that was not finished", "--resume", "`sinew dataset discard ds`"]);
    desk.ok(&["dataset", "discard", "ds", "--yes"]);
    desk.ok(&record);
}

#[test]
fn a_configuration_with_an_unknown_key_stops_every_verb_but_the_one_that_mends_it() {
    let desk = Desk::new();
    let path = desk.path(".config/sinew/config.toml");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "[rollout]\ncolour = \"red\"\n").unwrap();
    for args in [&["rollout"][..], &["eval"], &["record", "--out", "ds"], &["dataset", "info", "ds"], &["robots"]] {
        contains_all(&desk.error(args), &["config.toml", "[rollout] colour: sinew rollout has no option --colour"]);
    }
    let output = desk.run(&["config"]);
    assert_eq!(output.status.code(), Some(1));
    contains_all(&said(&output), &["config.toml", "colour"]);
    desk.ok(&["rollout", "--help"]);
    desk.ok(&["config", "unset", "rollout.colour"]);
    desk.ok(&["robots"]);
}
