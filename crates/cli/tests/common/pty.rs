//! Programs on a pseudo-terminal of their own, as in a terminal's window or over SSH, and what they say.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]
#![allow(unsafe_code, reason = "the standard library opens no pseudo-terminal")]

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Getter, Opcode, Setter, ioctl, opcode};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// Linux's TIOCSPTLCK and TIOCGPTN.
const LOCK: Opcode = opcode::write::<i32>(b'T', 0x31);
const NUMBER: Opcode = opcode::read::<u32>(b'T', 0x30);

/// The longest that anything here takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What stands on a terminal of so many rows and columns after `heard`, what has scrolled away first.
pub fn screen(heard: &str, (rows, columns): (u16, u16)) -> Vec<String> {
    // A terminal of so many rows keeps all.
    let size = |count| std::num::NonZeroU16::new(count).unwrap();
    let mut parser = vt100::Parser::new(size(rows), size(columns), 10_000);
    parser.process(heard.as_bytes());
    parser.screen_mut().set_scrollback(usize::MAX);
    let gone = parser.screen().scrollback();
    let mut lines = Vec::new();
    for at in (1..=gone).rev() {
        parser.screen_mut().set_scrollback(at);
        lines.extend(parser.screen().rows(0, columns).next());
    }
    parser.screen_mut().set_scrollback(0);
    lines.extend(parser.screen().rows(0, columns));
    lines
}

/// What a program has said so far.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    /// Listens to `from` until its end on a thread of its own.
    pub fn listen(mut from: impl Read + Send + 'static) -> Self {
        let heard = Self::default();
        let hearing = heard.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                hearing.add(&bytes[..count]);
            }
        });
        heard
    }

    fn add(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    pub fn count(&self, words: &str) -> usize {
        self.text().matches(words).count()
    }

    /// Waits until `words` have been said `count` times.
    #[track_caller]
    pub fn wait_for(&self, words: &str, count: usize) {
        let start = Instant::now();
        while self.count(words) < count {
            assert!(start.elapsed() < PATIENCE, "{words:?} is not {count} times in:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The exit code of a process that ends by itself.
#[track_caller]
pub fn exit_code(child: &mut Child, heard: &Heard) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if start.elapsed() > PATIENCE {
            drop(child.kill());
            panic!("it does not end:\n{}", heard.text());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn signal(child: &Child, name: &str) {
    // One that has ended meanwhile hears nothing.
    Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
}

/// `command` as it is started from a terminal: signals do what they do by default, whatever holds for this process.
pub fn with_usual_signals(command: &Command, before: &[&str]) -> Command {
    let words: Vec<&str> = before.iter().copied().chain(["env", "--default-signal=INT,TERM,HUP"]).collect();
    let mut wrapped = Command::new(words[0]);
    wrapped.args(&words[1..]).arg(command.get_program()).args(command.get_args());
    wrapped.current_dir(command.get_current_dir().unwrap_or(".".as_ref()));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

/// A program whose terminal this is.
pub struct Terminal {
    master: Option<Arc<File>>,
    /// The program's side, to look at its modes.
    slave: File,
    pub child: Child,
    pub heard: Heard,
    done: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Runs `command` as the leader of a session on a new terminal; `errors` gets its standard error instead.
    pub fn run(command: &Command, errors: Option<File>) -> Self {
        Self::run_sized(command, errors, None)
    }

    /// The same on a terminal of so many rows and columns.
    pub fn run_sized(command: &Command, errors: Option<File>, size: Option<(u16, u16)>) -> Self {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = rustix::fs::open("/dev/ptmx", flags | OFlags::NONBLOCK, Mode::empty()).unwrap();
        // SAFETY: this operation takes a pointer to an int.
        unsafe { ioctl(&master, Setter::<LOCK, i32>::new(0)) }.unwrap();
        // SAFETY: this operation writes an unsigned int.
        let number = unsafe { ioctl(&master, Getter::<NUMBER, u32>::new()) }.unwrap();
        let slave = File::from(rustix::fs::open(format!("/dev/pts/{number}"), flags, Mode::empty()).unwrap());
        if let Some((ws_row, ws_col)) = size {
            tcsetwinsize(&slave, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        }
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        let mut command = with_usual_signals(command, &["setsid", "--ctty"]);
        command.stdin(stdio()).stdout(stdio()).stderr(errors.map_or_else(stdio, Stdio::from));
        let child = command.spawn().unwrap();

        let (master, heard, done) = (Arc::new(File::from(master)), Heard::default(), Arc::new(AtomicBool::new(false)));
        let (from, hearing, ending) = (master.clone(), heard.clone(), done.clone());
        let read = move || {
            let mut bytes = [0; 4096];
            loop {
                match (&*from).read(&mut bytes) {
                    Ok(count) => hearing.add(&bytes[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock && !ending.load(Ordering::Acquire) => {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    Err(_) => return,
                }
            }
        };
        let reader = Some(std::thread::spawn(read));
        Self { master: Some(master), slave, child, heard, done, reader }
    }

    pub fn press(&self, keys: &str) {
        self.press_bytes(keys.as_bytes());
    }

    /// The same for keys of another encoding than UTF-8.
    pub fn press_bytes(&self, keys: &[u8]) {
        let mut master = self.master.as_deref().unwrap();
        master.write_all(keys).unwrap();
    }

    /// Whether it has lines and echoes them, as a shell finds it and wants to have it back.
    pub fn is_usual(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        assert_eq!(modes.contains(LocalModes::ICANON), modes.contains(LocalModes::ECHO));
        assert!(modes.contains(LocalModes::ISIG), "Ctrl-C stays what it is");
        modes.contains(LocalModes::ICANON)
    }

    /// Whether it has lines and does not echo them, as where a password is asked for.
    pub fn is_hidden(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        modes.contains(LocalModes::ICANON) && !modes.contains(LocalModes::ECHO)
    }

    /// Closes the window, or loses the connection.
    pub fn hang_up(&mut self) {
        self.stop_reading();
        self.master = None;
    }

    fn stop_reading(&mut self) {
        self.done.store(true, Ordering::Release);
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    /// Waits until the program has ended: its exit code and all that it said.
    #[track_caller]
    pub fn end(&mut self) -> (Option<i32>, String) {
        let code = exit_code(&mut self.child, &self.heard);
        self.stop_reading();
        (code, self.heard.text())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        self.done.store(true, Ordering::Release);
    }
}
