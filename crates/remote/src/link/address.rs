//! Where a server is.

use std::fmt;
use std::str::FromStr;

use crate::RemoteError;
use crate::lerobot::is_name;

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// openpi's: msgpack over a websocket.
    Openpi,
    /// A hosted endpoint's: JSON by POST.
    Endpoint,
    /// GR00T's service: msgpack over ZeroMQ.
    Groot,
    /// LeRobot's remote inference: msgpack over zenoh.
    Lerobot,
}

/// The schemes of addresses: what is spoken, whether behind TLS, and the port where none is said.
const SCHEMES: [(&str, Protocol, bool, u16); 7] = [
    ("ws", Protocol::Openpi, false, 80),
    ("wss", Protocol::Openpi, true, 443),
    ("http", Protocol::Endpoint, false, 80),
    ("https", Protocol::Endpoint, true, 443),
    ("groot", Protocol::Groot, false, 5555),
    ("zenoh", Protocol::Lerobot, false, 7447),
    ("zenoh+tls", Protocol::Lerobot, true, 7447),
];

/// `ws://HOST[:PORT][/PATH]`, `http://HOST[:PORT][/PATH]`, `groot://HOST[:PORT]` or `zenoh://HOST[:PORT]/DEPLOYMENT`; `wss://`, `https://` and
/// `zenoh+tls://` for one behind TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    scheme: usize,
    /// A name or an IP address, without brackets.
    pub host: String,
    /// As its protocol has it where none is said: 80, 443, 5555 or 7447.
    pub port: u16,
    /// From the first slash on.
    pub path: String,
}

impl Address {
    /// Whether `text` is meant as one.
    pub fn is_meant(text: &str) -> bool {
        text.split_once("://").is_some_and(|(scheme, _)| SCHEMES.iter().any(|(known, ..)| *known == scheme))
    }

    /// What is spoken there.
    pub fn protocol(&self) -> Protocol {
        SCHEMES[self.scheme].1
    }

    /// Whether it is behind TLS.
    pub fn is_secure(&self) -> bool {
        SCHEMES[self.scheme].2
    }

    /// Whether it is one that Hugging Face hosts, so that a token of the Hub is for it.
    pub fn is_of_the_hub(&self) -> bool {
        let host = self.host.to_ascii_lowercase();
        self.protocol() == Protocol::Endpoint
            && self.is_secure()
            && host.strip_suffix(".endpoints.huggingface.cloud").is_some_and(|name| !name.is_empty())
    }

    /// As a request over HTTP says it.
    pub(crate) fn host_header(&self) -> String {
        let authority = self.authority();
        let port = format!(":{}", SCHEMES[self.scheme].3);
        authority.strip_suffix(&port).map_or_else(|| authority.clone(), str::to_owned)
    }

    /// Host and port, as a request's `Host` has them.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    /// Whether only programs on this machine are behind it.
    pub fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is behind the question mark may be a secret, and addresses are shown and recorded.
        let (path, query) = self.path.split_once('?').map_or((&*self.path, ""), |(path, _)| (path, "?…"));
        let path = if path == "/" { "" } else { path };
        write!(f, "{}://{}{path}{query}", SCHEMES[self.scheme].0, self.authority())
    }
}

