//! A machine with a POSIX shell, this one or one behind the system's ssh, and a training on it that outlives whoever
//! started it.
//!
//! A run has a folder there: `claim` (made by the first that starts it, so that there is never a second), `pid`,
//! `train.log`, `exit` (the exit code, written last) and `run` (LeRobot's own). All that is asked of the machine is
//! a script that a shell reads from its standard input, so that no login shell gets to read words.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::family::Family;
use super::line::{LEROBOT, line, quoted};
use crate::text;

/// Stands around the training: `$1` is the folder, `$2` the key, the rest is run. Signals to its group end the
/// training, not this, which has yet to write down how it ended.
const AROUND: &str = r#"folder=$1; shift 2
mkdir "$folder/claim" 2>/dev/null || exit 0
trap : INT TERM
trap '' HUP
export PYTHONUNBUFFERED=1
echo $$ >"$folder/pid"
"$@" >>"$folder/train.log" 2>&1 </dev/null
echo $? >"$folder/exit.new" && mv "$folder/exit.new" "$folder/exit""#;

/// Whether the process of the folder `$folder` and the key `$key` is there. A number alone may be another's by now, and
/// one that is dead and not yet buried has no words any more.
const ALIVE: &str = r#"alive() {
  pid=$(cat "$folder/pid")
  kill -0 "$pid" 2>/dev/null && { tr '\0' ' ' <"/proc/$pid/cmdline" || ps -p "$pid" -o args=; } 2>/dev/null | grep -q "$key"
}
"#;

/// Says `none`, `running PID`, `ended CODE` or `lost`, of the folder `$folder` and the key `$key`.
const STANDING: &str = r#"ended() { [ -f "$folder/exit" ] && echo "ended $(cat "$folder/exit")"; }
ended && exit 0
[ -s "$folder/pid" ] || { echo none; exit 0; }
if alive; then
  echo "running $pid"
else
  ended || echo lost
fi"#;

/// Sends the log from byte `$at` on, until the training is over.
const FOLLOW: &str = r#"while :; do
  over=
  if [ -f "$folder/exit" ] || ! alive; then over=1; fi
  size=0
  if [ -f "$folder/train.log" ]; then size=$(($(wc -c <"$folder/train.log"))); fi
  if [ "$size" -gt "$at" ]; then
    tail -c "+$((at + 1))" "$folder/train.log" | head -c "$((size - at))" || exit 0
    at=$size
  fi
  if [ -n "$over" ]; then exit 0; fi
  sleep 1
done"#;

/// Says which LeRobot there is, and which of the modules it is asked for are missing.
const LOOK: &str = "import importlib.util as u, sys\nimport lerobot\n\
    print(lerobot.__version__, *[n for n in sys.argv[1:] if u.find_spec(n) is None])";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machine {
    Here,
    Ssh(String),
}

/// How a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has started it.
    None,
    Running {
        pid: u32,
    },
    Ended {
        code: i32,
    },
    /// Its process is gone and has not said how it ended: killed, or the machine went down.
    Lost,
}

/// A run on a machine.
#[derive(Clone, Debug)]
pub struct Run {
    pub machine: Machine,
    pub folder: String,
    pub key: String,
}

impl Machine {
    fn ssh(program: &str, more: &[&str]) -> Command {
        let mut command = Command::new(program);
        // Nobody is there to type a password each time the line was lost.
        for option in ["BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4"] {
            command.args(["-o", option]);
        }
        command.args(more).process_group(0);
        command
    }

