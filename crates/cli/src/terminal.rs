//! Single keys from the terminal, also over SSH: no display is needed.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use sinew_core::{Clock, TeleoperatorError, Timestamp};
use sinew_drivers::teleop::{KeyEvent, KeySource, TeleopKey};

use crate::live::wait_a_little;
use keys::{Heard, Parser, Stroke};

#[path = "terminal/keys.rs"]
mod keys;

/// How long the rest of an escape sequence may take, in tenths of a second.
const ESCAPE_DECISECONDS: u8 = 1;

/// Whether the terminal speaks the kitty keyboard protocol, and, so that any terminal answers, what kind it is.
const ASK: &[u8] = b"\x1b[?u\x1b[c";
/// From now on each key is told by itself, also shift and control, and when it is repeated and released: flags 1, 2 and 8. And
/// when another window gets the keys, which the releases then go to.
const TELL_ALL: &[u8] = b"\x1b[>11u\x1b[?1004h";
/// As before.
const TELL_AS_BEFORE: &[u8] = b"\x1b[?1004l\x1b[<u";
/// A key that is held repeats within a second, as terminals are set; one that doesn't may have been let go of while the way from
/// the terminal was cut.
const SILENT: Duration = Duration::from_secs(1);

/// Whether the terminal was told to tell all.
static TELLS_ALL: AtomicBool = AtomicBool::new(false);

