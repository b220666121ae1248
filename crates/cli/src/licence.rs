//! Whether a licence lets a policy or a dataset be used to earn money.

use sinew_policy::Terms;

/// A licence by the Hub's short name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Licence {
    /// Commercial use is allowed, perhaps under conditions that its text states.
    Open(String),
    /// It forbids commercial use.
    NonCommercial(String),
    /// It has a text of its own, or is not known here.
    Other(String),
    NotStated,
}

/// Names in the Hub's list of licences (its page on repository licences) that allow commercial use.
const OPEN: [&str; 30] = [
    "apache-2.0",
    "mit",
    "bsd",
    "bsd-2-clause",
    "bsd-3-clause",
    "bsd-3-clause-clear",
    "isc",
    "zlib",
    "unlicense",
    "wtfpl",
    "ncsa",
    "afl-3.0",
    "artistic-2.0",
    "bsl-1.0",
    "cc0-1.0",
    "cc-by-2.0",
    "cc-by-2.5",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "mpl-2.0",
    "epl-2.0",
    "eupl-1.1",
    "eupl-1.2",
    "odc-by",
    "odbl",
    "pddl",
    "cdla-permissive-1.0",
    "cdla-permissive-2.0",
];

/// Those of the GNU family allow it, too.
const OPEN_FAMILIES: [&str; 3] = ["gpl", "lgpl", "agpl"];

impl Licence {
    /// The strictest of those in `name`, which may be several, joined by ` and `: whoever uses it keeps all of them.
    pub fn of(name: Option<&str>) -> Self {
        name.unwrap_or_default().split(" and ").map(Self::of_one).max_by_key(Self::strictness).unwrap_or(Self::NotStated)
    }

    fn of_one(name: &str) -> Self {
        let name = name.trim().to_lowercase();
        if name.is_empty() || name == "unknown" {
            return Self::NotStated;
        }
        let is_of = |family: &str| name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        if OPEN.contains(&name.as_str()) || OPEN_FAMILIES.iter().any(|family| is_of(family)) {
            Self::Open(name)
        } else if name.split(|c: char| !c.is_alphanumeric()).any(|part| part == "nc" || part == "noncommercial")
            || name.contains("non-commercial")
        {
            Self::NonCommercial(name)
        } else {
            Self::Other(name)
        }
    }

    /// The strictest of all that is stated about a policy and its base, in order; and who states it where others state another.
    pub fn of_terms(terms: &[Terms]) -> (Self, Option<&str>) {
        let of = |terms: &Terms| {
            let more = if terms.more.is_empty() { String::new() } else { format!(" ({})", terms.more.join(", ")) };
            // The name that a card gives a licence counts only where the Hub has none for it.
            let named = |licence: &String| if licence == "other" { format!("other{more}") } else { licence.clone() };
            Self::of(Some(&terms.licences.iter().map(named).collect::<Vec<_>>().join(" and ")))
        };
        let judged: Vec<(Self, &str)> = terms.iter().map(|terms| (of(terms), terms.by.as_str())).collect();
        // Of equals the first, which is the policy's own.
        let Some((licence, by)) = judged.iter().rev().max_by_key(|(licence, _)| licence.strictness()) else {
            return (Self::NotStated, None);
        };
        let differ = judged.iter().any(|(other, _)| other != licence);
        (licence.clone(), differ.then_some(by))
    }

    /// What is forbidden is stricter than what nobody knows, and that than what a text of its own may allow.
    fn strictness(&self) -> u8 {
        match self {
            Self::Open(_) => 0,
            Self::Other(_) => 1,
            Self::NotStated => 2,
            Self::NonCommercial(_) => 3,
        }
    }

    /// `None` where only its text can say.
    pub fn allows_commercial_use(&self) -> Option<bool> {
        match self {
            Self::Open(_) => Some(true),
            Self::NonCommercial(_) => Some(false),
            Self::Other(_) | Self::NotStated => None,
        }
    }

    /// Refuses to go on where commercial use is meant and not surely allowed. `by` is who states the licence, where several do.
    pub fn check(&self, by: Option<&str>, doing: &str, is_commercial: bool) -> anyhow::Result<()> {
        let is_allowed = !is_commercial || self.allows_commercial_use() == Some(true);
        anyhow::ensure!(is_allowed, "{doing} with --commercial: its licence is {}{}", self.in_words(), stated(by));
        Ok(())
    }

    pub fn in_words(&self) -> String {
        match self {
            Self::Open(name) => name.clone(),
            Self::NonCommercial(name) => format!("{}: not for commercial use", cut(name)),
            Self::Other(name) => format!("{}: read its text before you use it commercially", cut(name)),
            Self::NotStated => "not stated: ask its owner before you use it commercially".to_owned(),
        }
    }
}

/// A name that a stranger has given, where it is none that anybody reads to its end.
fn cut(name: &str) -> String {
    const MOST_CHARS: usize = 120;
    let begin: String = name.chars().take(MOST_CHARS).collect();
    if begin.len() < name.len() { format!("{begin}…") } else { begin }
}

