//! Whether a licence lets a policy or a dataset be used to earn money.

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
    pub fn of(name: Option<&str>) -> Self {
        let Some(name) = name.map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty() && name != "unknown") else {
            return Self::NotStated;
        };
        let is_of = |family: &str| name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        if OPEN.contains(&name.as_str()) || OPEN_FAMILIES.iter().any(|family| is_of(family)) {
            Self::Open(name)
        } else if name.split(['-', '_', ' ']).any(|part| part == "nc" || part == "noncommercial") || name.contains("non-commercial") {
            Self::NonCommercial(name)
        } else {
            Self::Other(name)
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

    pub fn in_words(&self) -> String {
        match self {
            Self::Open(name) => name.clone(),
            Self::NonCommercial(name) => format!("{name}: not for commercial use"),
            Self::Other(name) => format!("{name}: read its text before you use it commercially"),
            Self::NotStated => "not stated: ask its owner before you use it commercially".to_owned(),
        }
    }

    /// Refuses to go on where commercial use is meant and not surely allowed.
    pub fn check(&self, what: &str, is_commercial: bool) -> anyhow::Result<()> {
        let is_allowed = self.allows_commercial_use();
        anyhow::ensure!(!is_commercial || is_allowed == Some(true), "running {what} with --commercial: its licence is {}", self.in_words());
        Ok(())
    }
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
    fn commercial_use_needs_a_licence_that_allows_it() {
        assert!(Licence::of(Some("mit")).check("x", true).is_ok());
        for name in [Some("cc-by-nc-4.0"), Some("gemma"), None] {
            assert!(Licence::of(name).check("x", true).is_err() && Licence::of(name).check("x", false).is_ok(), "{name:?}");
        }
    }
}
