//! A one-way ring between two threads: sending never waits or allocates; receiving may sleep.

use std::thread::{self, Thread};
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};

/// How often a receiver that waits looks up to see whether it still should.
const PATIENCE: Duration = Duration::from_millis(5);

pub(crate) fn ring<T>(capacity: usize) -> (Producer<T>, Receiver<T>) {
    let (producer, consumer) = RingBuffer::new(capacity);
    (producer, Receiver(consumer))
}

/// The sending half together with the thread that receives, which it wakes. Dropping it closes the
/// ring.
pub(crate) struct Sender<T> {
    producer: Option<Producer<T>>,
    receiver: Thread,
}

impl<T> Sender<T> {
    pub(crate) fn new(producer: Producer<T>, receiver: Thread) -> Self {
        Self { producer: Some(producer), receiver }
    }

    /// Gives `value` back when the ring is full.
    pub(crate) fn try_send(&mut self, value: T) -> Result<(), T> {
        let Some(producer) = &mut self.producer else { return Err(value) };
        producer.push(value).map_err(|rtrb::PushError::Full(value)| value)?;
        self.receiver.unpark();
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

pub(crate) struct Receiver<T>(Consumer<T>);

impl<T> Receiver<T> {
    pub(crate) fn try_recv(&mut self) -> Option<T> {
        self.0.pop().ok()
    }

    /// Waits for a value; `None` when the ring was closed and is empty.
    pub(crate) fn recv(&mut self) -> Option<T> {
        self.recv_while(|| true)
    }

    /// Waits for a value as long as `patient` says so, which is asked now and then.
    pub(crate) fn recv_while(&mut self, mut patient: impl FnMut() -> bool) -> Option<T> {
        loop {
            if let Some(value) = self.try_recv() {
                return Some(value);
            }
            if self.0.is_abandoned() {
                // What was sent before the ring closed is there by now.
                return self.try_recv();
            }
            if !patient() {
                return None;
            }
            thread::park_timeout(PATIENCE);
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
