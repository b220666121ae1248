//! Connections, and which of them has to go when there are too many.

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::socket::Heard;

/// Connections that have not said yet who they are. One more, and the oldest goes, of the address that has most.
const MOST_STRANGERS: usize = 64;
/// Websockets of those who have, and how many of these are kept free for those who may operate. One more, and of the device that has
/// most the one goes that was silent for longest: a dead one, where there is one.
const MOST_KNOWN: usize = 64;
const FOR_OPERATORS: usize = 16;
/// Websockets of a device, of which the same is true.
const MOST_OF_A_DEVICE: usize = 16;
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
    known: Vec<Known>,
    all: usize,
}

#[derive(Debug)]
struct Stranger {
    id: u64,
    ip: IpAddr,
    tcp: TcpStream,
}

#[derive(Debug)]
struct Known {
    id: u64,
    /// What tells its device from others.
    device: String,
    heard: Heard,
    tcp: TcpStream,
}

impl Inner {
    fn count_of(&self, device: &str) -> usize {
        self.known.iter().filter(|known| known.device == device).count()
    }

    /// Sends the one of a device away that was silent for longest.
    fn send_away(&mut self, device: &str) {
        let of_it = self.known.iter().enumerate().filter(|(_, known)| known.device == device);
        if let Some((at, _)) = of_it.max_by_key(|(_, known)| known.heard.elapsed()) {
            // Its thread ends when it reads or writes.
            drop(self.known.remove(at).tcp.shutdown(Shutdown::Both));
        }
    }
}

/// A place among the guests, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    guests: Arc<Guests>,
    id: u64,
    heard: Heard,
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
        Some(Place { guests: self.clone(), id, heard: Heard::now() })
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
    /// Has said who it is, and stays. `false` when there is no room for another, as each device has but one.
    pub fn becomes_known(&mut self, device: &str, may_operate: bool) -> bool {
        let mut inner = self.guests.lock();
        if inner.count_of(device) >= MOST_OF_A_DEVICE {
            inner.send_away(device);
        } else if inner.known.len() >= if may_operate { MOST_KNOWN } else { MOST_KNOWN - FOR_OPERATORS } {
            let most = inner.known.iter().map(|known| (inner.count_of(&known.device), known.device.clone())).max();
            let Some((_, most)) = most.filter(|(count, _)| *count > 1) else { return false };
            inner.send_away(&most);
        }
        // One that was sent away meanwhile is no stranger any more.
        let Some(at) = inner.strangers.iter().position(|stranger| stranger.id == self.id) else { return false };
        let Stranger { id, tcp, .. } = inner.strangers.remove(at);
        inner.known.push(Known { id, device: device.to_owned(), heard: self.heard.clone(), tcp });
        true
    }

    /// When it was heard, which whoever hears it notes.
    pub fn heard(&self) -> Heard {
        self.heard.clone()
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
        inner.known.retain(|known| known.id != self.id);
        inner.strangers.retain(|stranger| stranger.id != self.id);
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
        assert!(places.last_mut().unwrap().becomes_known("a", true));
        drop(places);
        assert_eq!(guests.count(), 0);
    }

    #[test]
    fn a_device_that_has_too_many_sockets_loses_the_one_that_was_silent_for_longest() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let guests = Arc::new(Guests::default());
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let mut sockets = Vec::new();
        let mut open = |device: &str, may_operate: bool| {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            client.set_nonblocking(true).unwrap();
            let mut place = guests.admit(&listener.accept().unwrap().0, ip).unwrap();
            let is_in = place.becomes_known(device, may_operate);
            sockets.push((client, place));
            is_in
        };
        assert!((0..=MOST_OF_A_DEVICE).all(|_| open("phone", true)), "a device keeps itself out of nothing");
        // All others get in while one has more than one.
        for device in ["a", "b", "c"] {
            assert!((0..MOST_OF_A_DEVICE).all(|_| open(device, true)));
        }
        assert!(open("tablet", true) && open("display", false));
        let gone = sockets.iter_mut().map(|(client, _)| matches!(client.read(&mut [0]), Ok(0))).collect::<Vec<_>>();
        assert!(gone[0] && !gone[1..=MOST_OF_A_DEVICE].iter().all(|gone| *gone), "{gone:?}");
        assert_eq!(gone.iter().filter(|gone| **gone).count(), 3, "{gone:?}");
        let is_there = |(_, place): &&(TcpStream, Place)| guests.lock().known.iter().any(|known| known.id == place.id());
        assert_eq!(sockets.iter().filter(is_there).count(), MOST_KNOWN);
        // One that speaks stays, however old it is.
        let is_there = |id: u64| guests.lock().known.iter().any(|known| known.id == id);
        let [old, next] = [2, 3].map(|at: usize| sockets[at].1.id());
        sockets[2].1.heard().note();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let more: Vec<_> = (0..2).map(|_| guests.admit(&client, ip).unwrap()).collect();
        let more: Vec<_> = more.into_iter().map(|mut place| (place.becomes_known("phone", true), place)).collect();
        assert!(more.iter().all(|(is_in, _)| *is_in) && is_there(old) && !is_there(next));
        drop((more, sockets));
        assert_eq!((guests.count(), guests.lock().known.len()), (0, 0));
    }
}