    /// A shell there, in a process group of its own: Ctrl-C is for us, who then says what ends.
    fn shell(&self) -> Command {
        let mut command = match self {
            Self::Here => Command::new("sh"),
            Self::Ssh(host) => Self::ssh("ssh", &[host, "sh"]),
        };
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    fn spawn(&self, script: &str, stderr: Stdio) -> anyhow::Result<Child> {
        let doing = || format!("starting a shell {self}");
        let mut child = self.shell().stderr(stderr).spawn().with_context(doing)?;
        // Where the shell has gone already, its exit code says why.
        drop(child.stdin.take().map(|mut stdin| stdin.write_all(script.as_bytes())));
        Ok(child)
    }

    fn output(&self, script: &str) -> anyhow::Result<Output> {
        let output = self.spawn(script, Stdio::piped())?.wait_with_output().with_context(|| format!("asking a shell {self}"))?;
        // ssh's own code for a line that it could not make or hold.
        if *self != Self::Here && output.status.code() == Some(255) {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("reaching it {self}: {}; ssh must come in without asking for a password", text::in_line(said.trim()));
        }
        Ok(output)
    }

    /// What a script prints that must succeed.
    fn ask(&self, doing: &str, script: &str) -> anyhow::Result<String> {
        let output = self.output(script)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{doing} {self}: {}", text::harmless(said.trim()));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Checks that `python` has LeRobot as its words are written here, and what the family needs beside.
    pub fn check_python(&self, python: &str, family: &Family) -> anyhow::Result<()> {
        let modules = ["accelerate", "datasets"].into_iter().chain(family.extra.map(|(_, module)| module));
        let words = [python, "-c", LOOK].into_iter().chain(modules);
        let output = self.output(&format!("exec {}", line(words)))?;
        let extras = family.extra.map(|(extra, _)| format!(",{extra}")).unwrap_or_default();
        let install = format!("{python} -m pip install 'lerobot[training{extras}]=={LEROBOT}'");
        let heard = String::from_utf8_lossy(&output.stdout);
        let Some((version, missing)) =
            heard.lines().last().filter(|_| output.status.success()).map(|it| it.split_once(' ').unwrap_or((it, "")))
        else {
            let said = String::from_utf8_lossy(&output.stderr);
            let why = said.lines().last().unwrap_or("it said nothing").trim();
            bail!("importing lerobot in {python} {self}: {}; install it by\n  {install}", text::in_line(why));
        };
        ensure!(
            missing.is_empty(),
            "looking for what lerobot-train needs in {python} {self}: {missing} can't be imported; install it by\n  {install}"
        );
        let of_series = |version: &str| version.rsplit_once('.').map(|(series, _)| series.to_owned());
        ensure!(
            of_series(version) == of_series(LEROBOT),
            "looking at LeRobot in {python} {self}: it is {}, expected {LEROBOT}, whose words are used; install it by\n  {install}",
            text::in_line(version)
        );
        if version != LEROBOT {
            text::note!("LeRobot is {version} there; the words are those of {LEROBOT}");
        }
        Ok(())
    }

    /// Copies a folder there, in place of what is there.
    pub fn send(&self, from: &Path, to: &str) -> anyhow::Result<()> {
        let Self::Ssh(host) = self else { return Ok(()) };
        let parent = to.rsplit_once('/').map_or(".", |(parent, _)| parent);
        self.ask("making a folder", &format!("rm -rf {to} && mkdir -p {parent}", to = quoted(to), parent = quoted(parent)))?;
        Self::copy(&from.display().to_string(), &format!("{host}:{to}"))
    }

    /// Brings a folder from there to `to`, whole or not at all.
    pub fn fetch(&self, from: &str, to: &Path) -> anyhow::Result<()> {
        let Self::Ssh(host) = self else { return Ok(()) };
        let part = to.with_extension("part");
        let doing = || format!("bringing the checkpoint to {}", to.display());
        if part.exists() {
            std::fs::remove_dir_all(&part).with_context(doing)?;
        }
        Self::copy(&format!("{host}:{from}"), &part.display().to_string())?;
        std::fs::rename(&part, to).with_context(doing)
    }

    fn copy(from: &str, to: &str) -> anyhow::Result<()> {
        let output = Self::ssh("scp", &["-r", "-q", "--", from, to]).stdin(Stdio::null()).output().context("starting scp")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "copying {from} to {to} by scp: {}", text::in_line(said.trim()));
        Ok(())
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here => f.write_str("here"),
            Self::Ssh(host) => write!(f, "on {host}"),
        }
    }
}

