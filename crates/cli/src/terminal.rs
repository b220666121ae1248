//! Single keys from the terminal, also over SSH: no display is needed.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr};

/// How long the rest of an escape sequence may take, in tenths of a second.
const ESCAPE_DECISECONDS: u8 = 1;

/// How the terminal was before keys were read from it.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Left,
    Right,
    Escape,
    Tab,
    Enter,
    Char(char),
}

/// Reads keys until it is dropped. Ctrl-C stays what it is.
pub struct Keys {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keys {
    /// `None` where standard input is no terminal, or one that belongs to another process now.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn start(mut pressed: impl FnMut(Key) + Send + 'static) -> anyhow::Result<Option<Self>> {
        let input = std::io::stdin();
        let (Ok(before), Ok(owner)) = (tcgetattr(&input), tcgetpgrp(&input)) else { return Ok(None) };
        if process_group() != Some(owner.as_raw_nonzero().get()) {
            return Ok(None);
        }
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = ESCAPE_DECISECONDS;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        tcsetattr(&input, OptionalActions::Now, &raw).context("asking the terminal for single keys")?;
        let done = Arc::new(AtomicBool::new(false));
        let seen = done.clone();
        let read = move || {
            let (mut bytes, mut parser) = ([0; 64], Parser::default());
            while !seen.load(Ordering::Acquire) {
                match std::io::stdin().lock().read(&mut bytes) {
                    // Time has passed, or the terminal has gone.
                    Ok(0) => {
                        parser.pause(&mut pressed);
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    Ok(count) => bytes[..count].iter().for_each(|byte| parser.take(*byte, &mut pressed)),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => return,
                }
            }
        };
        let thread = std::thread::Builder::new().name("keys".into()).spawn(read).context("starting the thread that reads keys")?;
        Ok(Some(Self { done, thread: Some(thread) }))
    }
}

/// Of this process. A process whose group doesn't have the terminal would be stopped by asking it.
fn process_group() -> Option<i32> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // `pid (name) state ppid pgrp ...`, where the name may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed where it happened.
            drop(thread.join());
        }
        restore();
    }
}

/// Leaves the terminal as it was found; for every way out of the process.
pub fn restore() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
    }
}

/// Keys from the bytes of a terminal.
#[derive(Default)]
struct Parser {
    /// The escape sequence that has begun.
    sequence: Vec<u8>,
}

impl Parser {
    fn take(&mut self, byte: u8, pressed: &mut impl FnMut(Key)) {
        match (self.sequence.as_slice(), byte) {
            ([], 0x1b) => self.sequence.push(byte),
            ([], b'\t') => pressed(Key::Tab),
            ([], b'\r' | b'\n') => pressed(Key::Enter),
            ([], b' '..=b'~') => pressed(Key::Char(byte.into())),
            ([], _) => {}
            ([0x1b], b'[' | b'O') => self.sequence.push(byte),
            ([0x1b], _) => {
                self.sequence.clear();
                pressed(Key::Escape);
                self.take(byte, pressed);
            }
            // The last byte of a sequence is a letter or `~`.
            (_, b'@'..=b'~') => {
                if self.sequence.len() == 2 && byte == b'C' {
                    pressed(Key::Right);
                } else if self.sequence.len() == 2 && byte == b'D' {
                    pressed(Key::Left);
                }
                self.sequence.clear();
            }
            _ if self.sequence.len() < 16 => self.sequence.push(byte),
            _ => self.sequence.clear(),
        }
    }

    /// Nothing has followed for a while.
    fn pause(&mut self, pressed: &mut impl FnMut(Key)) {
        if std::mem::take(&mut self.sequence) == [0x1b] {
            pressed(Key::Escape);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
#[path = "../tests/common/pty.rs"]
mod pty;

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "SINEW_TEST_PANICS";

    /// Does nothing when it is run as a test.
    #[test]
    fn role_of_a_session_that_panics() {
        if std::env::var_os(ROLE).is_some() {
            let _keys = Keys::start(|_| {}).unwrap().unwrap();
            std::thread::sleep(Duration::from_millis(500));
            panic!("a bug of the session");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_panic_gives_the_terminal_back() {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "terminal::tests::role_of_a_session_that_panics", "--nocapture"]).env(ROLE, "1");
        let mut terminal = pty::Terminal::run(&command, None);
        while terminal.is_usual() {
            assert!(terminal.child.try_wait().unwrap().is_none(), "it ended too early: {}", terminal.heard.text());
            std::thread::sleep(Duration::from_millis(5));
        }
        let (code, text) = terminal.end();
        assert!(code != Some(0) && text.contains("a bug of the session") && terminal.is_usual(), "{code:?}: {text}");
    }

    #[test]
    fn keys_are_told_apart_however_their_bytes_arrive() {
        let (mut keys, mut parser) = (Vec::new(), Parser::default());
        // A right arrow, F5 and a left arrow in the other mode; then a lone escape and letters.
        for byte in b"s \x1b[C\x1b[15~\x1bOD\t\r" {
            parser.take(*byte, &mut |key| keys.push(key));
        }
        parser.take(0x1b, &mut |key| keys.push(key));
        parser.pause(&mut |key| keys.push(key));
        parser.pause(&mut |key| keys.push(key));
        for byte in b"\x1bh\xc3\xa4" {
            parser.take(*byte, &mut |key| keys.push(key));
        }
        let expected =
            [Key::Char('s'), Key::Char(' '), Key::Right, Key::Left, Key::Tab, Key::Enter, Key::Escape, Key::Escape, Key::Char('h')];
        assert_eq!(keys, expected);
    }
}
