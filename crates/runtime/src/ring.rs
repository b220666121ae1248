//! A one-way ring between two threads: sending never waits or allocates; receiving may sleep.

use std::thread::{self, Thread};
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};
use sinew_core::{Clock, Timestamp};

/// How often a receiver that waits looks up to see whether it still should, where nothing else is said.
const PATIENCE: Duration = Duration::from_millis(5);

pub(crate) fn ring<T>(capacity: usize) -> (Producer<T>, Receiver<T>) {
    let (producer, consumer) = RingBuffer::new(capacity);
    (producer, Receiver { consumer, patience: PATIENCE })
}

/// The sending half together with the thread that receives, which it wakes. Dropping it closes the
/// ring.
pub(crate) struct Sender<T> {
    producer: Option<Producer<T>>,
    receiver: Thread,
    /// The receiver is woken once so many values wait.
    wakes_at: usize,
}

impl<T> Sender<T> {
    pub(crate) fn new(producer: Producer<T>, receiver: Thread) -> Self {
        Self { producer: Some(producer), receiver, wakes_at: 1 }
    }

    /// One that wakes the receiver only when half of the ring is in use and when it is closed; at other times
    /// the receiver looks by itself.
    pub(crate) fn in_batches(producer: Producer<T>, receiver: Thread) -> Self {
        let wakes_at = producer.buffer().capacity().div_ceil(2);
        Self { producer: Some(producer), receiver, wakes_at }
    }

    /// One for a receiver that never waits: it is woken only when the ring is closed.
    pub(crate) fn unheard(producer: Producer<T>, receiver: Thread) -> Self {
        Self { producer: Some(producer), receiver, wakes_at: usize::MAX }
    }

    /// Wakes the receiver, whatever there is.
    pub(crate) fn wake(&self) {
        self.receiver.unpark();
    }

    /// Gives `value` back when the ring is full.
    pub(crate) fn try_send(&mut self, value: T) -> Result<(), T> {
        let Some(producer) = &mut self.producer else { return Err(value) };
        producer.push(value).map_err(|rtrb::PushError::Full(value)| value)?;
        if producer.buffer().capacity() - producer.slots() >= self.wakes_at {
            self.receiver.unpark();
        }
        Ok(())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Closed first, then woken: the receiver must find it closed.
        drop(self.producer.take());
        self.receiver.unpark();
    }
}

pub(crate) struct Receiver<T> {
    consumer: Consumer<T>,
    /// How long it sleeps at most while it waits.
    patience: Duration,
}

impl<T> Receiver<T> {
    /// One that, while it waits, looks so often by itself.
    pub(crate) fn looking_every(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub(crate) fn try_recv(&mut self) -> Option<T> {
        self.consumer.pop().ok()
    }

    /// Waits for a value; `None` when the ring was closed and is empty.
    pub(crate) fn recv(&mut self) -> Option<T> {
        self.recv_while(|| true)
    }

    /// Waits for a value until `deadline`.
    pub(crate) fn recv_until(&mut self, clock: &dyn Clock, deadline: Timestamp) -> Option<T> {
        loop {
            if let Some(value) = self.try_recv() {
                return Some(value);
            }
            let left_ns = deadline.nanos_since(clock.now());
            if left_ns <= 0 {
                return None;
            }
            thread::park_timeout(Duration::from_nanos(left_ns.unsigned_abs()));
        }
    }

    /// Waits for a value as long as `patient` says so, which is asked now and then.
    pub(crate) fn recv_while(&mut self, mut patient: impl FnMut() -> bool) -> Option<T> {
        loop {
            if let Some(value) = self.try_recv() {
                return Some(value);
            }
            if self.consumer.is_abandoned() {
                // What was sent before the ring closed is there by now.
                return self.try_recv();
            }
            if !patient() {
                return None;
            }
            thread::park_timeout(self.patience);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_sent_arrives_in_order_also_after_the_sender_is_gone() {
        let (producer, mut receiver) = ring(4);
        let mut sender = Sender::new(producer, thread::current());
        let sending = thread::spawn(move || {
            for mut value in 0..1000 {
                while let Err(back) = sender.try_send(value) {
                    value = back;
                    thread::yield_now();
                }
            }
        });
        let received: Vec<i32> = std::iter::from_fn(|| receiver.recv()).collect();
        sending.join().unwrap();
        assert_eq!(received, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn in_batches_the_receiver_is_woken_by_half_a_ring_and_by_its_end() {
        let long = Duration::from_secs(30);
        for count in [4, 1] {
            let (producer, receiver) = ring(8);
            let mut receiver = receiver.looking_every(long);
            let mut sender = Sender::in_batches(producer, thread::current());
            let sending = thread::spawn(move || {
                for value in 0..count {
                    thread::sleep(Duration::from_millis(20));
                    sender.try_send(value).unwrap();
                }
                // Four values wake it; one is heard of at the end.
                thread::sleep(Duration::from_millis(20));
            });
            let clock = crate::MonotonicClock::new();
            let since = clock.now();
            let received: Vec<i32> = std::iter::from_fn(|| receiver.recv()).collect();
            assert_eq!(received, (0..count).collect::<Vec<_>>());
            assert!(clock.now().nanos_since(since) < 10_000_000_000, "nobody woke it");
            sending.join().unwrap();
        }
    }

    #[test]
    fn waiting_ends_with_patience() {
        let (_producer, mut receiver) = ring::<i32>(1);
        let mut looks = 3;
        assert_eq!(
            receiver.recv_while(|| {
                looks -= 1;
                looks > 0
            }),
            None
        );
    }
}