/// How long the terminal may take to hear that keys are told as before.
const LAST_WORDS: Duration = Duration::from_millis(200);

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
    /// `None` where standard input is no terminal, or one that belongs to another process now. For a teleoperator that is moved
    /// by keys, what happens to any key goes to `teleop`, and those that mean nothing to it go to `pressed`; a terminal that can
    /// say when keys are released is asked to.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn start(mut pressed: impl FnMut(Key) + Send + 'static, teleop: Option<TerminalKeys>) -> anyhow::Result<Option<Self>> {
        if !keep() {
            return Ok(None);
        }
        let input = std::io::stdin();
        let mut raw = tcgetattr(&input).context("asking the terminal how it is")?;
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = ESCAPE_DECISECONDS;
        tcsetattr(&input, OptionalActions::Now, &raw).context("asking the terminal for single keys")?;
        // Standard input is the terminal, which can be written to, too. One that can't is as one that doesn't answer.
        if teleop.is_some() {
            let _ = rustix::io::write(&input, ASK);
        }
        let done = Arc::new(AtomicBool::new(false));
        let seen = done.clone();
        let mut heard = move |heard: Heard| match heard {
            Heard::TellsAll => {
                if let Some(teleop) = &teleop
                    && !TELLS_ALL.swap(true, Ordering::AcqRel)
                {
                    // Should it end between the two, the way out tells it so once too often, which does nothing.
                    let told = rustix::io::write(std::io::stdin(), TELL_ALL);
                    teleop.tells.store(told.is_ok(), Ordering::Release);
                }
            }
            Heard::FocusLost => teleop.iter().for_each(TerminalKeys::let_go),
            Heard::Stroke(stroke) => {
                if let Some(signal) = stroke.signal() {
                    // The terminal, told to tell all, leaves this to whoever it tells.
                    let _ = kill_process(getpid(), signal);
                } else if !teleop.as_ref().is_some_and(|teleop| teleop.take(stroke))
                    && let Some(key) = stroke.press()
                {
                    pressed(key);
                }
            }
        };
        let read = move || {
            let (mut bytes, mut parser) = ([0; 64], Parser::default());
            while !seen.load(Ordering::Acquire) {
                match std::io::stdin().lock().read(&mut bytes) {
                    // Time has passed, or the terminal has gone.
                    Ok(0) => {
                        parser.pause(&mut heard);
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    Ok(count) => bytes[..count].iter().for_each(|byte| parser.take(*byte, &mut heard)),
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

/// Remembers how the terminal on standard input is, for [`restore`]; `false` where it is none of this process.
pub fn keep() -> bool {
    let input = std::io::stdin();
    let (Ok(before), Ok(owner)) = (tcgetattr(&input), tcgetpgrp(&input)) else { return false };
    if process_group() != Some(owner.as_raw_nonzero().get()) {
        return false;
    }
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
    true
}

/// What is typed is no longer shown, until [`restore`].
pub fn hide() -> std::io::Result<()> {
    let before = tcgetattr(std::io::stdin())?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
    Ok(tcsetattr(std::io::stdin(), OptionalActions::Now, &hidden)?)
}

/// Leaves the terminal as it was found; for every way out of the process.
pub fn restore() {
    if TELLS_ALL.swap(false, Ordering::AcqRel) {
        // A terminal that was stopped takes nothing.
        let tell = || {
            let _ = rustix::io::write(std::io::stdin(), TELL_AS_BEFORE);
        };
        wait_a_little(tell, LAST_WORDS);
    }
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
    }
}

/// The keys of the terminal, for a teleoperator. Clones share them.
#[derive(Clone)]
pub struct TerminalKeys {
    clock: Arc<dyn Clock>,
    uses: Arc<dyn Fn(TeleopKey) -> bool + Send + Sync>,
    events: Arc<Mutex<VecDeque<KeyEvent>>>,
    tells: Arc<AtomicBool>,
    /// Not all that happened is in `events`: nothing is held that they don't say anew.
    is_lost: Arc<AtomicBool>,
}

/// More than anyone presses between two turns; what nobody asks for is forgotten.
const MOST_EVENTS: usize = 256;

impl TerminalKeys {
    /// `clock` is the session's; keys that the teleoperator `uses` mean nothing else.
    #[allow(dead_code, reason = "no command is moved by keys yet")]
    pub fn new(clock: Arc<dyn Clock>, uses: impl Fn(TeleopKey) -> bool + Send + Sync + 'static) -> Self {
        Self { clock, uses: Arc::new(uses), events: Arc::default(), tells: Arc::default(), is_lost: Arc::default() }
    }

    /// Whether the teleoperator uses it.
    fn take(&self, stroke: Stroke) -> bool {
        let key = stroke.teleop_key();
        if !(self.uses)(key) {
            return false;
        }
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == MOST_EVENTS {
            events.clear();
            self.is_lost.store(true, Ordering::Release);
        }
        events.push_back(KeyEvent { key, change: stroke.change, time: self.clock.now() });
        true
    }

    fn let_go(&self) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.is_lost.store(true, Ordering::Release);
    }
}

impl KeySource for TerminalKeys {
    fn read(&mut self, _: Timestamp, heard: &mut dyn FnMut(KeyEvent)) -> Result<bool, TeleoperatorError> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let is_lost = self.is_lost.swap(false, Ordering::AcqRel);
        // What is held is forgotten after this, so a press that comes with a loss counts from its repetition on.
        events.drain(..).for_each(heard);
        Ok(is_lost)
    }

    fn tells_releases(&self) -> bool {
        self.tells.load(Ordering::Acquire)
    }

    fn silent_after(&self) -> Option<Duration> {
        self.tells_releases().then_some(SILENT)
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
            let _keys = Keys::start(|_| {}, None).unwrap().unwrap();
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

    const ROLE_KEYS: &str = "SINEW_TEST_KEYS";

    /// Does nothing when it is run as a test.
    #[test]
    fn role_of_a_session_that_is_moved_by_keys() {
        if std::env::var_os(ROLE_KEYS).is_some() {
            let clock = Arc::new(sinew_core::MockClock::new());
            let mut keys = TerminalKeys::new(clock, |key| key != TeleopKey::Tab && key != TeleopKey::Enter);
            let (done, ends) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let end = ends.clone();
            let desk = move |key| {
                println!("<desk {key:?}>");
                end.store(key == Key::Enter, Ordering::Release);
            };
            let started = Keys::start(desk, Some(keys.clone())).unwrap().unwrap();
            while !done.swap(ends.load(Ordering::Acquire), Ordering::AcqRel) {
                let tells = keys.tells_releases();
                if keys.read(Timestamp::ZERO, &mut |event| println!("<{:?} {:?} {tells}>", event.key, event.change)).unwrap() {
                    println!("<all is let go of>");
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            drop(started);
        }
    }

    #[cfg(target_os = "linux")]
    fn session_moved_by_keys() -> pty::Terminal {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "terminal::tests::role_of_a_session_that_is_moved_by_keys", "--nocapture"]).env(ROLE_KEYS, "1");
        let terminal = pty::Terminal::run(&command, None);
        terminal.heard.wait_for("\x1b[?u\x1b[c", 1);
        terminal
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_terminal_that_can_tells_when_keys_are_released() {
        let mut terminal = session_moved_by_keys();
        terminal.press("\x1b[?0u\x1b[?62;c");
        terminal.heard.wait_for("\x1b[>11u", 1);
        // W down, repeated and up, the right shift, an arrow; tab is the desk's.
        terminal.press("\x1b[119u\x1b[119;1:2u\x1b[119;1:3u\x1b[57447;2:1u\x1b[1;1:3B\x1b[9u\x1b[9;1:3u");
        terminal.heard.wait_for("<Down Released true>", 1);
        terminal.heard.wait_for("<desk Tab>", 1);
        for (words, count) in [("<Char('w') Pressed true>", 1), ("<Char('w') Repeated true>", 1), ("<Char('w') Released true>", 1)] {
            terminal.heard.wait_for(words, count);
        }
        terminal.heard.wait_for("<RightShift Pressed true>", 1);
        // Another window gets the keys, and this one has them again.
        terminal.press("\x1b[O\x1b[I");
        terminal.heard.wait_for("<all is let go of>", 1);
        assert_eq!(terminal.heard.count("\x1b[<u"), 0);
        terminal.press("\x1b[13u");
        let (code, text) = terminal.end();
        assert!(code == Some(0) && text.contains("\x1b[<u") && terminal.is_usual(), "{code:?}: {text}");
        assert_eq!(text.matches("<desk").count(), 2, "{text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn control_c_stays_what_it_is_where_keys_are_told_one_by_one() {
        let mut terminal = session_moved_by_keys();
        terminal.press("\x1b[?0u");
        terminal.heard.wait_for("\x1b[>11u", 1);
        terminal.press("\x1b[99;5u");
        let (code, text) = terminal.end();
        assert_eq!(code, None, "a signal ends it: {text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_terminal_that_can_not_is_left_as_it_is() {
        let mut terminal = session_moved_by_keys();
        terminal.press("\x1b[?62;c");
        terminal.press("w\x1b[5~\x1b[A[");
        for words in ["<Char('w') Pressed false>", "<PageUp Pressed false>", "<Up Pressed false>", "<Char('[') Pressed false>"] {
            terminal.heard.wait_for(words, 1);
        }
        terminal.press("\r");
        let (code, text) = terminal.end();
        assert!(code == Some(0) && !text.contains("\x1b[>11u") && !text.contains("\x1b[<u") && terminal.is_usual(), "{code:?}: {text}");
    }

    #[test]
    fn keys_are_told_apart_however_their_bytes_arrive() {
        let (mut keys, mut parser) = (Vec::new(), Parser::default());
        let mut take = |heard: Heard| match heard {
            Heard::Stroke(stroke) => keys.extend(stroke.press()),
            Heard::TellsAll | Heard::FocusLost => {}
        };
        // A right arrow, F5 and a left arrow in the other mode; then a lone escape and letters.
        for byte in b"s \x1b[C\x1b[15~\x1bOD\t\r" {
            parser.take(*byte, &mut take);
        }
        parser.take(0x1b, &mut take);
        parser.pause(&mut take);
        parser.pause(&mut take);
        for byte in b"\x1bh\xc3\xa4" {
            parser.take(*byte, &mut take);
        }
        let expected =
            [Key::Char('s'), Key::Char(' '), Key::Right, Key::Left, Key::Tab, Key::Enter, Key::Escape, Key::Escape, Key::Char('h')];
        assert_eq!(keys, expected);
    }
}
