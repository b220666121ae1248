//! A machine with a POSIX shell, this one or one behind the system's ssh.
//!
//! All that is asked of it is a script that a shell reads from its standard input, so that no login shell gets to read
//! words. What a login shell says itself, as the greeting of a `.bashrc`, comes before a line that only the script can
//! have written, and is no answer.

use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::family::Family;
use super::line::{LEROBOT, line, quoted};
use crate::text;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked whether there is one.
const LOOK: Duration = Duration::from_millis(10);
/// What a login shell may say before, bytes.
pub const MOST_GREETING: usize = 64 << 10;

/// Says which LeRobot there is, and which of the modules it is asked for are missing.
const LOOK_FOR: &str = "import importlib.util as u, sys\nimport lerobot\n\
    print(lerobot.__version__, *[n for n in sys.argv[1:] if u.find_spec(n) is None])";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machine {
    Here,
    Ssh(String),
}

/// What came of a script.
pub struct Answer {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A script that runs.
pub struct Asked {
    pub child: Child,
    /// The line before its own words.
    pub marker: String,
}

/// Whose Ctrl-C a child hears.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    /// Ours: it ends with us.
    Ours,
    /// Its own: Ctrl-C is for us, who then say what ends.
    Own,
}

impl Machine {
    fn ssh(program: &str, more: &[&str]) -> Command {
        let mut command = Command::new(program);
        // Nobody is there to type a password each time the line was lost.
        for option in ["BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4"] {
            command.args(["-o", option]);
        }
        command.args(more);
        command
    }

