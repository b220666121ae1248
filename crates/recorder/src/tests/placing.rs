//! That a result takes the place of what it was made of and of nothing else, and that what was kept before goes only
//! then: whatever somebody does meanwhile, wherever the process is killed.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};

use super::injected::{PLAN, count};
use super::model::{go_on, read, record, small_robot};
use super::{chain, contents};
use crate::commit::Staging;
use crate::{
    DatasetRecorder, Output, RecordError, RecorderOptions, Step, ToolError, kept_for_undo, plan_delete, plan_merge, plan_rename_task,
    plan_undo, undo,
};

const ROOT: &str = "SINEW_RECORDER_TEST_ROOT";
const MODE: &str = "SINEW_RECORDER_TEST_MODE";

fn in_place(plan: &crate::Plan) {
    plan.run(&Output::InPlace, &mut go_on).unwrap();
}

/// What is in the folder that `root` is in.
fn beside(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.parent().unwrap()).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Does `work` once, when a result is being built.
fn once(work: impl FnOnce()) -> impl FnMut(Step<'_>) -> ControlFlow<()> {
    let mut work = Some(work);
    move |_| {
        if let Some(work) = work.take() {
            work();
        }
        ControlFlow::Continue(())
    }
}

#[test]
fn what_is_written_during_an_edit_stays() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4]);
    let card = root.join("README.md");
    let plan = plan_delete(&root, &[0]).unwrap();
    let error = plan.run(&Output::InPlace, &mut once(|| fs::write(&card, "# Mine").unwrap())).unwrap_err();
    assert!(matches!(&error, ToolError::Changed { what, .. } if what == &["README.md"]), "{error}");
    assert_eq!((fs::read_to_string(&card).unwrap().as_str(), read(&root).len()), ("# Mine", 2));
    assert_eq!(beside(&root), ["dataset"]);
}

#[test]
fn another_dataset_that_has_the_name_by_now_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let [root, other, moved] = ["dataset", "other", "moved"].map(|name| folder.path().join(name));
    record(&root, 0, &[3, 4]);
    // So that it looks the same to whoever asks for its files only.
    assert!(Command::new("cp").arg("-a").args([&root, &other]).status().unwrap().success());
    let before = contents(&root);
    let plan = plan_delete(&root, &[0]).unwrap();
    let mut also_held = None;
    let exchange = || {
        fs::rename(&root, &moved).unwrap();
        fs::rename(&other, &root).unwrap();
        also_held = Some(Staging::open(&root).unwrap());
    };
    let error = plan.run(&Output::InPlace, &mut once(exchange)).unwrap_err();
    assert!(error.to_string().contains("another folder has taken its name"), "{error}");
    assert!(matches!(Staging::open(&root), Err(RecordError::Busy { .. })), "whoever holds it still does");
    drop(also_held);
    assert!(contents(&root) == before && contents(&moved) == before);
    assert_eq!(beside(&root), ["dataset", "moved"]);
}

/// Not a test of its own: what the tests below run in a process that may die.
#[test]
fn child() {
    let (Ok(root), Ok(mode)) = (std::env::var(ROOT), std::env::var(MODE)) else { return };
    let root = Path::new(&root);
    let said = match mode.as_str() {
        "edit" => {
            let plan = plan_rename_task(root, "Touch the marker", "Touch it");
            plan.and_then(|plan| plan.run(&Output::InPlace, &mut go_on)).map(drop)
        }
        "delete" => plan_delete(root, &[0]).and_then(|plan| plan.run(&Output::InPlace, &mut go_on)).map(drop),
        _ => undo(root),
    };
    fs::write(root.with_extension("said"), said.map_or_else(|error| chain(&error), |()| count().to_string())).unwrap();
}

/// What [`child`] said of its work in `mode`, if it lived; `wrapper` is a shell line that ends in `exec "$0" "$@"`.
fn said(root: &Path, mode: &str, plan: &str, wrapper: &str) -> Option<String> {
    let mut command = Command::new("sh");
    command.args(["-c", wrapper]).arg(std::env::current_exe().unwrap()).args(["--exact", "tests::placing::child", "--nocapture"]);
    command.env(ROOT, root).env(MODE, mode).env(PLAN, plan).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap();
    let path = root.with_extension("said");
    let said = fs::read_to_string(&path).ok();
    said.inspect(|_| fs::remove_file(path).unwrap())
}

