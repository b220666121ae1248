//! Who the operator is: one at a time, for as long as he is heard.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::http::is_same;
use crate::time::Watch;

/// After so much silence of its holder the lease is over.
pub(crate) const DEAD_MAN: Duration = Duration::from_millis(300);

/// The lease of the operator.
#[derive(Debug, Default)]
pub(crate) struct Desk(Mutex<Option<Holder>>);

#[derive(Debug)]
struct Holder {
    /// Which socket it was given to.
    socket: u64,
    id: String,
    name: String,
    heard: Watch,
}

impl Holder {
    fn is_there(&self) -> bool {
        self.heard.elapsed() < DEAD_MAN
    }
}

impl Desk {
    /// Gives the lease to a socket, under the `id` that nobody can guess, unless another one has it: then says who.
    pub fn take(&self, socket: u64, name: &str, id: String) -> Result<String, String> {
        let mut held = self.lock();
        match held.as_mut().filter(|holder| holder.is_there()) {
            Some(holder) if holder.socket != socket => Err(holder.name.clone()),
            Some(holder) => {
                holder.heard = Watch::start();
                Ok(holder.id.clone())
            }
            None => {
                *held = Some(Holder { socket, id: id.clone(), name: name.to_owned(), heard: Watch::start() });
                Ok(id)
            }
        }
    }

    /// The socket was heard; whether it has the lease. One that is over is not had again by this.
    pub fn hear(&self, socket: u64) -> bool {
        let mut held = self.lock();
        match held.as_mut().filter(|holder| holder.socket == socket && holder.is_there()) {
            Some(holder) => {
                holder.heard = Watch::start();
                true
            }
            None => false,
        }
    }

    /// Whether the socket has it now.
    pub fn is_held_by(&self, socket: u64) -> bool {
        self.lock().as_ref().is_some_and(|holder| holder.socket == socket && holder.is_there())
    }

    /// The socket has it no longer.
    pub fn release(&self, socket: u64) {
        self.lock().take_if(|holder| holder.socket == socket);
    }

    /// Who has it.
    pub fn holder(&self) -> Option<String> {
        self.lock().as_ref().filter(|holder| holder.is_there()).map(|holder| holder.name.clone())
    }

    /// Whether who shows the lease `id`, or none, may do what an operator does; else says who has it.
    pub fn may(&self, id: Option<&str>) -> Result<(), String> {
        match self.lock().as_ref().filter(|holder| holder.is_there()) {
            Some(holder) if !id.is_some_and(|id| is_same(id.as_bytes(), holder.id.as_bytes())) => Err(holder.name.clone()),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Holder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_silence_ends_it() {
        let desk = Desk::default();
        assert_eq!((desk.may(None), desk.holder()), (Ok(()), None));
        assert_eq!(desk.take(1, "phone", "a".into()), Ok("a".into()));
        assert_eq!(desk.take(1, "phone", "b".into()), Ok("a".into()), "it has it already");
        assert_eq!(desk.take(2, "laptop", "b".into()), Err("phone".into()));
        assert!(desk.hear(1) && !desk.hear(2) && desk.is_held_by(1));
        assert_eq!((desk.may(Some("a")), desk.may(Some("b")), desk.may(None)), (Ok(()), Err("phone".into()), Err("phone".into())));
        std::thread::sleep(DEAD_MAN + Duration::from_millis(20));
        assert!(!desk.hear(1), "who was silent has to take it anew");
        assert_eq!(desk.may(Some("a")), Ok(()));
        assert_eq!(desk.take(2, "laptop", "b".into()), Ok("b".into()));
        assert_eq!(desk.may(Some("a")), Err("laptop".into()), "an old lease is none");
        desk.release(1);
        assert!(desk.is_held_by(2));
        desk.release(2);
        assert_eq!(desk.holder(), None);
    }
}
