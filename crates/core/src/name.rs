//! What people may call something: a robot, a calibration, a robot of a fleet, a dataset or a policy.

use thiserror::Error;

/// The longest name, in bytes: file names with an ending, keys and labels have room for it.
const MOST_BYTES: usize = 100;

/// A name that is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "expected a name of at most {MOST_BYTES} bytes on one line, without / and \\, that begins with a letter, a digit or _; found {found}"
)]
pub struct NameError {
    /// The beginning of it, with what can't be seen as `\\n` or `\\u{{1b}}`.
    pub found: String,
}

/// Whether `name` can be the name of something: it is shown to people, and part of file names and keys. So it is one line of visible
/// characters of any script, leads to no other folder, is no option and no hidden file.
///
/// # Errors
/// When it can't.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let is_bad = |c: char| c == '/' || c == '\\' || is_unseen(c);
    let begins_well = name.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    if begins_well && name.len() <= MOST_BYTES && !name.ends_with(char::is_whitespace) && !name.contains(is_bad) {
        return Ok(());
    }
    const SHOWN: usize = 40;
    let mut found: String = name.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if name.chars().nth(SHOWN).is_some() {
        found += &format!("… ({} bytes)", name.len());
    }
    Err(NameError { found: format!("\"{found}\"") })
}

/// Whether a character shows nothing, or changes how others look: controls, line ends, what turns the direction of writing, and spaces of
/// no or another width.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || c.is_whitespace() && c != ' '
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_of_what_can_be_seen_and_leads_nowhere() {
        for good in ["one", "my_awesome_follower_arm", "Küche 2", "左腕", "a", "_x", "v1.2-b", "arm (left) #3", &"x".repeat(100)] {
            assert_eq!(check_name(good), Ok(()), "{good:?}");
        }
        for bad in [
            "",
            " ",
            " a",
            "a ",
            ".",
            "..",
            "../x",
            "/x",
            "a/b",
            "a\\b",
            "-x",
            "--id",
            ".hidden",
            "a\nb",
            "a\u{1b}[31m",
            "a\u{0}",
            "a\tb",
            "a\u{202e}b",
            "a\u{200b}b",
            "a\u{2028}b",
            "a\u{a0}b",
            "\u{feff}a",
            &"x".repeat(101),
            &"ä".repeat(51),
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_was_found_is_told_harmlessly_and_shortly() {
        let told = check_name("a\u{1b}[31m\nb").unwrap_err().to_string();
        assert!(told.ends_with("found \"a\\u{1b}[31m\\nb\""), "{told}");
        let told = check_name(&"x".repeat(300)).unwrap_err().to_string();
        assert!(told.len() < 250 && told.ends_with("(300 bytes)\""), "{told}");
    }
}
