//! Keys, wherever they come from, and which of them are held.

use std::collections::BTreeMap;
use std::time::Duration;

use sinew_core::{TeleoperatorError, Timestamp};

use super::evdev::{EV_KEY, InputDevice};

/// A key. Letters are small ones, whatever is held with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TeleopKey {
    Char(char),
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    LeftShift,
    RightShift,
    LeftControl,
    RightControl,
    Escape,
    Enter,
    Backspace,
    Tab,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChange {
    Pressed,
    /// It is still down; or, from a terminal that says no more, it was pressed again.
    Repeated,
    Released,
}

/// A key that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    pub key: TeleopKey,
    pub change: KeyChange,
    /// By the session's clock.
    pub time: Timestamp,
}

/// Where keys come from: a terminal, or a keyboard of this computer.
pub trait KeySource: Send {
    /// Tells `heard` what happened since the last time, without waiting. Whether it is another keyboard than before, which was
    /// gone meanwhile.
    ///
    /// # Errors
    /// When there are no more keys.
    fn read(&mut self, now: Timestamp, heard: &mut dyn FnMut(KeyEvent)) -> Result<bool, TeleoperatorError>;

    /// Whether it says when a key is released. A terminal without the kitty keyboard protocol does not.
    fn tells_releases(&self) -> bool;

    /// When keys are held no more although nobody said so, as nothing was heard of any: a key that is held repeats, and a
    /// release may get lost on the way from a terminal.
    fn silent_after(&self) -> Option<Duration> {
        None
    }
}

/// How long a key counts as held that was pressed once, where nobody says when it is released: long enough to be a step, and
/// less than any terminal waits before it repeats.
const TAP_NS: i64 = 100_000_000;
/// What lies further apart is no repetition of a key that is held: terminals repeat at 10 to 50 Hz.
const LONGEST_GAP_NS: i64 = 200_000_000;
/// A key is held until so many repetitions have failed to come.
const MISSED: i64 = 3;
/// Until the first repetitions have said how often they come.
const USUAL_GAP_NS: i64 = 40_000_000;
const SHORTEST_HOLD_NS: i64 = 60_000_000;

/// Which keys are held.
///
/// Where nobody says when a key is released, it counts as held from a press on for a tenth of a second, then from its first
/// repetition on until none came for three times as long as from one to the next, as learned from them, and 0.06 to 0.2 s.
/// So a key that is held moves a step, waits as long as the terminal does before it repeats, and then moves on; one that is
/// let go of stops within that time.
#[derive(Clone, Debug, Default)]
pub struct HeldKeys {
    /// When each was heard last, and until when it counts; without an end until it is released.
    held: BTreeMap<TeleopKey, (Timestamp, Option<Timestamp>)>,
    /// From a repetition to the next.
    gap_ns: Option<i64>,
    /// The key heard last, and when: terminals repeat only that.
    last: Option<(TeleopKey, Timestamp)>,
}

impl HeldKeys {
    /// Lets go of all keys where none was heard of for longer than `silent_after`.
    pub fn expire(&mut self, silent_after: Option<Duration>, now: Timestamp) {
        let limit = silent_after.and_then(|limit| i64::try_from(limit.as_nanos()).ok());
        if let (Some(limit), Some((_, last))) = (limit, self.last)
            && now.nanos_since(last) > limit
        {
            self.forget();
        }
    }

