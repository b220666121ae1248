//! Where a training runs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use crate::args::misuse;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Place {
    /// A machine with a shell: this one, or one behind ssh.
    Machine(Machine),
    /// Hugging Face Jobs.
    Jobs,
}

impl Place {
    pub fn is_here(&self) -> bool {
        *self == Self::Machine(Machine::Here)
    }
}

impl FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "local" => Ok(Self::Machine(Machine::Here)),
            "jobs" => Ok(Self::Jobs),
            _ => {
                let host = text.strip_prefix("ssh:").unwrap_or_default();
                // ssh takes what begins with a dash for an option.
                let is_host = !host.is_empty() && !host.starts_with('-') && host.chars().all(|c| c.is_ascii_graphic() && c != ':');
                if !is_host {
                    misuse!("choosing where to train: {text:?}, expected local, jobs or ssh:HOST");
                }
                Ok(Self::Machine(Machine::Ssh(host.to_owned())))
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(Machine::Here) => f.write_str("local"),
            Self::Machine(Machine::Ssh(host)) => write!(f, "ssh:{host}"),
            Self::Jobs => f.write_str("jobs"),
        }
    }
}

impl TryFrom<String> for Place {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_written_back() {
        for text in ["local", "jobs", "ssh:gpu-box", "ssh:ada@gpu.example"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in ["", "ssh:", "ssh:-oProxyCommand=x", "ssh:a b", "cloud"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
