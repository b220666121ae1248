//! Keys from the bytes of a terminal, with or without the kitty keyboard protocol
//! (<https://sw.kovidgoyal.net/kitty/keyboard-protocol>).

use rustix::process::Signal;
use sinew_drivers::teleop::{KeyChange, TeleopKey};

use super::Key;

/// No sequence of a key is longer.
const LONGEST: usize = 32;

/// What a terminal says.
pub(super) enum Heard {
    Stroke(Stroke),
    /// It speaks the kitty keyboard protocol.
    TellsAll,
    /// Another window gets the keys.
    FocusLost,
}

/// Something that happened to a key.
#[derive(Clone, Copy)]
pub(super) struct Stroke {
    key: TeleopKey,
    pub change: KeyChange,
    /// Whether control, alt or another such key is held with it, and whether that is control alone.
    is_modified: bool,
    has_control: bool,
}

impl Stroke {
    fn plain(key: TeleopKey) -> Heard {
        Heard::Stroke(Self { key, change: KeyChange::Pressed, is_modified: false, has_control: false })
    }

    /// What the terminal would have sent for it, had it not been told to tell all.
    pub fn signal(&self) -> Option<Signal> {
        if self.change == KeyChange::Released || !self.has_control {
            return None;
        }
        match self.key {
            TeleopKey::Char('c') => Some(Signal::INT),
            TeleopKey::Char('\\') => Some(Signal::QUIT),
            _ => None,
        }
    }

    /// For whoever moves a robot with it: letters are small.
    pub fn teleop_key(&self) -> TeleopKey {
        match self.key {
            TeleopKey::Char(letter) => TeleopKey::Char(letter.to_ascii_lowercase()),
            key => key,
        }
    }

    /// For whoever wants single presses: no releases, nor what was held with it.
    pub fn press(&self) -> Option<Key> {
        if self.change == KeyChange::Released || self.is_modified {
            return None;
        }
        Some(match self.key {
            TeleopKey::Left => Key::Left,
            TeleopKey::Right => Key::Right,
            TeleopKey::Escape => Key::Escape,
            TeleopKey::Tab => Key::Tab,
            TeleopKey::Enter => Key::Enter,
            TeleopKey::Char(letter) => Key::Char(letter),
            _ => return None,
        })
    }
}

/// Keys from the bytes of a terminal.
#[derive(Default)]
pub(super) struct Parser {
    /// The escape sequence that has begun.
    sequence: Vec<u8>,
}

impl Parser {
    pub fn take(&mut self, byte: u8, heard: &mut impl FnMut(Heard)) {
        match (self.sequence.as_slice(), byte) {
            ([], 0x1b) => self.sequence.push(byte),
            ([], b'\t') => heard(Stroke::plain(TeleopKey::Tab)),
            ([], b'\r' | b'\n') => heard(Stroke::plain(TeleopKey::Enter)),
            ([], 0x08 | 0x7f) => heard(Stroke::plain(TeleopKey::Backspace)),
            ([], b' '..=b'~') => heard(Stroke::plain(TeleopKey::Char(byte.into()))),
            ([], _) => {}
            ([0x1b], b'[' | b'O') => self.sequence.push(byte),
            ([0x1b], _) => {
                self.sequence.clear();
                heard(Stroke::plain(TeleopKey::Escape));
                self.take(byte, heard);
            }
            // The last byte of a sequence is a letter or `~`.
            (_, b'@'..=b'~') => {
                let sequence = std::mem::take(&mut self.sequence);
                let told = sequence.get(2..).and_then(|parameters| told(parameters, byte));
                told.into_iter().for_each(heard);
            }
            _ if self.sequence.len() < LONGEST => self.sequence.push(byte),
            _ => self.sequence.clear(),
        }
    }

    /// Nothing has followed for a while.
    pub fn pause(&mut self, heard: &mut impl FnMut(Heard)) {
        if std::mem::take(&mut self.sequence) == [0x1b] {
            heard(Stroke::plain(TeleopKey::Escape));
        }
    }
}