    /// Takes in an event. Whether the key was pressed by it, and not held before.
    pub fn take(&mut self, event: KeyEvent, tells_releases: bool) -> bool {
        let KeyEvent { key, change, time: now } = event;
        if change == KeyChange::Released {
            self.held.remove(&key);
            return false;
        }
        if tells_releases {
            self.last = Some((key, now));
            let is_new = !self.held.contains_key(&key);
            self.held.insert(key, (now, None));
            return is_new && change == KeyChange::Pressed;
        }
        let gap = self.last.filter(|(last, _)| *last == key).map(|(_, time)| now.nanos_since(time));
        let gap = gap.filter(|gap| (0..=LONGEST_GAP_NS).contains(gap));
        self.last = Some((key, now));
        let holds_ns = match gap {
            None => TAP_NS,
            Some(gap) => {
                // A quarter of the news: one that is late changes little.
                let known = self.gap_ns.unwrap_or(USUAL_GAP_NS);
                let learned = known + (gap - known) / 4;
                self.gap_ns = Some(learned);
                (MISSED * learned).clamp(SHORTEST_HOLD_NS, LONGEST_GAP_NS)
            }
        };
        let is_new = gap.is_none() && !self.is_held(key, now);
        self.held.insert(key, (now, Some(Timestamp::from_nanos(now.as_nanos() + holds_ns))));
        is_new
    }

    pub fn is_held(&self, key: TeleopKey, now: Timestamp) -> bool {
        self.held.get(&key).is_some_and(|(_, until)| until.is_none_or(|until| now < until))
    }

    /// Nothing is held any more.
    pub fn forget(&mut self) {
        self.held.clear();
        self.last = None;
    }
}

/// A keyboard of this computer.
pub struct LocalKeys(pub InputDevice);

impl KeySource for LocalKeys {
    fn read(&mut self, now: Timestamp, heard: &mut dyn FnMut(KeyEvent)) -> Result<bool, TeleoperatorError> {
        self.0.read(now, |event| {
            let change = match event.value {
                0 => KeyChange::Released,
                1 => KeyChange::Pressed,
                _ => KeyChange::Repeated,
            };
            if let Some(key) = key_of(event.code).filter(|_| event.kind == EV_KEY) {
                heard(KeyEvent { key, change, time: now });
            }
        })
    }

    fn tells_releases(&self) -> bool {
        true
    }
}

