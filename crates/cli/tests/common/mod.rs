//! Runs the binary as a user does, with a home of its own.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[cfg(target_os = "linux")]
pub mod pty;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

pub struct Desk {
    folder: TempDir,
}

impl Desk {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn sinew(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sinew"));
        self.prepare(&mut command);
        command.args(args);
        command
    }

    pub fn prepare(&self, command: &mut Command) {
        command.current_dir(self.folder.path()).env("HOME", self.folder.path()).env("HF_HUB_OFFLINE", "1").env("LC_ALL", "C.UTF-8");
        for name in [
            "XDG_CACHE_HOME",
            "XDG_CONFIG_HOME",
            "XDG_STATE_HOME",
            "HF_HOME",
            "HF_HUB_CACHE",
            "HF_LEROBOT_HOME",
            "HF_LEROBOT_CALIBRATION",
            "SINEW_LOG",
        ] {
            command.env_remove(name);
        }
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.sinew(args).output().unwrap()
    }

    /// Stdout of a run that must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Stderr of a run that must fail with exit code 1.
    pub fn error(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
        assert!(text.starts_with("error: ") && !text.contains("panicked"), "{args:?}: {text}");
        text
    }

    /// Stderr of a line that must be refused with exit code 2.
    #[track_caller]
    pub fn misuse(&self, words: &str) -> String {
        self.misused(&words.split(' ').collect::<Vec<_>>())
    }

    /// The same of words that may have spaces in them.
    #[track_caller]
    pub fn misused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        text
    }

    /// What `dataset info` says of a dataset, which must be whole after `what` was done.
    #[track_caller]
    pub fn recorded(&self, name: &str, what: &str) -> serde_json::Value {
        assert_eq!(sinew_recorder::verify(&self.path(name)).unwrap(), [], "{what}");
        serde_json::from_str(&self.ok(&["dataset", "info", name, "--json"])).unwrap()
    }

    /// A copy of the demonstration policy that may be spoilt.
    pub fn policy(&self, name: &str) -> PathBuf {
        let from = demo_policy();
        let to = self.path(name);
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
        to
    }
}

/// Starts a rollout and waits until it announces its task: from then on it handles signals.
pub fn announced(command: &mut Command) -> (Child, BufReader<ChildStdout>) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("task") {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "it ended too early");
    }
    (child, output)
}

/// The checkpoint as it lies in the repository.
pub fn demo_policy() -> PathBuf {
    let policies = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../policies");
    let mut found: Vec<PathBuf> = std::fs::read_dir(policies).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(found.len(), 1, "one policy ships");
    found.remove(0)
}

pub fn contains_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

/// Every file below `root` with its bytes, by its path.
pub fn files(root: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().display().to_string(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// A shell in `folder` in which `sinew` is the program under test, with no home, no network and no terminal.
pub fn shell(folder: &Path, script: &str) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_sinew"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-c", script]).current_dir(folder).env_clear().envs([
        ("PATH", path.as_str()),
        ("HOME", &folder.join("home").to_string_lossy()),
        ("HF_HUB_OFFLINE", "1"),
        ("LC_ALL", "C.UTF-8"),
    ]);
    command.stdin(Stdio::null()).output().unwrap()
}

pub fn wait_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}
