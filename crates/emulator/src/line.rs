//! The wire: when which byte is on it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sinew_drivers::wire::{Kind, Packet, Protocol, Scanned, Scanner, Side};

use crate::bus::byte_time;

/// Silence after which motors forget half an instruction.
const GAP: Duration = Duration::from_millis(2);

/// A byte on its way to the host.
struct Leaving {
    /// When its last bit is on the wire.
    end: Instant,
    byte: u8,
    /// The host's own byte, sent back by the adapter.
    is_echo: bool,
}

/// An instruction with its time.
pub(crate) struct Arrival {
    /// When its last byte had come.
    pub at: Instant,
    /// When its first byte began.
    pub since: Instant,
    pub id: u8,
    pub code: u8,
    pub params: Vec<u8>,
}

pub(crate) struct Line {
    scanner: Scanner,
    speed: u32,
    /// Until when the host's bytes keep the wire busy.
    heard_until: Instant,
    leaving: VecDeque<Leaving>,
}

impl Line {
    pub fn new(protocol: Protocol, now: Instant) -> Self {
        Self { scanner: Scanner::new(protocol, Side::Motor), speed: 0, heard_until: now, leaving: VecDeque::new() }
    }

    /// Takes what the host wrote: the instructions in it, and how many bytes belong to none.
    pub fn take(&mut self, now: Instant, bytes: &[u8], speed: u32, is_echoed: bool) -> (Vec<Arrival>, usize) {
        let mut garbage = 0;
        let mut arrivals = Vec::new();
        if speed != self.speed {
            garbage += self.scanner.clear();
            self.speed = speed;
        }
        if speed == 0 {
            // A line that was hung up.
            return (arrivals, garbage + bytes.len());
        }
        let byte_time = byte_time(speed);
        if now.saturating_duration_since(self.heard_until) > GAP {
            self.scanner.end();
            self.scan(now, 0, now, byte_time, &mut arrivals, &mut garbage);
        }
        let begin = now.max(self.heard_until);
        let after = |count: usize| begin + byte_time * u32::try_from(count).unwrap_or(u32::MAX);
        if is_echoed {
            let echo = bytes.iter().zip(1..).map(|(byte, count)| Leaving { end: after(count), byte: *byte, is_echo: true });
            self.leaving.extend(echo);
        }
        let mut fed = 0;
        while fed < bytes.len() {
            fed += self.scanner.feed(&bytes[fed..]);
            self.scan(begin, fed, now, byte_time, &mut arrivals, &mut garbage);
        }
        self.heard_until = after(bytes.len());
        (arrivals, garbage)
    }

    fn scan(&mut self, begin: Instant, fed: usize, now: Instant, byte_time: Duration, arrivals: &mut Vec<Arrival>, garbage: &mut usize) {
        loop {
            match self.scanner.scan() {
                None => return,
                Some(Scanned::Skipped { bytes, .. }) => *garbage += bytes,
                Some(Scanned::Packet(Packet { id, kind: Kind::Instruction { code }, params, raw })) => {
                    let (params, len) = (params.to_vec(), u32::try_from(raw.len()).unwrap_or(0));
                    let behind = self.scanner.pending();
                    let at = begin + byte_time * u32::try_from(fed.saturating_sub(behind)).unwrap_or(0);
                    let since = at.checked_sub(byte_time * len).unwrap_or(now);
                    arrivals.push(Arrival { at, since, id, code, params });
                }
                // Another motor's answer, as it would be on this wire.
                Some(Scanned::Packet(packet)) => *garbage += packet.raw.len(),
            }
        }
    }

    /// Whether motors speak between `since` and `until`, when the host does: then both are lost.
    pub fn collides(&mut self, since: Instant, until: Instant, rng: &mut fastrand::Rng) -> bool {
        let byte_time = byte_time(self.speed);
        let mut is_hit = false;
        for leaving in self.leaving.iter_mut().filter(|leaving| !leaving.is_echo) {
            let begin = leaving.end.checked_sub(byte_time).unwrap_or(leaving.end);
            if leaving.end > since && begin < until {
                leaving.byte ^= rng.u8(1..);
                is_hit = true;
            }
        }
        is_hit
    }

    /// Puts bytes on the wire, at `from` or when it is free; when the last has left.
    pub fn put(&mut self, from: Instant, bytes: &[u8]) -> Instant {
        let busy = self.leaving.iter().rev().find(|leaving| !leaving.is_echo).map(|leaving| leaving.end);
        let mut end = busy.map_or(from, |busy| busy.max(from));
        for byte in bytes {
            end += byte_time(self.speed);
            self.leaving.push_back(Leaving { end, byte: *byte, is_echo: false });
        }
        end
    }

    /// Bytes that the adapter, `latency` later, has handed over by now, and how late the first of them is.
    pub fn due(&mut self, now: Instant, latency: Duration, out: &mut Vec<u8>) -> Duration {
        let late = self.next(latency).map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        while let Some(leaving) = self.leaving.front()
            && leaving.end + latency <= now
        {
            out.push(leaving.byte);
            self.leaving.pop_front();
        }
        late
    }

    /// When the next byte is there.
    pub fn next(&self, latency: Duration) -> Option<Instant> {
        self.leaving.front().map(|leaving| leaving.end + latency)
    }

    /// Nobody is there to hear, or the cable was pulled.
    pub fn cut(&mut self) {
        self.leaving.clear();
        self.scanner.clear();
    }
}
