//! What somebody sees whose locale is not UTF-8: plain ASCII in place of the few characters beyond it that sinew writes itself.

use std::borrow::Cow;
use std::ffi::OsString;
use std::sync::OnceLock;

use indicatif::ProgressStyle;

/// Each with what stands for it. What others wrote, such as names of files, stays as it is.
const PLAIN: [(char, &str); 12] = [
    ('…', "..."),
    ('×', "x"),
    ('─', "-"),
    ('–', "-"),
    ('−', "-"),
    ('→', "->"),
    ('←', "<-"),
    ('▸', ">"),
    ('°', "deg"),
    ('±', "+-"),
    ('µ', "u"),
    ('π', "pi"),
];

/// Whether text is UTF-8 here, as the environment says.
pub fn is_utf8() -> bool {
    static IS_UTF8: OnceLock<bool> = OnceLock::new();
    *IS_UTF8.get_or_init(|| is_utf8_by(|name| std::env::var_os(name)))
}

/// By the first variable that is set, as POSIX has it; without any the locale is C.
fn is_utf8_by(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    let locale = locale.map(|value| value.to_string_lossy().to_lowercase()).unwrap_or_default();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// `text` as it can be shown here.
pub fn shown(text: Cow<'_, str>) -> Cow<'_, str> {
    if is_utf8() || text.is_ascii() { text } else { plain(&text).into() }
}

fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match PLAIN.iter().find(|(known, _)| *known == c) {
            Some((_, words)) => out.push_str(words),
            None => out.push(c),
        }
    }
    out
}

/// A bar of progress by indicatif's `template`.
pub fn bar(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_bad_template| ProgressStyle::default_bar());
    if is_utf8() { style } else { style.progress_chars("=> ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_says_it() {
        let says = |variables: &[(&str, &str)]| {
            is_utf8_by(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value)))
        };
        assert!(says(&[("LANG", "de_DE.UTF-8")]) && says(&[("LC_CTYPE", "UTF-8")]) && says(&[("LC_ALL", ""), ("LANG", "C.utf8")]));
        assert!(!says(&[]) && !says(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]) && !says(&[("LANG", "de_DE.ISO-8859-1")]));
    }

    #[test]
    fn what_sinew_writes_itself_is_ascii_and_what_others_wrote_stays() {
        assert_eq!(plain("128×96 … → 35 °C, naïve.txt"), "128x96 ... -> 35 degC, naïve.txt");
    }
}
