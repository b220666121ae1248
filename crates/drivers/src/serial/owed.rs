//! Answers that have not come yet, so that one that comes late is taken for no other.
//!
//! An answer says who it is from and how many bytes it has, not what was asked. So while a motor owes an answer, it is asked
//! something else with another number of bytes. A motor answers in the order in which it was asked, so that with one answer
//! it owes none of those before it.

use std::time::Duration;

use sinew_core::Timestamp;

use crate::Block;

/// How long an answer may be on its way at least, and twice as long as any was; what has not come by then was lost.
const WITHIN: Duration = Duration::from_secs(1);
/// By so many bytes a block grows at most.
const MOST_MORE: usize = 31;
/// So many answers are remembered; the oldest is forgotten then.
const ROOM: usize = 4096;

/// An answer that is owed.
#[derive(Clone, Copy)]
struct Owed {
    id: u16,
    /// Bytes of data.
    len: usize,
    /// To which question, counted from the first; one that is asked again stays the same.
    question: u64,
    /// When the question's last byte left.
    sent: Timestamp,
}

/// Whose an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It answers the present question.
    Present,
    /// It answers one before, or may do so.
    Earlier,
    /// Nobody asked for it.
    Nobody,
}

/// All that is owed, in the order in which it was asked for. Allocates when it is made and never again.
pub(super) struct Debts {
    all: Vec<Owed>,
    question: u64,
    within: Duration,
}

impl Debts {
    pub fn new() -> Self {
        Self { all: Vec::with_capacity(ROOM), question: 0, within: WITHIN }
    }

    /// Another question.
    pub fn next_question(&mut self) {
        self.question += 1;
    }

    /// Motors are asked for `len` bytes by a packet whose last byte leaves at `sent`.
    pub fn ask(&mut self, ids: &[u16], len: usize, sent: Timestamp) {
        let question = self.question;
        let within = self.within;
        self.all.retain(|owed| owed.sent + within > sent);
        for id in ids {
            if self.all.len() == ROOM {
                self.all.remove(0);
            }
            self.all.push(Owed { id: *id, len, question, sent });
        }
    }

    /// The longest answer that may come.
    pub fn longest(&self) -> usize {
        self.all.iter().map(|owed| owed.len).max().unwrap_or(0)
    }

    /// `block` with so many bytes more than none of the motors owes an answer to another question of that length: those
    /// before it, and where there are none those behind it. Where all lengths are owed it is that of the question longest
    /// ago, and [`claim`](Self::claim) then takes the first answer for that one's.
    pub fn distinct(&self, block: Block, ids: &[u16], now: Timestamp) -> Block {
        let mut last = [None; MOST_MORE + 1];
        let len = usize::from(block.len);
        for (i, owed) in self.all.iter().enumerate() {
            let is_other = owed.question != self.question && owed.sent + self.within > now && ids.contains(&owed.id);
            if let Some(slot) = owed.len.checked_sub(len).and_then(|more| last.get_mut(more)).filter(|_| is_other) {
                *slot = Some(i);
            }
        }
        let more = (0u8..).zip(last).min_by_key(|(_, last)| *last).map_or(0, |(more, _)| more);
        Block { address: block.address - before(block, more.into()), len: block.len.saturating_add(more) }
    }

    /// Whose an answer with `len` bytes is, which has come `now`; `is_early` says of when a question left that this can't be
    /// its answer yet.
    pub fn claim(&mut self, id: u16, len: usize, now: Timestamp, is_early: impl Fn(Timestamp) -> bool) -> Claim {
        let Some(at) = self.all.iter().position(|owed| owed.id == id && owed.len == len) else { return Claim::Nobody };
        let Owed { question, sent, .. } = self.all[at];
        if is_early(sent) {
            return Claim::Nobody;
        }
        // A wire where answers pile up comes to be later and later.
        let took = Duration::from_nanos(u64::try_from(now.nanos_since(sent)).unwrap_or(0));
        self.within = self.within.max(2 * took);
        let mut i = 0;
        self.all.retain(|owed| {
            let is_over = i <= at && owed.id == id;
            i += 1;
            !is_over
        });
        if question == self.question { Claim::Present } else { Claim::Earlier }
    }
}

/// How many of the bytes that a block grew by are before it.
fn before(block: Block, more: usize) -> u16 {
    block.address.min(u16::try_from(more).unwrap_or(u16::MAX))
}

