//! Robots and cameras that a program on another machine has: connections that threads of their own keep, and the control thread's way
//! to them, on which it never waits.

mod link;
mod newest;
pub(crate) mod zmtp;

pub(crate) use link::{Line, Link};
pub(crate) use newest::Newest;

/// Splits `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`; `None` where it is none of these.
pub(crate) fn host_and_port(text: &str, default: u16) -> Option<(String, u16)> {
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':')?)),
        None => match text.split_once(':') {
            // More than one colon: an IPv6 address without brackets.
            Some((_, rest)) if rest.contains(':') => (text, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Some(default), |port| port.parse().ok().filter(|port| *port != 0))?;
    (!host.is_empty() && !host.contains(char::is_whitespace) && !host.contains('/')).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_perhaps_a_port() {
        let of = |text| host_and_port(text, 8000);
        assert_eq!(of("reachy-mini.local"), Some(("reachy-mini.local".to_owned(), 8000)));
        assert_eq!(of("10.0.0.7:81"), Some(("10.0.0.7".to_owned(), 81)));
        assert_eq!(of("[::1]:81"), Some(("::1".to_owned(), 81)));
        assert_eq!(of("::1"), Some(("::1".to_owned(), 8000)));
        for bad in ["", ":80", "a:", "a:0", "a:99999", "a b", "ws://a", "a/b", "[::1]80"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
