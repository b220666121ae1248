//! Where a server is.

use std::fmt;
use std::str::FromStr;

use crate::RemoteError;

/// `ws://HOST[:PORT][/PATH]`, or `wss://` for one behind TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub is_secure: bool,
    /// A name or an IP address, without brackets.
    pub host: String,
    /// As URLs have it where none is said: 80, or 443.
    pub port: u16,
    /// From the first slash on.
    pub path: String,
}

impl Address {
    /// Whether `text` is meant as one.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("ws://") || text.starts_with("wss://")
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
        let path = if self.path == "/" { "" } else { &*self.path };
        write!(f, "{}://{}{path}", if self.is_secure { "wss" } else { "ws" }, self.authority())
    }
}

impl FromStr for Address {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let fault = |what| RemoteError::Address { text: text.to_owned(), what };
        let (is_secure, rest) = match text.split_once("://") {
            Some(("ws", rest)) => (false, rest),
            Some(("wss", rest)) => (true, rest),
            _ => return Err(fault("expected ws://HOST:PORT[/PATH], or wss://")),
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains(['@', '#', '\\']) {
            return Err(fault("expected ws://HOST:PORT[/PATH] of plain characters, without a user or a #"));
        }
        let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').or(port.is_empty().then_some(""))),
            None => authority.split_once(':').map_or((authority, Some("")), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            Some("") if !authority.ends_with(':') => Some(if is_secure { 443 } else { 80 }),
            Some(port) => port.parse().ok().filter(|port| *port > 0),
            None => None,
        };
        let port = port.ok_or_else(|| fault("expected a port from 1 to 65535 behind the host"))?;
        if host.is_empty() || (authority.starts_with('[') || host.contains(':')) && host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(fault("expected a host: a name, an IPv4 address, or an IPv6 address in brackets"));
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { is_secure, host: host.to_owned(), port, path: format!("{slash}{path}") })
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
            ("wss://a.example/v1/robot?x=1", "wss://a.example:443/v1/robot?x=1", "/v1/robot?x=1"),
            ("ws://[::1]:8000/", "ws://[::1]:8000", "/"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.to_string(), &*address.path), (shown.to_owned(), path), "{text}");
        }
        for text in [
            "http://a",
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
}
