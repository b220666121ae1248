//! What a thread says when it panics, without waiting for anybody to read it.
//!
//! The standard hook writes to standard error on the panicking thread, before it unwinds. Standard error may be a pipe
//! that nobody empties: the control thread would wait in it for ever, and the guard that brings the robot into its safe
//! action would never be dropped.
//!
//! ```
//! let _reports = sinew_runtime::panics::report_beside();
//! // What panics from here on, in any thread, is written by a thread of its own.
//! ```

use std::any::Any;
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Messages that wait to be written.
const WAITING: usize = 32;
/// How long the end of the process waits for them.
const FLUSH: Duration = Duration::from_millis(250);

/// Messages go to standard error beside those who panic, as long as the process lives. Keep it in `main`, as the first
/// value: dropping it waits up to 0.25 s until what was said is written.
#[must_use = "dropping it at the end of main waits for the last messages"]
#[derive(Debug)]
pub struct PanicReports {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Messages handed to the thread that writes, and those that it is done with.
    taken: AtomicU64,
    done: AtomicU64,
    lost: AtomicU64,
}

/// From now on a panic's message (thread, place, words) is handed to a thread that writes it to standard error. The
/// panicking thread never waits; a message for which there is no room is counted, and the next one that is written
/// says so. There are no backtraces: taking one may wait.
///
/// # Errors
/// When the thread cannot be started; panics are then reported as before.
pub fn report_beside() -> io::Result<PanicReports> {
    report_to(io::stderr())
}

fn report_to(out: impl Write + Send + 'static) -> io::Result<PanicReports> {
    let counts = Arc::new(Counts::default());
    let (sender, messages) = sync_channel(WAITING);
    let writer = counts.clone();
    thread::Builder::new().name("panics".into()).spawn(move || write(out, &messages, &writer))?;
    let hook = counts.clone();
    panic::set_hook(Box::new(move |info| hand_over(&sender, &hook, describe(info))));
    Ok(PanicReports { counts })
}

fn hand_over(sender: &SyncSender<String>, counts: &Counts, message: String) {
    counts.taken.fetch_add(1, Ordering::AcqRel);
    if sender.try_send(message).is_err() {
        counts.lost.fetch_add(1, Ordering::AcqRel);
        counts.done.fetch_add(1, Ordering::AcqRel);
    }
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
    format!("thread '{name}' panicked{place}: {}\n", words(info.payload()))
}

/// What was said in a panic.
fn words(payload: &(dyn Any + Send)) -> &str {
    let said = payload.downcast_ref::<&str>().copied();
    said.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

fn write(mut out: impl Write, messages: &Receiver<String>, counts: &Counts) {
    let mut told = 0;
    for mut message in messages {
        let lost = counts.lost.load(Ordering::Acquire);
        if lost > told {
            message = format!("({} panics before this one were not written: nobody reads)\n{message}", lost - told);
            told = lost;
        }
        // Nobody is left to tell.
        let _ = out.write_all(message.as_bytes());
        counts.done.fetch_add(1, Ordering::AcqRel);
    }
}

impl PanicReports {
    /// Messages for which there was no room.
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Acquire)
    }
}

impl Drop for PanicReports {
    fn drop(&mut self) {
        let step = Duration::from_millis(1);
        for _ in 0..FLUSH.as_millis() {
            if self.counts.done.load(Ordering::Acquire) >= self.counts.taken.load(Ordering::Acquire) {
                return;
            }
            thread::sleep(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Says what it is told, and takes it only once it is let.
    struct Stuck(Receiver<()>, mpsc::Sender<String>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn messages_that_have_no_room_are_counted_and_told() {
        let (let_go, held) = mpsc::channel();
        let (told, written) = mpsc::channel();
        let (sender, messages) = sync_channel(WAITING);
        let counts = Arc::new(Counts::default());
        let writer = counts.clone();
        thread::spawn(move || write(Stuck(held, told), &messages, &writer));
        let wait = |written: &Receiver<String>| written.recv_timeout(Duration::from_secs(5)).unwrap();
        hand_over(&sender, &counts, "first".into());
        assert_eq!(wait(&written), "first");
        let (filler, panicked, done) = (counts.clone(), sender.clone(), mpsc::channel());
        thread::spawn(move || {
            while filler.lost.load(Ordering::Acquire) < 3 {
                hand_over(&panicked, &filler, "more".into());
            }
            done.0.send(())
        });
        done.1.recv_timeout(Duration::from_secs(5)).expect("who panics waits");
        drop(let_go);
        assert_eq!(wait(&written), "(3 panics before this one were not written: nobody reads)\nmore");
        for _ in 1..WAITING {
            assert_eq!(wait(&written), "more");
        }
        hand_over(&sender, &counts, "last".into());
        assert_eq!(wait(&written), "last", "the lost are told once");
    }
}