/// What a sequence means: `code;modifiers:change` and a letter, where the code is missing or 1 for a key that the letter says.
fn told(parameters: &[u8], last: u8) -> Option<Heard> {
    let text = std::str::from_utf8(parameters).ok()?;
    if let Some(flags) = text.strip_prefix('?') {
        return (last == b'u' && flags.bytes().all(|byte| byte.is_ascii_digit())).then_some(Heard::TellsAll);
    }
    if (text, last) == ("", b'O') {
        return Some(Heard::FocusLost);
    }
    let mut fields = text.split(';');
    let mut field = || fields.next().unwrap_or("").split(':');
    let number = |text: Option<&str>| match text {
        None | Some("") => Some(1),
        Some(text) => text.parse::<u32>().ok(),
    };
    // Other forms of the key may follow its code.
    let code = number(field().next())?;
    let mut second = field();
    // What is held is told as 1 and bits: shift, alt, control, super, hyper, meta, then the locks.
    let modifiers = number(second.next())?.saturating_sub(1);
    let change = match number(second.next())? {
        1 => KeyChange::Pressed,
        2 => KeyChange::Repeated,
        3 => KeyChange::Released,
        _ => return None,
    };
    let key = match (last, code) {
        (b'A', _) => TeleopKey::Up,
        (b'B', _) => TeleopKey::Down,
        (b'C', _) => TeleopKey::Right,
        (b'D', _) => TeleopKey::Left,
        (b'~', 5) => TeleopKey::PageUp,
        (b'~', 6) => TeleopKey::PageDown,
        (b'u', 9) => TeleopKey::Tab,
        (b'u', 13) => TeleopKey::Enter,
        (b'u', 27) => TeleopKey::Escape,
        (b'u', 127) => TeleopKey::Backspace,
        (b'u', 57441) => TeleopKey::LeftShift,
        (b'u', 57442) => TeleopKey::LeftControl,
        (b'u', 57447) => TeleopKey::RightShift,
        (b'u', 57448) => TeleopKey::RightControl,
        (b'u', 32..=126) => TeleopKey::Char(char::from_u32(code)?),
        _ => return None,
    };
    const OTHERS: u32 = 0b11_1110;
    const CONTROL: u32 = 0b100;
    Some(Heard::Stroke(Stroke { key, change, is_modified: modifiers & OTHERS != 0, has_control: modifiers & OTHERS == CONTROL }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strokes(bytes: &[u8]) -> Vec<(TeleopKey, KeyChange, bool)> {
        let (mut strokes, mut parser) = (Vec::new(), Parser::default());
        for byte in bytes {
            parser.take(*byte, &mut |heard| {
                if let Heard::Stroke(stroke) = heard {
                    strokes.push((stroke.key, stroke.change, stroke.press().is_some()));
                }
            });
        }
        strokes
    }

    #[test]
    fn sequences_are_read_as_they_are_and_nothing_else_is_a_key() {
        use KeyChange::{Pressed, Released, Repeated};
        assert_eq!(strokes(b"\x1b[97;2u"), [(TeleopKey::Char('a'), Pressed, true)]);
        assert_eq!(strokes(b"\x1b[97:65;2:3u"), [(TeleopKey::Char('a'), Released, false)]);
        // With num lock on, and with alt.
        assert_eq!(strokes(b"\x1b[1;129:2C\x1b[1;3C"), [(TeleopKey::Right, Repeated, true), (TeleopKey::Right, Pressed, false)]);
        assert_eq!(
            strokes(b"\x1b[6;1:3~\x1b[57442;5u"),
            [(TeleopKey::PageDown, Released, false), (TeleopKey::LeftControl, Pressed, false)]
        );
        assert_eq!(strokes(b"\x1b[57361u\x1b[99;1:9u\x1b[?62;c\x1b[99999999999u\x1b[1114112u\x1b[15~"), []);
        let long: Vec<u8> = std::iter::once(0x1b).chain(std::iter::once(b'[')).chain([b'1'; 100]).collect();
        assert!(strokes(&long).iter().all(|(key, ..)| *key == TeleopKey::Char('1')));
    }
}
