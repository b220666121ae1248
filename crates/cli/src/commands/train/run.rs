//! A training on a machine that outlives whoever started it.
//!
//! It has a folder there: `claim` (made by the first that starts it, so that there is never a second), `pid`,
//! `train.log`, `exit` (the exit code, written last) and `run` (LeRobot's own).

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::line::{MODULE, line, quoted};
use super::machine::{Asked, MOST_GREETING, Machine};
use crate::text;

/// Stands around the training: `$1` is the folder, `$2` the key, the rest is run. Signals to its group end the
/// training, not this, which has yet to write down how it ended. What nobody could find again does not begin.
const AROUND: &str = r#"folder=$1; shift 2
mkdir "$folder/claim" 2>/dev/null || exit 0
trap : INT TERM
trap '' HUP
export PYTHONUNBUFFERED=1
if ! echo $$ >"$folder/pid" || [ "$(cat "$folder/pid")" != $$ ]; then
  rm -f "$folder/pid"; rmdir "$folder/claim"; exit 1
fi
"$@" >>"$folder/train.log" 2>&1 </dev/null
echo $? >"$folder/exit.new" && mv "$folder/exit.new" "$folder/exit""#;

/// Whether anybody of the group `$pid` has the key (as the pattern `$key`, which does not find itself) among its words:
/// the script around the training or, where that was killed, the training. A number alone may be another's by now, and
/// one that is dead and not yet buried has no words any more.
const ALIVE: &str = r#"alive() {
  pid=$(cat "$folder/pid" 2>/dev/null)
  case $pid in '' | *[!0-9]*) return 1 ;; esac
  if [ -r /proc/self/stat ]; then
    grep -q "$key" "/proc/$pid/cmdline" 2>/dev/null && return 0
    for each in $(grep -ls "$key" /proc/[0-9]*/cmdline 2>/dev/null); do
      stat=$(cat "${each%cmdline}stat" 2>/dev/null)
      set -- ${stat##*) }
      [ "$3" = "$pid" ] && return 0
    done
    return 1
  fi
  ps -A -o pgid= -o args= 2>/dev/null | grep -q "^ *$pid .*$key"
}
"#;

/// Says `none`, `claimed` (somebody begins it, and has not yet said as which process), `running PID`, `ended CODE` or
/// `lost`.
const STANDING: &str = r#"ended() { [ -f "$folder/exit" ] && echo "ended $(cat "$folder/exit")"; }
ended && exit 0
if [ -f "$folder/pid" ] && [ -s "$folder/pid" ]; then
  if alive; then echo "running $pid"; else ended || echo lost; fi
elif [ -d "$folder/claim" ]; then echo claimed
else echo none
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

/// Says the step of the newest checkpoint. LeRobot sets the link when all else of it is written.
const LAST: &str = r#"last=$folder/run/checkpoints/last
step=$(readlink "$last") || exit 0
if [ -f "$last/pretrained_model/config.json" ] && [ -f "$last/pretrained_model/model.safetensors" ]; then echo "${step##*/}"; fi"#;

/// How long it may take from the start until the process is known, in tenths of a second.
const TENTHS_TO_BEGIN: usize = 150;

/// How a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has started it, or its folder is gone.
    None,
    /// Somebody has begun to start it, and its process is not known.
    Claimed,
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

impl Run {
    /// What every script about it begins with.
    fn beginning(&self) -> String {
        let (first, rest) = self.key.split_at_checked(1).unwrap_or_default();
        format!("folder={}; key={}\n{ALIVE}", quoted(&self.folder), quoted(&format!("[{first}]{rest}")))
    }

