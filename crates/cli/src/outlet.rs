//! How what is said leaves a process that has a control loop: a thread of its own writes it, so that nobody who does not read (a pipe that
//! is full, a terminal after Ctrl-S) keeps a loop, a stop or the end of the process waiting. Other processes write at once, and wait.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustyline::ExternalPrinter;

/// So much waits to be written. What is more is left out, and counted.
const MOST_BYTES: usize = 1 << 20;
/// The same of lines that a program reads, of which none is left out: more are an error.
const MOST_KEPT_BYTES: usize = 64 << 20;
/// So much is written at once, so that it is seen whether somebody reads.
const PIECE_BYTES: usize = 4096;
/// For how long nobody may read before the process ends all the same: where it was told to end, and where it has come to its end.
const WHEN_TOLD: Duration = Duration::from_secs(3);
const BY_ITSELF: Duration = Duration::from_secs(60);
/// After which a signal ends at once a process that waits for a reader at its end.
const SOON: Duration = Duration::from_millis(200);
/// Between two looks at a terminal or a socket that has no room and lets nobody wait for it.
const NO_ROOM: Duration = Duration::from_millis(10);

/// Where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Errors,
}

/// What prints above a line that is being edited.
pub type Printer = Arc<Mutex<Box<dyn ExternalPrinter + Send>>>;

/// Something to be written.
enum Part {
    Bytes(Stream, Vec<u8>),
    Above(Printer, String),
    /// So many were left out here.
    LeftOut(Stream, u64),
}

impl Part {
    fn bytes(&self) -> usize {
        match self {
            Self::Bytes(_, bytes) => bytes.len(),
            Self::Above(_, text) => text.len(),
            Self::LeftOut(..) => 0,
        }
    }
}

/// A queue, and the thread that empties it.
struct Outlet {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    parts: VecDeque<Part>,
    bytes: usize,
    is_writing: bool,
    /// When somebody took something, or nothing waited.
    taken: Option<Instant>,
    /// Why something was lost on the way to standard output.
    error: Option<io::Error>,
}

impl State {
    fn is_empty(&self) -> bool {
        self.parts.is_empty() && !self.is_writing
    }
}

