//! Connections, and which of them has to go when there are too many.

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections that have not said yet who they are. One more, and the oldest goes, of the address that has most.
const MOST_STRANGERS: usize = 64;
/// Websockets of those who have, and how many of these are kept free for those who may operate.
const MOST_KNOWN: usize = 64;
const FOR_OPERATORS: usize = 16;
/// Threads in all: one whose connection was shut down needs a moment to end.
const MOST_ALL: usize = 256;

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Guests(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    /// Oldest first.
    strangers: Vec<Stranger>,
    known: usize,
    all: usize,
}

#[derive(Debug)]
struct Stranger {
    id: u64,
    ip: IpAddr,
    tcp: TcpStream,
}

/// A place among the guests, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    guests: Arc<Guests>,
    id: u64,
    is_known: bool,
}

impl Guests {
    /// Makes room for a connection; `None` when there is none.
    pub fn admit(self: &Arc<Self>, tcp: &TcpStream, ip: IpAddr) -> Option<Place> {
        let tcp = tcp.try_clone().ok()?;
        let mut inner = self.lock();
        if inner.all >= MOST_ALL {
            return None;
        }
        if inner.strangers.len() >= MOST_STRANGERS {
            let mut counts: HashMap<IpAddr, usize> = HashMap::new();
            inner.strangers.iter().for_each(|stranger| *counts.entry(stranger.ip).or_default() += 1);
            let most = counts.into_iter().max_by_key(|(_, count)| *count)?.0;
            let oldest = inner.strangers.iter().position(|stranger| stranger.ip == most)?;
            // Its thread ends when it reads or writes.
            drop(inner.strangers.remove(oldest).tcp.shutdown(Shutdown::Both));
        }
        let id = inner.next;
        inner.next += 1;
        inner.all += 1;
        inner.strangers.push(Stranger { id, ip, tcp });
        Some(Place { guests: self.clone(), id, is_known: false })
    }

    /// How many there are now.
    pub fn count(&self) -> usize {
        self.lock().all
    }

    /// All go.
    pub fn dismiss(&self) {
        self.lock().strangers.iter().for_each(|stranger| drop(stranger.tcp.shutdown(Shutdown::Both)));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Has said who it is, and stays. `false` when there is no room for another.
    pub fn becomes_known(&mut self, may_operate: bool) -> bool {
        let mut inner = self.guests.lock();
        if inner.known >= if may_operate { MOST_KNOWN } else { MOST_KNOWN - FOR_OPERATORS } {
            return false;
        }
        inner.known += 1;
        inner.strangers.retain(|stranger| stranger.id != self.id);
        self.is_known = true;
        true
    }

    /// Tells this connection from all others.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.guests.lock();
        inner.all -= 1;
        if self.is_known {
            inner.known -= 1;
        } else {
            inner.strangers.retain(|stranger| stranger.id != self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_oldest_stranger_of_the_address_with_most_makes_room() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let guests = Arc::new(Guests::default());
        let connect = || {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap().0)
        };
        let [many, one]: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let (mut rare, server) = connect();
        let mut places = vec![guests.admit(&server, one).unwrap()];
        let mut pairs = Vec::new();
        for _ in 0..MOST_STRANGERS {
            let (client, server) = connect();
            places.push(guests.admit(&server, many).unwrap());
            pairs.push((client, server));
        }
        let mut byte = [0];
        assert_eq!(pairs[0].0.read(&mut byte).unwrap(), 0, "the oldest of the address with most was shut down");
        rare.set_nonblocking(true).unwrap();
        assert!(rare.read(&mut byte).is_err(), "the only one of its address stays");
        assert!(places.last_mut().unwrap().becomes_known(true));
        drop(places);
        assert_eq!(guests.count(), 0);

        // Whoever may only look can't take all places.
        let mut places = Vec::new();
        for number in 0..MOST_KNOWN {
            let mut place = guests.admit(&pairs[number % pairs.len()].1, many).unwrap();
            assert_eq!(place.becomes_known(false), number < MOST_KNOWN - FOR_OPERATORS, "{number}");
            assert!(number < MOST_KNOWN - FOR_OPERATORS || place.becomes_known(true), "{number}");
            places.push(place);
        }
        assert!(!guests.admit(&rare, one).unwrap().becomes_known(true));
    }
}