/// The key of a code of Linux, where it stands on a US keyboard.
fn key_of(code: u16) -> Option<TeleopKey> {
    const ROWS: [(u16, &str); 4] = [(2, "1234567890-="), (16, "qwertyuiop[]"), (30, "asdfghjkl;'"), (44, "zxcvbnm,./")];
    let letter = |(first, row): (u16, &str)| row.chars().nth(usize::from(code.checked_sub(first)?));
    Some(match code {
        1 => TeleopKey::Escape,
        14 => TeleopKey::Backspace,
        15 => TeleopKey::Tab,
        28 => TeleopKey::Enter,
        29 => TeleopKey::LeftControl,
        42 => TeleopKey::LeftShift,
        54 => TeleopKey::RightShift,
        57 => TeleopKey::Char(' '),
        97 => TeleopKey::RightControl,
        103 => TeleopKey::Up,
        104 => TeleopKey::PageUp,
        105 => TeleopKey::Left,
        106 => TeleopKey::Right,
        108 => TeleopKey::Down,
        109 => TeleopKey::PageDown,
        _ => TeleopKey::Char(ROWS.into_iter().find_map(letter)?),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::recorded::{Part, Recorded, event};
    use super::*;

    /// Keys that a test presses.
    #[derive(Clone, Default)]
    pub struct Fingers {
        pub events: Arc<Mutex<Vec<(TeleopKey, KeyChange)>>>,
        pub is_terminal: bool,
    }

    impl Fingers {
        pub fn does(&self, key: TeleopKey, change: KeyChange) {
            self.events.lock().unwrap().push((key, change));
        }
    }

    impl KeySource for Fingers {
        fn read(&mut self, time: Timestamp, heard: &mut dyn FnMut(KeyEvent)) -> Result<bool, TeleoperatorError> {
            self.events.lock().unwrap().drain(..).for_each(|(key, change)| heard(KeyEvent { key, change, time }));
            Ok(false)
        }

        fn tells_releases(&self) -> bool {
            !self.is_terminal
        }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    /// When `w` counts as held, of times at which a terminal says it, looked at every 5 ms: its beginnings and ends.
    fn held(times: &[i64]) -> Vec<i64> {
        let (mut keys, mut changes, mut before) = (HeldKeys::default(), Vec::new(), false);
        for ms in (0..3000).step_by(5) {
            if times.contains(&ms) {
                keys.take(KeyEvent { key: TeleopKey::Char('w'), change: KeyChange::Pressed, time: at(ms) }, false);
            }
            let is_held = keys.is_held(TeleopKey::Char('w'), at(ms));
            if is_held != before {
                changes.push(ms);
            }
            before = is_held;
        }
        changes
    }

    #[test]
    fn what_a_terminal_repeats_is_held_and_what_it_says_once_is_a_step() {
        assert_eq!(held(&[0]), [0, 100]);
        // X11's usual: after 660 ms every 40.
        let repeats = |first: i64, every: i64, count: i64| std::iter::once(0).chain((0..count).map(move |i| first + i * every));
        assert_eq!(held(&repeats(660, 40, 20).collect::<Vec<_>>()), [0, 100, 660, 660 + 19 * 40 + 120]);
        // A quick one, and a slow one: three repetitions, but never more than 0.2 s.
        assert_eq!(held(&repeats(250, 20, 100).collect::<Vec<_>>()), [0, 100, 250, 250 + 99 * 20 + 65]);
        assert_eq!(held(&repeats(500, 100, 10).collect::<Vec<_>>()), [0, 100, 500, 500 + 900 + 200]);
        // One repetition that comes late makes no gap.
        let mut late: Vec<i64> = repeats(500, 30, 30).collect();
        late[15] += 55;
        assert_eq!(held(&late).len(), 4);
    }

    #[test]
    fn a_press_is_one_press_however_often_it_is_repeated() {
        let mut keys = HeldKeys::default();
        let mut take = |ms, change, tells| keys.take(KeyEvent { key: TeleopKey::Char('s'), change, time: at(ms) }, tells);
        assert!(take(0, KeyChange::Pressed, true) && !take(300, KeyChange::Repeated, true) && !take(310, KeyChange::Released, true));
        assert!(take(400, KeyChange::Pressed, true) && !take(401, KeyChange::Released, true));
        let presses = [1000, 1500, 1540, 1580].map(|ms| take(ms, KeyChange::Pressed, false));
        assert_eq!(presses, [true, true, false, false]);
    }

    #[test]
    fn a_key_whose_release_got_lost_is_held_no_more_after_a_while() {
        let mut keys = HeldKeys::default();
        let limit = Some(Duration::from_secs(1));
        let w = TeleopKey::Char('w');
        for (ms, change) in [(0, KeyChange::Pressed), (600, KeyChange::Repeated), (640, KeyChange::Repeated)] {
            keys.take(KeyEvent { key: w, change, time: at(ms) }, true);
        }
        keys.expire(limit, at(1600));
        assert!(keys.is_held(w, at(1600)));
        keys.expire(None, at(9000));
        assert!(keys.is_held(w, at(9000)));
        keys.expire(limit, at(1700));
        assert!(!keys.is_held(w, at(1700)));
    }

    #[test]
    fn a_local_keyboard_is_a_us_one() {
        let codes = [(16, 'q'), (44, 'z'), (13, '='), (12, '-'), (57, ' '), (26, '[')];
        for (code, letter) in codes {
            assert_eq!(key_of(code), Some(TeleopKey::Char(letter)));
        }
        assert_eq!(
            (key_of(54), key_of(97), key_of(0x130), key_of(28)),
            (Some(TeleopKey::RightShift), Some(TeleopKey::RightControl), None, Some(TeleopKey::Enter))
        );
        let stream = [event(1, 17, 1), event(0, 0, 0), event(1, 17, 2), event(1, 17, 0), event(1, 0x110, 1)].concat();
        let mut keys = LocalKeys(Recorded::device("keyboard", false, [Part::Bytes(stream), Part::Nothing]));
        let mut heard = Vec::new();
        keys.read(at(0), &mut |event| heard.push(event.change)).unwrap();
        assert_eq!(heard, [KeyChange::Pressed, KeyChange::Repeated, KeyChange::Released]);
    }
}