impl Outlet {
    fn start(write: impl FnMut(Stream, &[u8]) -> io::Result<usize> + Send + 'static) -> io::Result<Arc<Self>> {
        let outlet = Arc::new(Self { state: Mutex::default(), news: Condvar::new() });
        let writing = outlet.clone();
        std::thread::Builder::new().name("output".into()).spawn(move || writing.write_all(write))?;
        Ok(outlet)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits. An error is one of before, or that there is no room for what must not be left out.
    fn put(&self, part: Part, is_kept: bool) -> io::Result<()> {
        let mut state = self.lock();
        let bytes = state.bytes + part.bytes();
        let has_room = state.bytes == 0 || bytes <= if is_kept { MOST_KEPT_BYTES } else { MOST_BYTES };
        if !has_room && is_kept {
            return Err(io::Error::new(ErrorKind::TimedOut, format!("nobody reads it, and {MOST_KEPT_BYTES} bytes wait")));
        }
        if state.is_empty() {
            state.taken = Some(Instant::now());
        }
        match (has_room, part) {
            (true, part) => {
                state.bytes = bytes;
                state.parts.push_back(part);
            }
            (false, Part::Bytes(stream, _)) => match state.parts.back_mut() {
                Some(Part::LeftOut(of, count)) if *of == stream => *count += 1,
                _ => state.parts.push_back(Part::LeftOut(stream, 1)),
            },
            (false, _) => {}
        }
        self.news.notify_all();
        state.error.take().map_or(Ok(()), Err)
    }

    fn write_all(&self, mut write: impl FnMut(Stream, &[u8]) -> io::Result<usize>) {
        let mut state = self.lock();
        loop {
            let Some(part) = state.parts.pop_front() else {
                state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.is_writing = true;
            drop(state);
            let bytes = part.bytes();
            let written = match part {
                Part::Bytes(stream, bytes) => self.write(stream, &bytes, &mut write),
                Part::LeftOut(stream, count) => {
                    let words = format!("({count} lines before this one were left out, as nobody read them)\n");
                    self.write(stream, words.as_bytes(), &mut write)
                }
                Part::Above(printer, text) => {
                    // A terminal that has gone is told nothing.
                    drop(printer.lock().unwrap_or_else(PoisonError::into_inner).print(text));
                    Ok(())
                }
            };
            state = self.lock();
            state.bytes -= bytes;
            state.is_writing = false;
            state.taken = Some(Instant::now());
            if let Err(error) = written {
                state.error = Some(error);
            }
            self.news.notify_all();
        }
    }

    fn write(&self, stream: Stream, bytes: &[u8], write: &mut impl FnMut(Stream, &[u8]) -> io::Result<usize>) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            match write(stream, &left[..left.len().min(PIECE_BYTES)]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    left = left.get(count..).unwrap_or_default();
                    self.lock().taken = Some(Instant::now());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(NO_ROOM),
                // A program need not have it, and nobody needs to know what is said of errors on standard error.
                Err(error) if stream == Stream::Errors || error.raw_os_error() == Some(Errno::BADF.raw_os_error()) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until all is written; `false` where nobody has taken anything for so long.
    fn settle(&self, patience: Duration) -> bool {
        let mut state = self.lock();
        while !state.is_empty() {
            let left = patience.saturating_sub(state.taken.map_or(Duration::ZERO, |taken| taken.elapsed()));
            if left.is_zero() {
                return false;
            }
            state = self.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// Those of this process; one where both streams lead to the same place, so that their lines stay in order.
struct Outlets {
    out: Arc<Outlet>,
    errors: Arc<Outlet>,
}

static OUTLETS: OnceLock<Option<Outlets>> = OnceLock::new();

fn outlet(stream: Stream) -> Option<&'static Outlet> {
    let outlets = OUTLETS.get()?.as_ref()?;
    Some(match stream {
        Stream::Out => &outlets.out,
        Stream::Errors => &outlets.errors,
    })
}

fn write_to(stream: Stream, bytes: &[u8]) -> io::Result<usize> {
    Ok(match stream {
        Stream::Out => rustix::io::write(io::stdout(), bytes),
        Stream::Errors => rustix::io::write(io::stderr(), bytes),
    }?)
}

/// From now on this process waits for nobody who reads. Without a thread for it, it does as before.
pub fn begin() {
    let is_one = || {
        let [out, errors] = [io::stdout().as_fd(), io::stderr().as_fd()].map(|file| rustix::fs::fstat(file).ok());
        out.zip(errors).is_some_and(|(out, errors)| (out.st_dev, out.st_ino) == (errors.st_dev, errors.st_ino))
    };
    OUTLETS.get_or_init(|| {
        // What was written before is first.
        drop(io::stdout().flush());
        let out = Outlet::start(write_to).ok()?;
        let errors = if is_one() { out.clone() } else { Outlet::start(write_to).ok()? };
        Some(Outlets { out, errors })
    });
}

/// Writes, or has it written; `is_kept` says that a program reads it, which misses none.
pub fn write(stream: Stream, bytes: &[u8], is_kept: bool) -> io::Result<()> {
    match (outlet(stream), stream) {
        (Some(outlet), _) => outlet.put(Part::Bytes(stream, bytes.to_vec()), is_kept),
        (None, Stream::Out) => io::stdout().write_all(bytes),
        (None, Stream::Errors) => io::stderr().write_all(bytes),
    }
}

/// What was written has left this process, where it waits for that.
pub fn flush(stream: Stream) -> io::Result<()> {
    match (outlet(stream), stream) {
        (Some(_), _) => Ok(()),
        (None, Stream::Out) => io::stdout().flush(),
        (None, Stream::Errors) => io::stderr().flush(),
    }
}

/// Prints a line above the one that is being edited.
pub fn above(printer: &Printer, text: String) -> bool {
    match outlet(Stream::Errors) {
        Some(outlet) => outlet.put(Part::Above(printer.clone(), text), false).is_ok(),
        None => printer.lock().unwrap_or_else(PoisonError::into_inner).print(text).is_ok(),
    }
}

/// Waits until what was said is written, where somebody reads: what is drawn beside it next comes after it.
pub fn catch_up() {
    if let Some(Some(outlets)) = OUTLETS.get() {
        for outlet in [&outlets.out, &outlets.errors] {
            outlet.settle(SOON);
        }
    }
}

/// Whether something waits there: what is drawn anew soon need not wait behind it.
pub fn is_behind(stream: Stream) -> bool {
    outlet(stream).is_some_and(|outlet| !outlet.lock().is_empty())
}

/// Before the process ends: waits until all is written, as long as somebody reads. A signal then ends the process at once.
///
/// # Errors
/// What did not get to standard output.
pub fn settle(was_told_to_end: bool) -> io::Result<()> {
    static IS_ENDED_BY_SIGNALS: Once = Once::new();
    let Some(Some(outlets)) = OUTLETS.get() else { return Ok(()) };
    let all = [&outlets.out, &outlets.errors];
    if !all.iter().all(|outlet| outlet.settle(SOON)) {
        // Without it, a signal is not heard for as long as nobody reads.
        IS_ENDED_BY_SIGNALS.call_once(|| drop(sinew_runtime::before_it_ends(|| {})));
    }
    let patience = if was_told_to_end { WHEN_TOLD } else { BY_ITSELF };
    let [is_written, _] = all.map(|outlet| outlet.settle(patience));
    match outlets.out.lock().error.take() {
        Some(error) => Err(error),
        None if is_written || was_told_to_end => Ok(()),
        None => Err(io::Error::new(ErrorKind::TimedOut, format!("nobody has read it for {} s", patience.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// An outlet whose reader takes a piece for each word from here, and what he has taken.
    fn read_by_hand() -> (Arc<Outlet>, Sender<()>, Receiver<Vec<u8>>) {
        let ((ask, asked), (took, taken)) = (channel(), channel());
        let outlet = Outlet::start(move |_, bytes| {
            asked.recv().map_err(|_| io::Error::from(ErrorKind::BrokenPipe))?;
            took.send(bytes.to_vec()).map_err(|_| io::Error::from(ErrorKind::BrokenPipe))?;
            Ok(bytes.len())
        });
        (outlet.unwrap(), ask, taken)
    }

    fn line(outlet: &Outlet, text: &str, is_kept: bool) -> io::Result<()> {
        outlet.put(Part::Bytes(Stream::Out, text.as_bytes().to_vec()), is_kept)
    }

    fn text(taken: &Receiver<Vec<u8>>) -> String {
        String::from_utf8(taken.try_iter().flatten().collect()).unwrap()
    }

    #[test]
    fn whole_lines_are_left_out_where_nobody_reads_and_counted_and_those_for_programs_are_not() {
        let (outlet, ask, taken) = read_by_hand();
        let long = format!("{}\n", "x".repeat(MOST_BYTES / 4 - 1));
        for _ in 0..4 {
            line(&outlet, &long, false).unwrap();
        }
        for _ in 0..1000 {
            line(&outlet, "left out\n", false).unwrap();
        }
        line(&outlet, "{\"json\": 1}\n", true).unwrap();
        line(&outlet, "left out\n", false).unwrap();
        assert!(!outlet.settle(Duration::from_millis(50)), "nobody has read anything");
        for _ in 0..MOST_BYTES / PIECE_BYTES + 100 {
            ask.send(()).unwrap();
        }
        assert!(outlet.settle(Duration::from_secs(20)));
        let text = text(&taken);
        assert_eq!(text.matches('x').count(), MOST_BYTES - 4);
        let rest = text.trim_start_matches(['x', '\n']);
        let left_out = |count: u64| format!("({count} lines before this one were left out, as nobody read them)\n");
        assert_eq!(rest, format!("{}{{\"json\": 1}}\n{}", left_out(1000), left_out(1)));
    }

    #[test]
    fn who_reads_slowly_gets_all_and_who_has_gone_is_told_of_once() {
        let (outlet, ask, taken) = read_by_hand();
        let lines: Vec<String> = (0..5000).map(|i| format!("{{\"line\": {i}, \"more\": \"{}\"}}\n", "y".repeat(1000))).collect();
        for text in &lines {
            line(&outlet, text, true).unwrap();
        }
        let asking = ask.clone();
        let reader = std::thread::spawn(move || {
            for i in 0..5000 {
                asking.send(()).unwrap();
                if i % 1000 == 0 {
                    std::thread::sleep(Duration::from_millis(300));
                }
            }
        });
        assert!(outlet.settle(Duration::from_secs(1)), "each taken piece is a reason to go on waiting");
        reader.join().unwrap();
        assert_eq!(text(&taken), lines.concat());
        drop((ask, taken));
        line(&outlet, "gone\n", true).unwrap();
        assert!(outlet.settle(Duration::from_secs(5)));
        assert_eq!(line(&outlet, "again\n", true).unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
