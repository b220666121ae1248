//! Clients that wait for an answer: when the server ends they are told so, though their threads are with the policy.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a client's connection is free for.
const IDLE: u8 = 0;
const WAITS: u8 = 1;
const DISMISSED: u8 = 2;
/// Why a connection is closed at the end.
pub(super) const GOODBYE: &str = "the server ends";
const TAKEN: Duration = Duration::from_millis(100);

/// The close frame of one who goes away (1001), as servers send it: not masked.
fn going_away() -> Vec<u8> {
    let [high, low] = 1001_u16.to_be_bytes();
    let length = u8::try_from(2 + GOODBYE.len()).unwrap_or(2);
    [&[0x88, length, high, low], GOODBYE.as_bytes()].concat()
}

/// The clients that have a connection.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Vec<(TcpStream, Arc<AtomicU8>)>>);

/// One of them; dropping it leaves.
pub(super) struct Seat<'a> {
    seats: &'a Seats,
    state: Arc<AtomicU8>,
}

impl Seats {
    /// Somebody with this connection, of which nothing is sent while he [waits](Seat::wait).
    pub fn take(&self, tcp: TcpStream) -> Seat<'_> {
        let state = Arc::<AtomicU8>::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((tcp, state.clone()));
        Seat { seats: self, state }
    }

    /// Says goodbye to all who wait.
    pub fn dismiss(&self) {
        for (tcp, state) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            if state.compare_exchange(WAITS, DISMISSED, SeqCst, SeqCst).is_ok() {
                // Whoever does not read it finds a connection that is closed.
                drop(tcp.set_write_timeout(Some(TAKEN)));
                drop(tcp.write_all(&going_away()));
                drop(tcp.shutdown(std::net::Shutdown::Write));
            }
        }
    }
}

impl Seat<'_> {
    /// He waits for what `answer` comes to; nothing where he was dismissed meanwhile, and nothing more can be sent to him.
    pub fn wait<T>(&self, answer: impl FnOnce() -> T) -> Option<T> {
        self.state.store(WAITS, SeqCst);
        let answer = answer();
        self.state.compare_exchange(WAITS, IDLE, SeqCst, SeqCst).is_ok().then_some(answer)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.seats.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, state)| !Arc::ptr_eq(state, &self.state));
    }
}