/// Whether the Hub lists a licence by this name (its page on repository licences), so that others can tell what it allows.
pub fn is_listed(name: &str) -> bool {
    const OTHERS: [&str; 26] = [
        "other",
        "openrail",
        "openrail++",
        "openmdw-1.0",
        "creativeml-openrail-m",
        "bigscience-openrail-m",
        "bigscience-bloom-rail-1.0",
        "bigcode-openrail-m",
        "llama2",
        "llama3",
        "llama3.1",
        "llama3.2",
        "llama3.3",
        "llama4",
        "gemma",
        "cc",
        "cc-by-nd-4.0",
        "c-uda",
        "cdla-sharing-1.0",
        "ecl-2.0",
        "fair-noncommercial-research-license",
        "gfdl",
        "h-research",
        "lppl-1.3c",
        "ms-pl",
        "ofl-1.1",
    ];
    OTHERS.contains(&name) || name.starts_with("cc-by-nc-") || matches!(Licence::of(Some(name)), Licence::Open(it) if it == name)
}

/// What the licences of a policy, and of its base, say together.
pub fn in_words(terms: &[Terms]) -> String {
    let (licence, by) = Licence::of_terms(terms);
    format!("{}{}", licence.in_words(), stated(by))
}

fn stated(by: Option<&str>) -> String {
    by.map(|by| format!(" (says {by})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_told_apart() {
        let allows = |name: &str| Licence::of(Some(name)).allows_commercial_use();
        for open in ["apache-2.0", "MIT", "cc-by-4.0", "gpl-3.0", "agpl-3.0", "lgpl"] {
            assert_eq!(allows(open), Some(true), "{open}");
        }
        for closed in ["cc-by-nc-4.0", "cc-by-nc-sa-4.0", "fair-noncommercial-research-license", "nvidia-non-commercial"] {
            assert_eq!(allows(closed), Some(false), "{closed}");
        }
        for unsure in ["other", "gemma", "llama3", "openrail", "gplike"] {
            assert_eq!(allows(unsure), None, "{unsure}");
        }
        for none in [None, Some(""), Some("unknown")] {
            assert_eq!(Licence::of(none), Licence::NotStated);
        }
    }

    #[test]
    fn a_long_name_is_cut_and_only_listed_ones_are_listed() {
        let words = Licence::of(Some(&"ü".repeat(5000))).in_words();
        assert!(words.chars().count() < 200 && words.contains("ü…: read its text"), "{words}");
        for listed in ["mit", "apache-2.0", "gemma", "cc-by-nc-sa-4.0", "gpl-3.0", "other"] {
            assert!(is_listed(listed), "{listed}");
        }
        for other in ["zzz", "MIT", "apache", "unknown"] {
            assert!(!is_listed(other), "{other}");
        }
    }

    fn terms(by: &str, licences: &[&str], more: &[&str]) -> Terms {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Terms { by: by.into(), licences: owned(licences), more: owned(more) }
    }

    fn check(terms: &[Terms], doing: &str, is_commercial: bool) -> anyhow::Result<()> {
        let (licence, by) = Licence::of_terms(terms);
        licence.check(by, doing, is_commercial)
    }

    #[test]
    fn commercial_use_needs_a_licence_that_allows_it() {
        assert!(check(&[terms("its card", &["mit"], &[])], "x", true).is_ok());
        for licences in [&["cc-by-nc-4.0"][..], &["gemma"], &[], &["mit", "cc-by-nc-4.0"], &["mit", "gemma"]] {
            let terms = [terms("its card", licences, &[])];
            assert!(check(&terms, "x", true).is_err() && check(&terms, "x", false).is_ok(), "{licences:?}");
        }
        assert!(check(&[terms("its card", &["mit", "apache-2.0"], &[])], "x", true).is_ok());
    }

    #[test]
    fn the_strictest_of_a_policy_and_its_base_counts() {
        let own = terms("its card", &["apache-2.0"], &[]);
        let of_base = |licences: &[&str], more: &[&str]| [own.clone(), terms("the card of its base a/b", licences, more)];
        assert!(check(&of_base(&["mit"], &[]), "x", true).is_ok());
        for (licences, more, words) in [
            (&["cc-by-nc-4.0"][..], &[][..], "cc-by-nc-4.0: not for commercial use (says the card of its base a/b)"),
            (&[], &[], "not stated: ask its owner before you use it commercially (says the card of its base a/b)"),
            (&["other"], &["research-nc", "LICENSE.md"], "other (research-nc, license.md): not for commercial use"),
            (&["other"], &["apache-2.0"], "other (apache-2.0): read its text"),
        ] {
            let error = check(&of_base(licences, more), "x", true).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        // A name beside a licence that the Hub knows changes nothing.
        assert!(check(&of_base(&["mit"], &["some-nc"]), "x", true).is_ok());
    }
}
