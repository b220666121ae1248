//! An episode is committed whole or not at all: the process is killed, and the disk fails, at every
//! step of a recording and at moments nobody chose.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use sinew_core::FrameSink;

use super::{assert_whole, attempt, chain, contents, create, finish, frame, robot, start};
use crate::commit::is_pending;
use crate::tests::injected::{PLAN, count, note_known};
use crate::{DatasetInfo, DatasetRecorder, Layout, RecorderOptions, discard_unfinished, recover, recover_unfinished, unfinished};

const ROOT: &str = "SINEW_RECORDER_TEST_ROOT";
const MODE: &str = "SINEW_RECORDER_TEST_MODE";

/// What is recorded: three episodes, and two attempts that are dropped.
const ATTEMPTS: [(u64, bool); 5] = [(6, true), (4, false), (9, true), (3, false), (7, true)];

/// Not a test of its own: what the tests below run in a process that may die.
#[test]
fn child() {
    let (Ok(root), Ok(mode)) = (std::env::var(ROOT), std::env::var(MODE)) else { return };
    let root = Path::new(&root);
    let say = |what: &str, text: String| fs::write(root.with_extension(what), text).unwrap();
    if mode == "endless" {
        let mut recorder = create(root);
        for number in 0..1000 {
            if let Err(error) = attempt(&mut recorder, number, 12, true) {
                say("error", chain(&error));
                // The next try fails too, but in order.
                assert!(attempt(&mut recorder, number, 12, true).is_err());
                return;
            }
            say("known", recorder.totals().episodes.to_string());
        }
    }
    let recorder = DatasetRecorder::create(root, &robot(), 30, RecorderOptions::default());
    let mut recorder = match recorder {
        Ok(recorder) => recorder,
        Err(error) => return say("error", chain(&error)),
    };
    for (number, (frames, keep)) in (0..).zip(ATTEMPTS) {
        if let Err(error) = attempt(&mut recorder, number, frames, keep) {
            return say("error", chain(&error));
        }
        say("known", recorder.totals().episodes.to_string());
        note_known(recorder.totals().episodes);
    }
    drop(recorder);
    say("steps", count().to_string());
}

/// The command that runs [`child`]; `wrapper` is a shell line that ends in `exec "$0" "$@"`.
pub(super) fn child_process(root: &Path, mode: &str, wrapper: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", wrapper]).arg(std::env::current_exe().unwrap()).args(["--exact", "tests::crash::child", "--nocapture"]);
    command.env(ROOT, root).env(MODE, mode).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

pub(super) const PLAIN: &str = r#"exec "$0" "$@""#;

fn run_child(root: &Path, mode: &str, wrapper: &str) -> ExitStatus {
    child_process(root, mode, wrapper).status().unwrap()
}

/// A dataset's files as a reader sees them: without what mp4 files tell it to skip.
pub(super) fn visible(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = contents(root);
    for bytes in files.iter_mut().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "mp4")).map(|(_, bytes)| bytes) {
        let mut at = 0;
        let mut seen = Vec::new();
        while at + 16 <= bytes.len() {
            let size = match u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) {
                0 => bytes.len() - at,
                1 => u64::from_be_bytes(bytes[at + 8..at + 16].try_into().unwrap()) as usize,
                size => size as usize,
            };
            assert!(size >= 8, "a box of {size} bytes");
            // Zeros stand where the header of an unfinished episode did not reach the disk: readers skip them, too.
            if &bytes[at + 4..at + 8] != b"free" && bytes[at..at + 8] != [0; 8] {
                seen.extend(&bytes[at..at + size]);
            }
            at += size;
        }
        *bytes = seen;
    }
    files
}

/// What an undisturbed recorder leaves after each number of episodes.
pub(super) fn references() -> Vec<BTreeMap<PathBuf, Vec<u8>>> {
    let after = |kept: usize| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("dataset");
        let mut recorder = create(&root);
        for (number, (frames, keep)) in (0..).zip(ATTEMPTS) {
            if recorder.totals().episodes == kept as u64 {
                break;
            }
            attempt(&mut recorder, number, frames, keep).unwrap();
        }
        drop(recorder);
        visible(&root)
    };
    (0..=3).map(after).collect()
}