impl Run {
    /// What every script about it begins with.
    fn beginning(&self) -> String {
        format!("folder={}; key={}\n{ALIVE}", quoted(&self.folder), quoted(&self.key))
    }

    /// Starts `words` there, unless that was done before, and waits until it is known to run.
    pub fn begin(&self, words: &[String]) -> anyhow::Result<Standing> {
        let around = ["sh", "-c", AROUND, "sinew-train", &self.folder, &self.key];
        let words: Vec<&str> = around.into_iter().chain(words.iter().map(String::as_str)).collect();
        match &self.machine {
            Machine::Here => {
                std::fs::create_dir_all(&self.folder).with_context(|| format!("making the folder {}", self.folder))?;
                let mut command = Command::new(words[0]);
                command.args(&words[1..]).process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                // It outlives us; where it ends first, its folder says so.
                drop(command.spawn().context("starting the training")?);
            }
            Machine::Ssh(_) => {
                // A session of its own, so that the end of ssh's is not its end, and one signal reaches all of it.
                let script = format!(
                    "mkdir -p {} && command -v setsid >/dev/null || {{ echo 'there is no setsid (of util-linux)' >&2; exit 1; }}\n\
                     setsid {} </dev/null >/dev/null 2>&1 &\n",
                    quoted(&self.folder),
                    line(words)
                );
                self.machine.ask("starting the training", &script)?;
            }
        }
        for _ in 0..100 {
            match self.standing()? {
                Standing::None => std::thread::sleep(Duration::from_millis(100)),
                known => return Ok(known),
            }
        }
        bail!("starting the training {}: it has not begun within 10 s", self.machine)
    }

    pub fn standing(&self) -> anyhow::Result<Standing> {
        let said = self.machine.ask("looking at the training", &format!("{}{STANDING}", self.beginning()))?;
        let mut words = said.split_whitespace();
        match (words.next(), words.next().map(str::parse::<i64>)) {
            (Some("none"), _) => Ok(Standing::None),
            (Some("lost"), _) => Ok(Standing::Lost),
            (Some("running"), Some(Ok(pid))) => Ok(Standing::Running { pid: u32::try_from(pid)? }),
            (Some("ended"), Some(Ok(code))) => Ok(Standing::Ended { code: i32::try_from(code)? }),
            _ => bail!("looking at the training {}: found {:?}", self.machine, text::in_line(&said)),
        }
    }

    /// Hands the log's bytes from `at` on to `take`, as they come; how many there were. It ends when the training does,
    /// when the line is lost, or when `take` says so.
    pub fn follow(&self, at: u64, mut take: impl FnMut(&[u8]) -> bool) -> anyhow::Result<u64> {
        let mut child = self.machine.spawn(&format!("at={at}; {}{FOLLOW}", self.beginning()), Stdio::null())?;
        let mut stdout = child.stdout.take().context("following the log: the shell has no output")?;
        let (mut buffer, mut count) = ([0; 16 << 10], 0);
        loop {
            match stdout.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) if take(&buffer[..read]) => count += read as u64,
                Ok(_) => break,
            }
        }
        drop(stdout);
        // It may be waiting for the next second.
        drop(child.kill());
        drop(child.wait());
        Ok(count)
    }

    /// Ends the training in order, then with more and more force; how it stands then.
    pub fn stop(&self) -> anyhow::Result<Standing> {
        // As Ctrl-C, so that Python tidies up. Behind ssh it was begun in the background, where shells have INT ignored.
        let first = if self.machine == Machine::Here { "INT" } else { "TERM" };
        for (signal, tenths) in [(first, 100), ("TERM", 50), ("KILL", 20)] {
            let Standing::Running { pid } = self.standing()? else { break };
            // The group: its workers as well. It may be gone by now.
            drop(self.machine.output(&format!("kill -s {signal} -- -{pid}\n"))?);
            for _ in 0..tenths {
                std::thread::sleep(Duration::from_millis(100));
                if !matches!(self.standing()?, Standing::Running { .. }) {
                    break;
                }
            }
        }
        self.standing()
    }
}