const PLAIN: &str = r#"exec "$0" "$@""#;

#[test]
fn killed_or_refused_at_any_step_what_is_kept_is_what_was_there_before() {
    let folder = tempfile::tempdir().unwrap();
    let begun = folder.path().join("begun");
    fs::create_dir(&begun).unwrap();
    let root = begun.join("dataset");
    record(&root, 0, &[3, 4]);
    let first = read(&root);
    in_place(&plan_delete(&root, &[0]).unwrap());
    let second = read(&root);
    let tried = |mode: &str, plan: &str, root: &Path| {
        drop(fs::remove_dir_all(root.parent().unwrap()));
        assert!(Command::new("cp").arg("-a").arg(&begun).arg(root.parent().unwrap()).status().unwrap().success());
        said(root, mode, plan, PLAIN)
    };
    for mode in ["edit", "undo"] {
        let root = folder.path().join("tried/dataset");
        let steps: u64 = tried(mode, "none:0", &root).unwrap().parse().unwrap();
        let after = read(&root);
        assert!(after != second);
        let mut happened = [0, 0];
        // The last ones are what this is about, but none of those before may do harm.
        for step in (0..steps).filter(|step| step + 45 > steps || step % 9 == 0) {
            for kind in ["kill", "eio"] {
                let what = format!("{mode}, {kind} at {step} of {steps}");
                let said = tried(mode, &format!("{kind}:{step}"), &root);
                let now = read(&root);
                let has_happened = now == after;
                happened[usize::from(has_happened)] += 1;
                if let Some(said) = said {
                    assert_eq!(said.parse::<u64>().is_ok(), has_happened, "{what}: {said}");
                }
                let plan = plan_undo(&root).unwrap();
                let operation = plan.operation.as_deref().unwrap();
                let (wanted, brought_back) = match has_happened {
                    false => ("delete 1 of 2 episodes", &first),
                    true if mode == "undo" => ("undo: delete 1 of 2 episodes", &second),
                    true => ("rename", &second),
                };
                assert!(operation.starts_with(wanted) && plan.newer().is_none(), "{what}: {plan}");
                assert_eq!(kept_for_undo(&root).unwrap().unwrap().operation, plan.operation, "{what}");
                undo(&root).unwrap();
                assert!(read(&root) == *brought_back, "{what}");
                undo(&root).unwrap();
                assert!(read(&root) == now, "{what}");
                in_place(&plan_rename_task(&root, &task_of(&root), "Wave").unwrap());
                assert_eq!(beside(&root), [".dataset.undo", ".dataset.undo.json", "dataset"], "{what}");
            }
        }
        assert!(happened[0] > 10 && happened[1] > 4, "{happened:?}");
    }
}

fn task_of(root: &Path) -> String {
    crate::DatasetReader::open(root).unwrap().episodes()[0].tasks[0].clone()
}

#[test]
fn two_results_for_one_folder_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let [root, out] = ["dataset", "out"].map(|name| folder.path().join(name));
    record(&root, 0, &[3, 4]);
    // What a killed process left.
    fs::create_dir_all(folder.path().join(".out.building/.sinew")).unwrap();
    fs::write(folder.path().join(".out.building/.sinew/lock"), "").unwrap();
    fs::write(folder.path().join(".out.building/half"), "x").unwrap();
    let to = Output::Folder(out.clone());
    let [one, other] = [[0], [1]].map(|episodes| plan_delete(&root, &episodes).unwrap());
    let mut refused = None;
    one.run(&to, &mut once(|| refused = other.run(&to, &mut go_on).err())).unwrap();
    let error = refused.unwrap();
    assert!(error.to_string().contains("another process is doing so"), "{error}");
    assert!(read(&out) == read(&root)[1..]);
    assert!(!out.join("half").exists() && !out.join(".sinew").exists());
    assert_eq!(beside(&root), ["dataset", "out"]);
    assert!(matches!(other.run(&to, &mut go_on), Err(ToolError::NotEmpty { .. })));
}