/// Lets `fault` come at step `at`, and checks what is left; an unfinished episode is then discarded or
/// recovered. Answers what became of it.
fn try_point(references: &[BTreeMap<PathBuf, Vec<u8>>], fault: &str, at: u64, discard: bool) -> &'static str {
    let point = format!("{fault} at step {at}");
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    let status = child_process(&root, "once", PLAIN).env(PLAN, format!("{fault}:{at}")).status().unwrap();
    assert!(fault == "kill" || status.success(), "{point}: the process died");
    let known = fs::read_to_string(root.with_extension("known")).ok().and_then(|known| known.parse().ok()).unwrap_or(0);
    if !root.join("meta/info.json").exists() && !root.join(".sinew/commit").exists() {
        // It was not even created.
        assert_eq!(known, 0, "{point}");
        return "not created";
    }
    if root.join("meta/info.json").exists() {
        // Even before anything is repaired a reader finds the dataset as it was, or with the episode.
        let before = DatasetInfo::open(&root).unwrap().total_episodes;
        assert!(before >= known.max(1) - 1, "{point}: {known} episodes were committed, {before} can be read");
        if !is_pending(&root) {
            assert_whole(&root);
        }
    }
    recover(&root).unwrap_or_else(|error| panic!("{point}: {}", chain(&error)));
    assert_whole(&root);
    let found = DatasetInfo::open(&root).unwrap().total_episodes;
    assert!(found >= known, "{point}: {known} episodes were committed, {found} are there");
    let reference = &references[found as usize];
    let of_committed = |path: &Path| reference.get(path).is_some();
    // Where a fault hit a video of an attempt that was dropped anyway, the next episode began a new one.
    let began_anew = matches!(fault, "eio" | "short") && contents(&root).keys().any(|path| path.ends_with("file-001.mp4"));
    let kept = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        reference
            .iter()
            .all(|(path, bytes)| files.get(path).is_some_and(|found| found == bytes || (began_anew && !path.starts_with("data"))))
    };
    let waiting = unfinished(&root).unwrap();
    assert!(kept(&visible(&root)), "{point}: a committed file is another");
    let Some(waiting) = waiting else {
        let files = visible(&root);
        let strange: Vec<_> = files.keys().filter(|path| !of_committed(path) && !began_anew).collect();
        assert!(strange.is_empty(), "{point}: there is more than was committed: {strange:?}");
        return "nothing unfinished";
    };
    assert_eq!(waiting.episode_index, found, "{point}");
    if discard {
        discard_unfinished(&root).unwrap();
        assert!(began_anew || visible(&root) == *reference, "{point}: the discarded episode left a trace");
        return "discarded";
    }
    let totals = recover_unfinished(&root).unwrap();
    assert_eq!(totals.episodes, found + 1, "{point}");
    assert_whole(&root);
    let info = DatasetInfo::open(&root).unwrap();
    assert!(info.episodes[found as usize].length == waiting.rows && !info.unfinished, "{point}");
    assert_eq!(unfinished(&root).unwrap(), None);
    // And recording goes on.
    let mut recorder = DatasetRecorder::resume(&root, &robot(), 30, RecorderOptions::default()).unwrap();
    attempt(&mut recorder, 8, 3, true).unwrap();
    drop(recorder);
    assert_whole(&root);
    "recovered"
}

