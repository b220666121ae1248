//! Where a fleet meets, and what its robots are called.

use std::fmt::{self, Display};
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value as Json;
use zenoh::{Config, Session, Wait as _};

use super::MOST_BYTES;
use crate::RemoteError;
use crate::lerobot::words;
use crate::time::Deadline;
use crate::tls::{self, Thorough};

/// What is longer is not put together: [`MOST_BYTES`], and what zenoh says around it.
const MOST_MESSAGE: usize = MOST_BYTES + (64 << 10);
/// Milliseconds in which a router is reached and greeted, and after which somebody who says nothing has gone.
const REACHED_MS: &str = "1500";
const GONE_MS: &str = "2000";
/// The same in which a router tells others of a token, and between two questions for it.
const SEEN: Duration = Duration::from_secs(1);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// How long a router may take for the hand-shake that is looked at first.
const SHAKES: Duration = Duration::from_millis(1500);

/// Where the robots of a fleet meet. Nothing is found by itself: what is here, or in the file, is all that is connected with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetPlace {
    /// A router's address, such as `tcp/router.local:7447`.
    At(String),
    /// An address of this machine's, where the others come to.
    Here(String),
    /// A file of zenoh's own configuration (JSON5): addresses, certificates and rights.
    File(PathBuf),
}

impl FromStr for FleetPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected tcp/HOST:PORT, listen:tcp/127.0.0.1:PORT, or a file of zenoh's configuration (JSON5)";
        let (listens, address) = text.strip_prefix("listen:").map_or((false, text), |address| (true, address));
        let Some((protocol @ ("tcp" | "tls" | "udp" | "quic" | "ws"), rest)) = address.split_once('/') else {
            return if text.is_empty() || listens { Err(EXPECTED.to_owned()) } else { Ok(Self::File(text.into())) };
        };
        let host = rest.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
        let Some((host, _)) = host else { return Err(EXPECTED.to_owned()) };
        if rest.contains(['/', '#', '?', ';', ' ']) {
            return Err(EXPECTED.to_owned());
        }
        match protocol {
            "tcp" if listens && !is_loopback(host) => Err(format!(
                "{address} is reached by other machines, and nothing would be encrypted; expected an address of this machine only, or a \
                 file of zenoh's configuration that says who may do what"
            )),
            "tcp" if listens => Ok(Self::Here(address.to_owned())),
            "tcp" => Ok(Self::At(address.to_owned())),
            "tls" => Err(format!("{address} needs certificates; expected a file of zenoh's configuration (JSON5) that names them")),
            _ => Err(EXPECTED.to_owned()),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Display for FleetPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => f.write_str(address),
            Self::Here(address) => write!(f, "{address} of this machine"),
            Self::File(file) => write!(f, "the addresses of {}", file.display()),
        }
    }
}

impl FleetPlace {
    /// Whether what is said goes over other machines without encryption, as far as the address tells.
    pub fn is_open(&self) -> bool {
        match self {
            Self::At(address) => {
                let host = address.split_once('/').and_then(|(_, rest)| rest.rsplit_once(':')).map_or("", |(host, _)| host);
                !is_loopback(host)
            }
            Self::Here(_) | Self::File(_) => false,
        }
    }

    pub(crate) fn fault(&self, what: impl Into<String>) -> RemoteError {
        RemoteError::Fleet { place: self.to_string(), what: what.into() }
    }

    /// Opens a session.
    ///
    /// # Errors
    /// When nobody is reached, the address is taken, the file is none of zenoh's, or a certificate is of no use; which, in words.
    pub(crate) fn open(&self) -> Result<Session, RemoteError> {
        let config = self.config()?;
        let (connects, listens) = (locators(&config, "connect"), locators(&config, "listen"));
        let check = |thorough| tls::check(&config, &connects, &listens, SHAKES, thorough).map_err(|what| self.fault(what));
        // Zenoh takes a certificate that ran out, and of others says only that nobody is reached.
        check(Thorough::No)?;
        zenoh::open(config.clone()).wait().map_err(|error| check(Thorough::Yes).err().unwrap_or_else(|| self.fault(words(error))))
    }

    /// Whether others who come to the router hear of a liveliness token of this side's; `None` where there is no router.
    pub(crate) fn sees(&self, token: &str) -> Option<bool> {
        let mut config = self.config().ok()?;
        if config.get_json("mode").ok()? != "\"client\"" {
            return None;
        }
        for (key, value) in [("listen/endpoints", "[]"), ("connect/timeout_ms", REACHED_MS), ("connect/exit_on_failure", "true")] {
            config.insert_json5(key, value).ok()?;
        }
        let Ok(session) = zenoh::open(config).wait() else { return Some(false) };
        let until = Deadline::after(SEEN);
        let is_seen = loop {
            let tokens = session.liveliness().get(token.to_owned()).timeout(until.left().max(BETWEEN_LOOKS)).wait();
            let is_seen = tokens.is_ok_and(|tokens| tokens.iter().any(|reply| reply.result().is_ok()));
            if is_seen || until.is_over() {
                break is_seen;
            }
            std::thread::sleep(BETWEEN_LOOKS);
        };
        drop(session.close().wait());
        Some(is_seen)
    }