/// What was asked for, of an answer to the block that it had grown to.
pub(super) fn strip(block: Block, bytes: &[u8]) -> Option<&[u8]> {
    let len = usize::from(block.len);
    let from = usize::from(before(block, bytes.len().checked_sub(len)?));
    bytes.get(from..from + len)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSITION: Block = Block { address: 56, len: 2 };

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    fn never(_: Timestamp) -> bool {
        false
    }

    #[test]
    fn who_owes_an_answer_is_asked_for_another_number_of_bytes() {
        let mut debts = Debts::new();
        debts.next_question();
        assert_eq!(debts.distinct(POSITION, &[1, 2], at(0)), POSITION);
        debts.ask(&[1, 2], 2, at(0));
        assert_eq!(debts.distinct(POSITION, &[1, 2], at(0)), POSITION, "the same question again");
        assert_eq!(debts.claim(1, 2, at(40), never), Claim::Present);
        debts.next_question();
        // Motor 2 still owes its answer: nobody is asked so much while it is among them.
        assert_eq!(debts.distinct(POSITION, &[1], at(16)), POSITION);
        assert_eq!(debts.distinct(POSITION, &[1, 2], at(16)), Block { address: 55, len: 3 });
        debts.ask(&[1, 2], 3, at(16));
        debts.next_question();
        let third = debts.distinct(POSITION, &[1, 2], at(33));
        assert_eq!(third, Block { address: 54, len: 4 });
        debts.ask(&[1, 2], 4, at(33));
        // The first one's answer at last, then the third: the second will not come any more.
        assert_eq!(debts.claim(2, 2, at(40), never), Claim::Earlier);
        assert_eq!(debts.claim(2, 4, at(40), never), Claim::Present);
        assert_eq!((debts.claim(2, 3, at(40), never), debts.claim(2, 2, at(40), never)), (Claim::Nobody, Claim::Nobody));
        assert_eq!(debts.claim(1, 4, at(40), |sent| sent == at(33)), Claim::Nobody, "before it can have come");
        assert_eq!(debts.distinct(POSITION, &[1, 2], at(34)), POSITION, "the same question");
        debts.next_question();
        assert_eq!(debts.distinct(POSITION, &[2], at(34)), POSITION);
        assert_eq!(debts.distinct(POSITION, &[1], at(34)), POSITION, "2 bytes are not owed by it");
        assert_eq!(debts.distinct(Block { address: 40, len: 3 }, &[1], at(34)), Block { address: 38, len: 5 });
        // What was lost is not waited for.
        assert_eq!(debts.distinct(Block { address: 40, len: 3 }, &[1], at(1034)), Block { address: 40, len: 3 });
        assert_eq!(strip(POSITION, &[9, 9, 5, 6]), Some(&[5, 6][..]));
        // Before the first register there is none.
        assert_eq!(strip(Block { address: 1, len: 2 }, &[9, 5, 6, 9, 9]), Some(&[5, 6][..]));
        assert_eq!(strip(POSITION, &[5]), None);
    }

    #[test]
    fn where_all_lengths_are_owed_the_first_answer_is_not_believed() {
        let mut debts = Debts::new();
        for more in 0..=31 {
            debts.next_question();
            assert_eq!(usize::from(debts.distinct(POSITION, &[1], at(more)).len), 2 + usize::try_from(more).unwrap());
            debts.ask(&[1], 2 + usize::try_from(more).unwrap(), at(more));
        }
        debts.next_question();
        assert_eq!(debts.distinct(POSITION, &[1], at(40)), POSITION, "that of the question longest ago");
        debts.ask(&[1], 2, at(40));
        assert_eq!(debts.claim(1, 2, at(40), never), Claim::Earlier);
        assert_eq!(debts.claim(1, 2, at(40), never), Claim::Present);
        assert_eq!(debts.longest(), 0);
    }

    #[test]
    fn of_acknowledgements_so_many_are_not_believed_as_are_owed() {
        let mut debts = Debts::new();
        debts.ask(&[1], 0, at(0));
        debts.ask(&[1], 0, at(5));
        debts.next_question();
        debts.ask(&[1], 0, at(9));
        assert_eq!([0; 4].map(|_| debts.claim(1, 0, at(40), never)), [Claim::Earlier, Claim::Earlier, Claim::Present, Claim::Nobody]);
        // Nothing is allocated, however much is lost.
        for i in 0..5000 {
            debts.ask(&[1, 2], 1, at(10) + Duration::from_micros(i));
        }
        assert_eq!(debts.all.capacity(), ROOM);
    }
}