#[test]
fn a_result_goes_neither_into_its_source_nor_around_it() {
    let folder = tempfile::tempdir().unwrap();
    let [root, other] = ["dataset", "other"].map(|name| folder.path().join(name));
    record(&root, 0, &[3, 4]);
    record(&other, 0, &[2]);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&root, &link).unwrap();
    let before = contents(folder.path());
    let plan = plan_merge(&[other, root.clone()]).unwrap();
    for out in [root.join("out"), root.join("new/out"), link.join("out"), root.clone(), folder.path().to_owned()] {
        let mut stop = |_: Step<'_>| -> ControlFlow<()> { panic!("nothing is begun") };
        let checked = plan.check(&Output::Folder(out.clone())).unwrap_err().to_string();
        assert!(checked.contains("in the dataset") || checked.contains("is in it"), "{checked}");
        assert_eq!(plan.run(&Output::Folder(out), &mut stop).unwrap_err().to_string(), checked);
    }
    assert!(contents(folder.path()) == before);
}

#[test]
fn what_is_kept_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let [root, kept] = ["dataset", ".dataset.undo"].map(|name| folder.path().join(name));
    record(&root, 0, &[3, 4]);
    in_place(&plan_delete(&root, &[0]).unwrap());
    let before = contents(folder.path());
    let resumed = DatasetRecorder::resume(&kept, &small_robot(), 30, RecorderOptions::default());
    let error = resumed.err().unwrap();
    assert!(matches!(&error, RecordError::Kept { dataset, .. } if dataset.ends_with("dataset")), "{error}");
    let plan = plan_delete(&kept, &[0]).unwrap();
    let error = plan.check(&Output::InPlace).unwrap_err().to_string();
    assert!(error.contains("kept to undo the last change of"), "{error}");
    assert!(plan.run(&Output::InPlace, &mut go_on).is_err());
    assert!(contents(folder.path()) == before);
    // A dataset that is but called so is one like any other.
    let other = folder.path().join(".mine.undo");
    record(&other, 0, &[3]);
    record(&other, 1, &[3]);
}

#[test]
fn only_what_was_shown_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4]);
    in_place(&plan_delete(&root, &[0]).unwrap());
    let shown = kept_for_undo(&root).unwrap().unwrap();
    // While the question waits.
    undo(&root).unwrap();
    let error = shown.forget().unwrap_err();
    assert!(matches!(error, ToolError::Changed { .. }), "{error}");
    undo(&root).unwrap();
    assert_eq!(read(&root).len(), 1);
    in_place(&plan_rename_task(&root, &task_of(&root), "Wave").unwrap());
    assert!(shown.forget().is_err());
    kept_for_undo(&root).unwrap().unwrap().forget().unwrap();
    assert_eq!(beside(&root), ["dataset"]);
    assert!(matches!(shown.forget(), Err(ToolError::Changed { .. })));
}

/// Needs a system that lets its users mount in a space of their own.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_can_t_be_moved_is_refused_before_anything_is_built() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let lower = folder.path().join("lower/dataset");
    record(&lower, 0, &[3, 4]);
    let before = contents(&lower);
    let root = folder.path().join("merged/dataset");
    // What is said there goes to the upper layer.
    let upper = folder.path().join("upper/dataset.said");
    let at = |options: &str| format!("cd {} && mount -t overlay overlay -o {options} merged && {PLAIN}", folder.path().display());
    let run = |options: &str| {
        let inner = at(options).replace('\'', "'\\''");
        said(&root, "delete", "none:0", &format!("exec unshare -rUm sh -c '{inner}' \"$0\" \"$@\""));
        fs::read_to_string(&upper).ok()
    };
    let Some(found) = run("lowerdir=lower,upperdir=upper,workdir=work") else {
        return eprintln!("no overlayfs can be mounted here");
    };
    assert!(found.contains("its file system can't rename its folder") && found.contains("--out"), "{found}");
    assert!(contents(&lower) == before);
    let names: Vec<_> = fs::read_dir(folder.path().join("upper")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("building")), "{names:?}");
}
