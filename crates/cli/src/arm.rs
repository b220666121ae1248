//! An arm of motors that somebody sets up, and his answers.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::Duration;

use anyhow::{Context, bail};
use sinew_core::{RobotDescription, Role};
use sinew_drivers::{PortAddress, calibration_folder};

use crate::args::ArmArgs;
use crate::hardware;
use crate::text::note;

/// What the options named.
pub struct Arm {
    pub robot: Arc<RobotDescription>,
    pub ports: Vec<(String, PortAddress)>,
    pub latency: Duration,
}

impl Arm {
    pub fn of(args: &ArmArgs) -> anyhow::Result<Self> {
        let (name, ports, option, role) = match (&args.robot, &args.teleop) {
            (Some(robot), _) => (robot, &args.port, "--port", Role::Robot),
            (None, Some(teleop)) => (teleop, &args.teleop_port, "--teleop-port", Role::Teleoperator),
            (None, None) => bail!("expected --robot or --teleop"),
        };
        let robot = hardware::describe(name, role)?;
        let ports = hardware::serial_ports(&robot, ports, option)?;
        Ok(Self { robot: Arc::new(robot), ports, latency: Duration::from_millis(args.latency_ms.unwrap_or(5)) })
    }
}

/// LeRobot's folder of calibrations.
pub fn calibrations() -> anyhow::Result<PathBuf> {
    calibration_folder(|name| std::env::var_os(name)).context("looking for LeRobot's folder of calibrations: HOME is not set")
}

/// Lines of standard input, by whoever writes them.
pub struct Answers {
    lines: Receiver<std::io::Result<String>>,
}

impl Answers {
    /// Begins to read.
    ///
    /// # Errors
    /// When there can be no thread for it.
    pub fn start() -> anyhow::Result<Self> {
        let (sender, lines) = channel();
        let read = move || {
            for line in std::io::stdin().lines() {
                if sender.send(line).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("answers".into()).spawn(read).context("starting the thread that reads answers")?;
        Ok(Self { lines })
    }

    /// Says `question` and waits for a line. What was typed at a terminal before that answers nothing: who pressed ENTER
    /// twice has not seen this question.
    ///
    /// # Errors
    /// When standard input has ended.
    pub fn ask(&self, question: &str) -> anyhow::Result<String> {
        self.ask_while(question, &mut || Ok(()))
    }

    /// The same; while nobody answers, it looks from time to time whether all `is_well`.
    ///
    /// # Errors
    /// When standard input has ended, or what is not well.
    pub fn ask_while(&self, question: &str, is_well: &mut dyn FnMut() -> anyhow::Result<()>) -> anyhow::Result<String> {
        const LOOK: Duration = Duration::from_millis(100);
        self.say(question);
        loop {
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => return Ok(line.context("reading an answer")?.trim().to_owned()),
                Err(RecvTimeoutError::Timeout) => is_well()?,
                Err(RecvTimeoutError::Disconnected) => return ended(question),
            }
        }
    }

    /// Says `question`; [`newest`](Self::newest) tells of an answer.
    pub fn say(&self, question: &str) {
        if std::io::stdin().is_terminal() {
            while self.lines.try_recv().is_ok() {}
        }
        note!("{question}");
    }

    /// A line that has come meanwhile, after `question` was said.
    ///
    /// # Errors
    /// When standard input has ended.
    pub fn newest(&self, question: &str) -> anyhow::Result<Option<String>> {
        match self.lines.try_recv() {
            Ok(line) => Ok(Some(line.context("reading an answer")?)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => ended(question),
        }
    }
}

fn ended<T>(question: &str) -> anyhow::Result<T> {
    bail!("standard input ended before an answer to this question, and nothing more was done: {question}")
}