    /// Starts LeRobot's trainer there in `python`, unless that was done before, and waits until it is known to run.
    pub fn begin(&self, python: &str, words: &[String]) -> anyhow::Result<Standing> {
        let around = ["sh", "-c", AROUND, "sinew-train", &self.folder, &self.key];
        // Python passes over what it does not know after -X: by it the process is known.
        let mark = format!("sinew-train={}", self.key);
        let trainer = [python, "-X", &mark, "-m", MODULE];
        let words: Vec<&str> = around.into_iter().chain(trainer).chain(words.iter().map(String::as_str)).collect();
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
        for _ in 0..TENTHS_TO_BEGIN {
            match self.standing()? {
                Standing::None | Standing::Claimed => std::thread::sleep(Duration::from_millis(100)),
                known => return Ok(known),
            }
        }
        bail!(
            "starting the training {}: nothing has begun within {} s; can {} be written there, and is there room on its disk?",
            self.machine,
            TENTHS_TO_BEGIN / 10,
            self.folder
        )
    }

    pub fn standing(&self) -> anyhow::Result<Standing> {
        let said = self.machine.ask("looking at the training", &format!("{}{STANDING}", self.beginning()))?;
        let mut words = said.split_whitespace();
        match (words.next(), words.next().map(str::parse::<i64>)) {
            (Some("none"), _) => Ok(Standing::None),
            (Some("claimed"), _) => Ok(Standing::Claimed),
            (Some("lost"), _) => Ok(Standing::Lost),
            (Some("running"), Some(Ok(pid))) => Ok(Standing::Running { pid: u32::try_from(pid)? }),
            (Some("ended"), Some(Ok(code))) => Ok(Standing::Ended { code: i32::try_from(code)? }),
            _ => bail!("looking at the training {}: found {:?}", self.machine, text::in_line(&said)),
        }
    }

    /// What to say where there was something.
    pub fn nothing_there(&self) -> String {
        format!(
            "looking for the training {}: there is nothing of it any more in {}, and nothing was started in its place; \
             is the disk there, and the folder where it was? Else begin anew with another --out",
            self.machine, self.folder
        )
    }

    /// The step of the newest checkpoint that is whole.
    pub fn last_step(&self) -> anyhow::Result<Option<u64>> {
        let said = self.machine.ask("looking for a checkpoint", &format!("{}{LAST}", self.beginning()))?;
        Ok(said.trim().parse().ok())
    }

    /// Sees to it that nothing begins any more; false where somebody has begun already.
    pub fn forbid(&self) -> anyhow::Result<bool> {
        let script = format!("{}mkdir -p \"$folder\" || exit 1\nmkdir \"$folder/claim\" 2>/dev/null && echo kept", self.beginning());
        let answer = self.machine.output(&format!("{script}\n[ -d \"$folder/claim\" ]"))?;
        ensure!(answer.status.success(), "keeping the training {} from beginning: {}", self.machine, text::harmless(&answer.stderr));
        Ok(answer.stdout.trim() == "kept")
    }

    /// Hands the log's bytes from `at` on to `take`, as they come; how many there were. It ends when the training does,
    /// when the line is lost, or when `take` says so.
    pub fn follow(&self, at: u64, mut take: impl FnMut(&[u8]) -> bool) -> anyhow::Result<u64> {
        let Asked { mut child, marker } = self.machine.spawn(&format!("at={at}; {}{FOLLOW}", self.beginning()))?;
        let mut stdout = child.stdout.take().context("following the log: the shell has no output")?;
        let marker = format!("\n{marker}\n").into_bytes();
        // What is no byte of the log is not counted as one.
        let mut greeting = Some(Vec::new());
        let (mut buffer, mut count) = ([0; 16 << 10], 0);
        while let Ok(read @ 1..) = stdout.read(&mut buffer) {
            let mut new = &buffer[..read];
            let heard;
            if let Some(mut before) = greeting.take() {
                before.extend_from_slice(new);
                let Some(at) = before.windows(marker.len()).position(|it| it == marker) else {
                    if before.len() > MOST_GREETING {
                        break;
                    }
                    greeting = Some(before);
                    continue;
                };
                heard = before.split_off(at + marker.len());
                new = &heard;
            }
            if !new.is_empty() && !take(new) {
                break;
            }
            count += new.len() as u64;
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