    /// Zenoh's configuration for the place.
    fn config(&self) -> Result<Config, RemoteError> {
        let mut config = match self {
            Self::File(file) => {
                Config::from_file(file).map_err(|error| self.fault(format!("reading {}: {}", file.display(), words(error))))?
            }
            Self::At(_) | Self::Here(_) => Config::default(),
        };
        let most = MOST_MESSAGE.to_string();
        let mut settings: Vec<(&str, String)> = vec![
            ("scouting/multicast/enabled", "false".into()),
            ("scouting/gossip/enabled", "false".into()),
            ("transport/link/rx/max_message_size", most),
            ("transport/link/tx/lease", GONE_MS.into()),
            ("transport/unicast/open_timeout", REACHED_MS.into()),
            ("transport/unicast/accept_timeout", REACHED_MS.into()),
            ("connect/retry", r#"{ "period_init_ms": 100, "period_max_ms": 400, "period_increase_factor": 2 }"#.into()),
        ];
        let list = |address: &str| serde_json::json!([address]).to_string();
        match self {
            Self::At(address) => settings.extend([
                ("mode", "\"client\"".into()),
                ("connect/endpoints", list(address)),
                ("connect/timeout_ms", REACHED_MS.into()),
                ("connect/exit_on_failure", "true".into()),
            ]),
            // Who listens hands on what the others say to each other. Nobody's clock is asked for that.
            Self::Here(address) => settings.extend([
                ("mode", "\"router\"".into()),
                ("listen/endpoints", list(address)),
                ("timestamping/enabled", "false".into()),
            ]),
            Self::File(_) => {}
        }
        for (key, value) in settings {
            config.insert_json5(key, &value).map_err(|error| self.fault(format!("setting zenoh's {key}: {}", words(error))))?;
        }
        Ok(config)
    }
}

/// The locators at which a session listens, or connects to others.
fn locators(config: &Config, end: &str) -> Vec<String> {
    let read = |key: &str| config.get_json(key).ok().and_then(|text| serde_json::from_str::<Json>(&text).ok()).unwrap_or_default();
    let endpoints = read(&format!("{end}/endpoints"));
    // They may be other ones for each mode.
    let endpoints = match (&endpoints, read("mode").as_str()) {
        (Json::Object(modes), Some(mode)) => modes.get(mode).cloned().unwrap_or_default(),
        _ => endpoints,
    };
    let all = endpoints.as_array().into_iter().flatten();
    all.filter_map(|locator| locator.as_str().map(str::to_owned)).collect()
}

/// What a robot is called in its fleet: 1 to 64 lower-case letters, digits and `-`, which stands between others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RobotName(String);

impl RobotName {
    /// This machine's name, where it is known and can be a robot's.
    pub fn of_this_machine() -> Option<Self> {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_lowercase();
        name.split('.').next()?.parse().ok()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RobotName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_one = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_inside = |name: &str| !name.starts_with('-') && !name.ends_with('-');
        if (1..=64).contains(&text.len()) && text.bytes().all(is_one) && is_inside(text) {
            return Ok(Self(text.to_owned()));
        }
        Err("expected a robot's name: 1 to 64 lower-case letters, digits and -; it begins and ends with a letter or a digit")
    }
}

impl Display for RobotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_names_are_understood_or_refused() {
        assert_eq!("tcp/gpu.local:7447".parse(), Ok(FleetPlace::At("tcp/gpu.local:7447".into())));
        assert_eq!("listen:tcp/127.0.0.1:7447".parse(), Ok(FleetPlace::Here("tcp/127.0.0.1:7447".into())));
        assert_eq!("./tcp/fleet.json5".parse(), Ok(FleetPlace::File("./tcp/fleet.json5".into())));
        for (text, why) in [
            ("", "expected tcp/HOST:PORT"),
            ("listen:fleet.json5", "expected tcp/HOST:PORT"),
            ("tcp/gpu.local", "expected tcp/HOST:PORT"),
            ("tcp/gpu.local:0", "expected tcp/HOST:PORT"),
            ("tcp/:7447", "expected tcp/HOST:PORT"),
            ("tcp/a:1?rel=0", "expected tcp/HOST:PORT"),
            ("udp/a:1", "expected tcp/HOST:PORT"),
            ("tls/a:1", "needs certificates"),
            ("listen:tcp/0.0.0.0:7447", "is reached by other machines"),
        ] {
            let refused = text.parse::<FleetPlace>().unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
        let is_open = |text: &str| text.parse::<FleetPlace>().unwrap().is_open();
        assert!(is_open("tcp/10.0.0.7:7447") && !is_open("tcp/[::1]:7447") && !is_open("listen:tcp/localhost:1"));
        assert_eq!("kitchen-1".parse::<RobotName>().unwrap().as_str(), "kitchen-1");
        assert_eq!("a".parse::<RobotName>().unwrap().as_str(), "a");
        for bad in ["", "-", "--", "-a", "a-", "Kitchen", "a/b", "*", "a*", "$*", "ä", "a b", "a?", &"x".repeat(65)] {
            bad.parse::<RobotName>().unwrap_err();
        }
    }
}