impl FromStr for Address {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let fault = |what| RemoteError::Address { text: text.to_owned(), what };
        let parts = text.split_once("://");
        let scheme = parts.and_then(|(scheme, _)| SCHEMES.iter().position(|(known, ..)| *known == scheme));
        let Some((scheme, (_, rest))) = scheme.zip(parts) else {
            return Err(fault(
                "expected ws://HOST:PORT[/PATH], wss://, http://, https://, groot://HOST:PORT or zenoh://HOST:PORT/DEPLOYMENT",
            ));
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains(['@', '#', '\\']) {
            return Err(fault("expected SCHEME://HOST:PORT[/PATH] of plain characters, without a user or a #"));
        }
        let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').or(port.is_empty().then_some(""))),
            None => authority.split_once(':').map_or((authority, Some("")), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            Some("") if !authority.ends_with(':') => Some(SCHEMES[scheme].3),
            Some(port) => port.parse().ok().filter(|port| *port > 0),
            None => None,
        };
        let port = port.ok_or_else(|| fault("expected a port from 1 to 65535 behind the host"))?;
        if host.is_empty() || (authority.starts_with('[') || host.contains(':')) && host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(fault("expected a host: a name, an IPv4 address, or an IPv6 address in brackets"));
        }
        if SCHEMES[scheme].1 == Protocol::Groot && !matches!(path, "" | "/") {
            return Err(fault("expected groot://HOST:PORT, without a path"));
        }
        if SCHEMES[scheme].1 == Protocol::Lerobot && !path.strip_prefix('/').is_some_and(is_name) {
            return Err(fault("expected zenoh://HOST:PORT/DEPLOYMENT, with a name of letters, digits, _, . and -"));
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { scheme, host: host.to_owned(), port, path: format!("{slash}{path}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, shown, path) in [
            ("ws://gpu:8000", "ws://gpu:8000", "/"),
            ("ws://gpu", "ws://gpu:80", "/"),
            ("wss://a.example/v1/robot?x=1", "wss://a.example:443/v1/robot?…", "/v1/robot?x=1"),
            ("ws://[::1]:8000/", "ws://[::1]:8000", "/"),
            ("https://x.endpoints.huggingface.cloud", "https://x.endpoints.huggingface.cloud:443", "/"),
            ("groot://gpu", "groot://gpu:5555", "/"),
            ("zenoh://gpu/pick-1", "zenoh://gpu:7447/pick-1", "/pick-1"),
            ("zenoh+tls://[::1]:7448/a.b_c", "zenoh+tls://[::1]:7448/a.b_c", "/a.b_c"),
            ("http://127.0.0.1:8080/predict", "http://127.0.0.1:8080/predict", "/predict"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.to_string(), &*address.path), (shown.to_owned(), path), "{text}");
        }
        for text in [
            "ftp://a",
            "groot://a/b",
            "zenoh://a",
            "zenoh://a/",
            "zenoh://a/b/c",
            "zenoh://a/-b",
            "zenoh://a/b?c",
            "https://",
            "ws://",
            "ws://a:",
            "ws://a:0",
            "ws://a:65536",
            "ws://a:b",
            "ws://:80",
            "ws://u@a",
            "ws://a b",
            "ws://[::1",
            "ws://[x]:1",
            "ws://[::1]x",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_of_the_hub_is_for_its_own_endpoints_alone() {
        let is_of_the_hub = |text: &str| text.parse::<Address>().unwrap().is_of_the_hub();
        assert!(is_of_the_hub("https://abc123.us-east-1.aws.endpoints.huggingface.cloud"));
        assert!(is_of_the_hub("https://ABC.Endpoints.HuggingFace.Cloud:8443/x"));
        for text in [
            "http://abc.endpoints.huggingface.cloud",
            "wss://abc.endpoints.huggingface.cloud",
            "https://endpoints.huggingface.cloud",
            "https://.endpoints.huggingface.cloud",
            "https://abc.endpoints.huggingface.cloud.evil.example",
            "https://abcendpoints.huggingface.cloud",
            "https://evil.example/abc.endpoints.huggingface.cloud",
            "https://evil.example?.endpoints.huggingface.cloud",
            "https://huggingface.co",
        ] {
            assert!(!is_of_the_hub(text), "{text}");
        }
    }

    #[test]
    fn the_usual_port_is_not_said_again() {
        let header = |text: &str| text.parse::<Address>().unwrap().host_header();
        assert_eq!(header("https://a:443/"), "a");
        assert_eq!(header("http://a:443/"), "a:443");
        assert_eq!(header("http://[::1]"), "[::1]");
    }
}
