//! Motors that are not there, played by `sinew emulate`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::common::Desk;

/// `sinew emulate`, until it is dropped.
pub struct Played {
    child: Child,
    commands: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Played {
    pub fn start(desk: &Desk, args: &[&str]) -> Self {
        let mut command = desk.sinew(&[&["emulate"], args].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (commands, mut says) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut line = String::new();
        while !line.contains(" motors at ") {
            line.clear();
            assert!(says.read_line(&mut line).unwrap() > 0, "it ended");
        }
        Self { child, commands, says }
    }

    pub fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").unwrap();
        let mut line = String::new();
        // A world tells its outcome by itself.
        while line.is_empty() || line.starts_with("world: ") {
            line.clear();
            assert!(self.says.read_line(&mut line).unwrap() > 0, "{command}: it ended");
        }
        line.trim().to_owned()
    }

    /// An answer that is a number.
    pub fn value(&mut self, command: &str) -> i32 {
        let answer = self.ask(command);
        let number = answer.parse();
        assert!(number.is_ok(), "{command}: {answer}");
        number.unwrap()
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