#[test]
fn whatever_happens_at_any_step_no_committed_episode_is_lost_or_altered() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    assert!(run_child(&root, "once", PLAIN).success());
    let steps: u64 = fs::read_to_string(root.with_extension("steps")).unwrap().parse().unwrap();
    let references = references();
    assert!(visible(&root) == references[3]);
    assert!(steps > 300, "a recording takes {steps} steps only");
    let mut plan: Vec<(&str, u64)> = (0..steps).map(|at| ("kill", at)).collect();
    for (fault, every) in [("full", 8), ("short", 8), ("eio", 6)] {
        plan.extend((0..steps).step_by(every).map(|at| (fault, at)));
    }
    let (half, rest) = plan.split_at(plan.len() / 2);
    let references = &references;
    let outcomes = std::thread::scope(|scope| {
        let run = move |points: &[(&'static str, u64)]| -> Vec<String> {
            let run =
                |(number, (fault, at)): (usize, &(&str, u64))| format!("{fault}: {}", try_point(references, fault, *at, number % 2 == 0));
            points.iter().enumerate().map(run).collect()
        };
        let other = scope.spawn(move || run(rest));
        let mut outcomes = run(half);
        outcomes.extend(other.join().unwrap());
        outcomes
    });
    let mut summary: BTreeMap<String, u64> = BTreeMap::new();
    outcomes.into_iter().for_each(|outcome| *summary.entry(outcome).or_default() += 1);
    #[allow(clippy::print_stdout, reason = "what a long run reports")]
    {
        println!("{} of {steps} steps: {summary:?}", plan.len());
    }
    assert!(summary.contains_key("kill: recovered") && summary.contains_key("kill: discarded"), "{summary:?}");
}

#[test]
fn killed_at_moments_nobody_chose_no_committed_episode_is_lost() {
    for delay_ms in [60, 170, 310] {
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
    // Blocks are 512 bytes or 1024, by the shell. The limit lies within an episode of the front camera: were it
    // at the end of one, nothing of the next would be there to recover, and it would begin in a new file.
    let status = run_child(&root, "endless", r#"trap '' XFSZ; ulimit -f 220; exec "$0" "$@""#);
    assert!(status.success());
    let error = fs::read_to_string(root.with_extension("error")).unwrap();
    assert!(error.contains("File too large"), "{error}");
    let known: u64 = fs::read_to_string(root.with_extension("known")).unwrap().parse().unwrap();
    assert!(known > 1, "only {known} episodes fitted");
    assert_eq!(DatasetInfo::open(&root).unwrap().total_episodes, known);
    assert_whole(&root);
    // With room again, what there is of the unfinished episode is still to be had.
    let rows = unfinished(&root).unwrap().unwrap().rows;
    recover_unfinished(&root).unwrap();
    let info = DatasetInfo::open(&root).unwrap();
    assert_eq!((info.total_episodes, info.episodes[known as usize].length, info.unfinished), (known + 1, rows, false));
    assert_whole(&root);
    assert!(contents(&root).keys().all(|path| !path.starts_with(".sinew")));
}

#[test]
fn an_encoder_that_panics_costs_the_running_episode_only_and_its_rows_can_be_recovered() {
    [Layout::V30, Layout::V21].into_iter().for_each(an_encoder_panics);
}

fn an_encoder_panics(layout: Layout) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    let plain = || RecorderOptions { layout, ..RecorderOptions::default() };
    let mut recorder = DatasetRecorder::create(&root, &robot(), 30, plain()).unwrap();
    attempt(&mut recorder, 0, 6, true).unwrap();
    drop(recorder);
    // Stands for an encoder that breaks after five frames.
    let options = RecorderOptions { frame_takes: Duration::from_secs(900), ..plain() };
    let mut recorder = DatasetRecorder::resume(&root, &robot(), 30, options).unwrap();
    recorder.begin(&start(1, "Push the cube")).unwrap();
    let failed = (0..200).find_map(|tick| recorder.frame(&frame(&robot(), 1, tick)).err());
    let at_the_end = recorder.end(&finish(true)).unwrap_err();
    let failed = failed.unwrap_or(at_the_end);
    assert!(chain(&failed).contains("its thread panicked: an encoder that breaks"), "{}", chain(&failed));
    drop(recorder);
    assert_eq!(unfinished(&root).unwrap().unwrap().rows, 5);
    let mut recorder = DatasetRecorder::resume(&root, &robot(), 30, plain()).unwrap();
    recorder.recover_unfinished().unwrap();
    attempt(&mut recorder, 2, 4, true).unwrap();
    drop(recorder);
    let info = DatasetInfo::open(&root).unwrap();
    assert_eq!(info.episodes.iter().map(|episode| episode.length).collect::<Vec<_>>(), [6, 5, 4]);
    assert_whole(&root);
    let log = fs::read_to_string(root.join("meta/sinew_episodes.jsonl")).unwrap();
    assert!(log.lines().nth(1).unwrap().contains(r#""recovered":true"#), "{log}");
}
