//! Who has sent wrong tokens.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::time::Watch;

/// After so many wrong tokens an address is out for a while.
const MOST_WRONG: u32 = 5;
const OUT: Duration = Duration::from_secs(60);
/// So many addresses are remembered.
const MOST_ADDRESSES: usize = 1024;

/// Wrong tokens by address.
#[derive(Debug, Default)]
pub(crate) struct Strikes(Mutex<HashMap<IpAddr, (u32, Watch)>>);

impl Strikes {
    /// Whether `ip` has sent so many wrong tokens that it is out now.
    pub fn is_out(&self, ip: IpAddr) -> bool {
        let wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.get(&ip).is_some_and(|(count, since)| *count >= MOST_WRONG && since.elapsed() < OUT)
    }

    pub fn note(&self, ip: IpAddr, is_right: bool) {
        let mut wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_right {
            wrong.remove(&ip);
            return;
        }
        if wrong.len() >= MOST_ADDRESSES {
            wrong.retain(|_, (_, since)| since.elapsed() < OUT);
            if wrong.len() >= MOST_ADDRESSES {
                wrong.clear();
            }
        }
        let (count, since) = wrong.entry(ip).or_insert_with(|| (0, Watch::start()));
        if since.elapsed() >= OUT {
            *count = 0;
        }
        (*count, *since) = (*count + 1, Watch::start());
    }
}