    fn shell(&self, group: Group) -> Command {
        let mut command = match self {
            Self::Here => Command::new("sh"),
            Self::Ssh(host) => Self::ssh("ssh", &[host, "sh"]),
        };
        if group == Group::Own {
            command.process_group(0);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    fn spawn_in(&self, group: Group, script: &str, stderr: Stdio) -> anyhow::Result<Asked> {
        let marker = format!("sinew-{:016x}", fastrand::u64(..));
        let mut child = self.shell(group).stderr(stderr).spawn().with_context(|| format!("starting a shell {self}"))?;
        let script = format!("printf '\\n%s\\n' {marker}\n{script}");
        // Where the shell has gone already, its exit code says why.
        drop(child.stdin.take().map(|mut stdin| stdin.write_all(script.as_bytes())));
        Ok(Asked { child, marker })
    }

    /// Starts a script in a process group of its own.
    pub fn spawn(&self, script: &str) -> anyhow::Result<Asked> {
        self.spawn_in(Group::Own, script, Stdio::null())
    }

    /// What comes of a script within [`LIMIT`].
    pub fn output(&self, script: &str) -> anyhow::Result<Answer> {
        self.output_in(Group::Own, script)
    }

    fn output_in(&self, group: Group, script: &str) -> anyhow::Result<Answer> {
        let doing = || format!("asking a shell {self}");
        let Asked { mut child, marker } = self.spawn_in(group, script, Stdio::piped())?;
        let stdout = child.stdout.take().map(pieces).transpose().with_context(doing)?;
        let stderr = child.stderr.take().map(pieces).transpose().with_context(doing)?;
        let status = wait(&mut child, group).with_context(doing)?;
        let (stdout, stderr) = (gathered(stdout), gathered(stderr).trim().to_owned());
        let Some(status) = status else {
            bail!("{}: no answer within {} s{}", doing(), LIMIT.as_secs(), said(&stderr));
        };
        // ssh's own code for a line that it could not make or hold.
        if *self != Self::Here && status.code() == Some(255) {
            bail!("reaching it {self}: {}; ssh must come in without asking for a password", in_one_line(&stderr));
        }
        let Some((_, own)) = stdout.split_once(&format!("\n{marker}\n")) else {
            let heard: String = stdout.trim().chars().take(200).collect();
            bail!(
                "{}: expected a line of its own, found {:?}{}; does what a login runs there end it, or read its input?",
                doing(),
                heard,
                said(&stderr)
            );
        };
        Ok(Answer { status, stdout: own.to_owned(), stderr })
    }

    /// What a script prints that must succeed.
    pub fn ask(&self, doing: &str, script: &str) -> anyhow::Result<String> {
        let answer = self.output(script)?;
        ensure!(answer.status.success(), "{doing} {self}: {}", text::harmless(&answer.stderr));
        Ok(answer.stdout)
    }

    /// Checks that `python` has LeRobot as its words are written here, and what the family needs beside.
    pub fn check_python(&self, python: &str, family: &Family) -> anyhow::Result<()> {
        let modules = ["accelerate", "datasets"].into_iter().chain(family.extra.map(|(_, module)| module));
        let words = [python, "-c", LOOK_FOR].into_iter().chain(modules);
        let answer = self.output_in(Group::Ours, &format!("exec {}", line(words)))?;
        let extras = family.extra.map(|(extra, _)| format!(",{extra}")).unwrap_or_default();
        // What a shell ends with that finds no such program.
        if answer.status.code() == Some(127) {
            bail!("looking for LeRobot in {python} {self}: no such program; give --python the Python that has LeRobot");
        }
        let install = format!("{python} -m pip install 'lerobot[training{extras}]=={LEROBOT}'");
        let heard = answer.stdout.lines().last().filter(|_| answer.status.success());
        let Some((version, missing)) = heard.map(|it| it.split_once(' ').unwrap_or((it, ""))) else {
            let why: String = answer.stderr.lines().last().unwrap_or("it said nothing").trim().chars().take(500).collect();
            bail!("importing lerobot in {python} {self}: {}; install it by\n  {install}", text::in_line(&why));
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

    /// Makes the folder of a run, and sees that a file comes back out of it as the policy is to.
    pub fn check_way_back(&self, folder: &str) -> anyhow::Result<()> {
        let Self::Ssh(host) = self else { return Ok(()) };
        let words = format!("{:016x}", fastrand::u64(..));
        self.ask("making a folder", &format!("mkdir -p {to} && echo {words} >{to}/hello", to = quoted(folder)))?;
        let here = std::env::temp_dir().join(format!("sinew-{words}"));
        let copied = Self::copy(format!("{host}:{folder}/hello"), &here);
        let heard = std::fs::read_to_string(&here).unwrap_or_default();
        drop(std::fs::remove_file(&here));
        copied?;
        ensure!(heard.trim() == words, "copying from {host} by scp: expected {words:?}, found {:?}", text::in_line(heard.trim()));
        Ok(())
    }

    /// Copies a folder there, in place of what is there.
    pub fn send(&self, from: &Path, to: &str) -> anyhow::Result<()> {
        let Self::Ssh(host) = self else { return Ok(()) };
        let parent = to.rsplit_once('/').map_or(".", |(parent, _)| parent);
        self.ask("making a folder", &format!("rm -rf {to} && mkdir -p {parent}", to = quoted(to), parent = quoted(parent)))?;
        Self::copy(from, Path::new(&format!("{host}:{to}")))
    }

    /// Brings a folder from there to `to`, whole or not at all.
    pub fn fetch(&self, from: &str, to: &Path) -> anyhow::Result<()> {
        let Self::Ssh(host) = self else { return Ok(()) };
        let part = to.with_extension("part");
        let doing = || format!("bringing the checkpoint to {}", to.display());
        if part.exists() {
            std::fs::remove_dir_all(&part).with_context(doing)?;
        }
        Self::copy(format!("{host}:{from}"), &part)?;
        std::fs::rename(&part, to).with_context(doing)
    }

    fn copy(from: impl AsRef<Path>, to: &Path) -> anyhow::Result<()> {
        let from = from.as_ref();
        let copy = |more: &[&str]| {
            let words = [&["-r", "-q"], more, &["--"]].concat();
            let output = Self::ssh("scp", &words).arg(from).arg(to).stdin(Stdio::null()).output().context("starting scp")?;
            let heard = text::in_line(String::from_utf8_lossy(&output.stderr).trim()).into_owned();
            anyhow::Ok((output.status.success(), heard))
        };
        let (mut is_done, heard) = copy(&[])?;
        // What scp says where sshd has no sftp: then its older way may do, which needs none.
        let lacks_sftp = ["subsystem request failed", "Connection closed"].iter().any(|words| heard.contains(words));
        let mut advice = "";
        if !is_done && lacks_sftp {
            is_done = copy(&["-O"])?.0;
            advice = "; sftp is needed there: sshd has it by the line `Subsystem sftp internal-sftp` in its sshd_config";
        }
        ensure!(is_done, "copying {} to {} by scp: {heard}{advice}", from.display(), to.display());
        Ok(())
    }
}

/// The most of an answer that is kept, bytes.
const MOST_ANSWER: usize = 1 << 20;

/// What a stream says, as it comes.
fn pieces(mut stream: impl Read + Send + 'static) -> std::io::Result<Receiver<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        let mut buffer = [0; 16 << 10];
        let mut kept = 0;
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            // The rest is read, so that nobody waits for that, and forgotten.
            kept += count;
            if kept <= MOST_ANSWER && sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    };
    std::thread::Builder::new().name("answer".into()).spawn(read)?;
    Ok(receiver)
}

/// All that came. ssh may leave somebody behind who holds its line for others, and with it a stream, for ever.
fn gathered(pieces: Option<Receiver<Vec<u8>>>) -> String {
    let mut all = Vec::new();
    while let Some(Ok(piece)) = pieces.as_ref().map(|pieces| pieces.recv_timeout(Duration::from_secs(1))) {
        all.extend(piece);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// How a child ended; `None` when it took longer than [`LIMIT`] and was ended.
fn wait(child: &mut Child, group: Group) -> std::io::Result<Option<ExitStatus>> {
    for _ in 0..LIMIT.as_millis() / LOOK.as_millis() {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(LOOK);
    }
    let pid = Pid::from_child(child);
    let _ = if group == Group::Own { kill_process_group(pid, Signal::KILL) } else { kill_process(pid, Signal::KILL) };
    child.wait()?;
    Ok(None)
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(" ({})", in_one_line(stderr)) }
}

/// What was said in several lines, as ssh does, which ends some of them in the way of terminals.
fn in_one_line(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    text::in_line(&lines.join("; ")).into_owned()
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here => f.write_str("here"),
            Self::Ssh(host) => write!(f, "on {host}"),
        }
    }
}
