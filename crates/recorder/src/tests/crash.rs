//! An episode is committed whole or not at all: the process is killed at every step of a commit and
//! at moments nobody chose, and the disk fills up.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{assert_whole, attempt, chain, contents, create, robot};
use crate::files::crash::REMAINING;
use crate::{DatasetInfo, DatasetRecorder, RecorderOptions, recover};

const ROOT: &str = "SINEW_RECORDER_TEST_ROOT";
const MODE: &str = "SINEW_RECORDER_TEST_MODE";

/// Not a test of its own: what the tests below run in a process that may die.
#[test]
fn child() {
    let (Ok(root), Ok(mode)) = (std::env::var(ROOT), std::env::var(MODE)) else { return };
    let root = Path::new(&root);
    let mut recorder = create(root);
    match mode.parse::<i64>() {
        // Commits two episodes, then aborts at a given step of the third's commit.
        Ok(step) => {
            attempt(&mut recorder, 0, 6, true).unwrap();
            attempt(&mut recorder, 1, 7, true).unwrap();
            REMAINING.store(step, Ordering::Relaxed);
            attempt(&mut recorder, 2, 8, true).unwrap();
            REMAINING.store(-1, Ordering::Relaxed);
        }
        // Records until it fails or is killed; says beside the dataset how many it knows committed.
        Err(_) => {
            let known = root.with_extension("known");
            for number in 0..1000 {
                if let Err(error) = attempt(&mut recorder, number, 12, true) {
                    fs::write(root.with_extension("error"), chain(&error)).unwrap();
                    // The next try fails too, but in order.
                    assert!(attempt(&mut recorder, number, 12, true).is_err());
                    return;
                }
                fs::write(&known, recorder.totals().episodes.to_string()).unwrap();
            }
        }
    }
}

/// The command that runs [`child`]; `wrapper` is a shell line that ends in `exec "$0" "$@"`.
fn child_process(root: &Path, mode: &str, wrapper: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", wrapper]).arg(std::env::current_exe().unwrap()).args(["--exact", "tests::crash::child", "--nocapture"]);
    command.env(ROOT, root).env(MODE, mode).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

const PLAIN: &str = r#"exec "$0" "$@""#;

fn run_child(root: &Path, mode: &str, wrapper: &str) -> ExitStatus {
    child_process(root, mode, wrapper).status().unwrap()
}

#[test]
fn killed_at_any_step_of_a_commit_the_episode_is_there_whole_or_not_at_all() {
    let mut was_committed = false;
    let mut kills = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("dataset");
        let survived = run_child(&root, &kills.to_string(), PLAIN).success();
        // Even before anything is repaired a reader finds the dataset as it was, or with the episode.
        let before = DatasetInfo::open(&root).unwrap().total_episodes;
        assert!(before == 2 || before == 3);
        assert!(recover(&root).unwrap() || survived, "step {kills}: there was nothing to recover");
        let info = DatasetInfo::open(&root).unwrap();
        assert!(!info.unfinished, "step {kills}");
        assert_whole(&root);
        let committed = info.total_episodes == 3;
        assert!(committed || (info.total_episodes == 2 && !was_committed), "step {kills}: {} episodes", info.total_episodes);
        assert!(info.total_episodes >= before);
        was_committed = committed;

        let mut recorder = DatasetRecorder::resume(&root, &robot(), 30, RecorderOptions::default()).unwrap();
        attempt(&mut recorder, 3, 5, true).unwrap();
        drop(recorder);
        assert_whole(&root);
        if survived {
            break;
        }
        kills += 1;
    }
    // Two videos, two files of rows, five of the meta folder, the commit, nine moves.
    assert!(kills >= 19, "the process could be killed at {kills} steps only");
    assert!(was_committed);
}

#[test]
fn killed_at_moments_nobody_chose_no_committed_episode_is_lost() {
    for delay_ms in [60, 110, 170, 230, 310, 420] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("dataset");
        let mut child = child_process(&root, "endless", PLAIN).spawn().unwrap();
        // The clock starts when the first episode is safe.
        let known = root.with_extension("known");
        while !known.exists() {
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(delay_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        recover(&root).unwrap();
        assert_whole(&root);
        // The file may have been cut short by the kill as well.
        let known: u64 = fs::read_to_string(known).unwrap().parse().unwrap_or(0);
        let found = DatasetInfo::open(&root).unwrap().total_episodes;
        assert!(found >= known, "{known} episodes were committed, {found} are there");
    }
}

/// A limit on the size of files is as real as a full disk: writes fail in their midst.
#[test]
fn a_disk_that_is_full_costs_the_running_episode_only() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    // Blocks are 512 bytes or 1024, by the shell.
    let status = run_child(&root, "endless", r#"trap '' XFSZ; ulimit -f 200; exec "$0" "$@""#);
    assert!(status.success());
    let error = fs::read_to_string(root.with_extension("error")).unwrap();
    assert!(error.contains("committing episode") && error.contains("File too large"), "{error}");
    let known: u64 = fs::read_to_string(root.with_extension("known")).unwrap().parse().unwrap();
    assert!(known > 1, "only {known} episodes fitted");
    let info = DatasetInfo::open(&root).unwrap();
    assert_eq!((info.total_episodes, info.unfinished), (known, false));
    assert_whole(&root);
    assert!(contents(&root).keys().all(|path| !path.starts_with(".sinew")));
}

#[test]
fn a_commit_that_names_a_file_outside_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    drop(create(&root));
    fs::create_dir_all(root.join(".sinew/stage")).unwrap();
    for path in ["../escaped", "/etc/escaped", "meta/../../escaped"] {
        fs::write(root.join(".sinew/commit.json"), format!(r#"{{"version": 1, "install": ["{path}"]}}"#)).unwrap();
        assert!(chain(&recover(&root).unwrap_err()).contains("leads out of the dataset"));
    }
    fs::write(root.join(".sinew/commit.json"), r#"{"version": 2, "install": []}"#).unwrap();
    assert!(chain(&recover(&root).unwrap_err()).contains("version"));
}
