//! Daemons on the same network, found by mDNS as `_sinew._tcp`. What is announced is what a daemon tells anybody who reaches it: a name,
//! the robot's, a version and where it listens. Never a token.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mdns_sd::{DaemonEvent, IfKind, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use serde::Serialize;

use crate::RemoteError;
use crate::time::Deadline;

/// What daemons are found as.
const SERVICE: &str = "_sinew._tcp.local.";
/// How long the network is told that a daemon has gone.
const GOODBYE: Duration = Duration::from_millis(500);
/// More daemons than this are not listed.
const MOST: usize = 500;

/// What a daemon announces.
#[derive(Clone, Debug)]
pub struct Announced {
    /// What it is found as. Another daemon of that name makes it `NAME (2)`.
    pub name: String,
    /// This machine's name, without `.local`.
    pub host: String,
    /// The robot's, such as `so101`.
    pub robot: String,
    /// Of the program.
    pub version: String,
    pub is_https: bool,
    /// Where it listens: of an address that is none in particular, all of this machine are announced, as they come and go.
    pub listens: SocketAddr,
}

/// Announces a daemon until it is dropped.
pub struct Beacon {
    mdns: ServiceDaemon,
    full_name: String,
}

impl Beacon {
    /// Begins to announce. What becomes of the name is told to `tell`.
    ///
    /// # Errors
    /// When the system has no socket for it.
    pub fn start(announced: &Announced, tell: impl Fn(&str) + Send + 'static) -> Result<Self, RemoteError> {
        let failed = |error: mdns_sd::Error| RemoteError::Nearby { doing: "announcing the daemon", what: error.to_string() };
        let service = service(announced).map_err(failed)?;
        let full_name = service.get_fullname().to_owned();
        let mdns = ServiceDaemon::new().map_err(failed)?;
        let (chosen, left_out) = interfaces(announced.listens.ip());
        left_out.into_iter().try_for_each(|kind| mdns.disable_interface(kind)).map_err(failed)?;
        chosen.into_iter().try_for_each(|kind| mdns.enable_interface(kind)).map_err(failed)?;
        let events = mdns.monitor().map_err(failed)?;
        mdns.register(service).map_err(failed)?;
        let listening = std::thread::Builder::new().name("mdns-events".into()).spawn(move || {
            // Each of the addresses of a machine tells the same.
            let mut told = BTreeSet::new();
            // It ends with the thread of the library.
            while let Ok(event) = events.recv() {
                match event {
                    DaemonEvent::NameChange(change) => {
                        let names = (instance(&change.original), instance(&change.new_name));
                        renamed(&mut told, names).iter().for_each(|line| tell(line));
                    }
                    DaemonEvent::Error(error) => tracing::warn!(%error, "mDNS"),
                    _ => {}
                }
            }
        });
        listening.map_err(|source| RemoteError::Thread { who: "mDNS", source })?;
        Ok(Self { mdns, full_name })
    }
}

impl Drop for Beacon {
    fn drop(&mut self) {
        if let Ok(gone) = self.mdns.unregister(&self.full_name) {
            drop(gone.recv_timeout(GOODBYE));
        }
        if let Ok(over) = self.mdns.shutdown() {
            drop(over.recv_timeout(GOODBYE));
        }
    }
}

fn service(announced: &Announced) -> mdns_sd::Result<ServiceInfo> {
    let Announced { name, host, robot, version, is_https, listens } = announced;
    let scheme = if *is_https { "https" } else { "http" };
    let told = [("robot", robot.as_str()), ("version", version), ("path", "/"), ("scheme", scheme)];
    let host = format!("{host}.local.");
    if listens.ip().is_unspecified() {
        return ServiceInfo::new(SERVICE, name, &host, "", listens.port(), &told[..]).map(ServiceInfo::enable_addr_auto);
    }
    ServiceInfo::new(SERVICE, name, &host, listens.ip(), listens.port(), &told[..])
}

/// Which interfaces are used, and which of all are left out before: nobody else reaches this machine's own, and where a daemon listens at
/// one address, it is not to be found at another.
fn interfaces(listens: IpAddr) -> (Vec<IfKind>, Vec<IfKind>) {
    let own = vec![IfKind::LoopbackV4, IfKind::LoopbackV6];
    match listens {
        IpAddr::V4(any) if any.is_unspecified() => (Vec::new(), [own, vec![IfKind::IPv6]].concat()),
        any if any.is_unspecified() => (Vec::new(), own),
        one => (vec![IfKind::Addr(one)], vec![IfKind::All]),
    }
}

/// What is to be said of a daemon that is found by another name than its own, the first time.
fn renamed(told: &mut BTreeSet<(String, String)>, (was, new): (String, String)) -> Option<String> {
    let line = format!("mDNS: {was} is taken on this network; this one is found as {new}");
    told.insert((was, new)).then_some(line)
}

/// `kitchen` of `kitchen._sinew._tcp.local.`; of a host's name the whole.
fn instance(full_name: &str) -> String {
    full_name.strip_suffix(&format!(".{SERVICE}")).unwrap_or(full_name.trim_end_matches('.')).replace('\\', "")
}

/// A daemon on the same network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nearby {
    pub name: String,
    /// The robot's name, such as `so101`; empty where it does not say.
    pub robot: String,
    /// Of its program.
    pub version: String,
    /// Its machine, such as `kitchen-pi.local`.
    pub host: String,
    /// By its addresses, the one that is likeliest to work first.
    pub urls: Vec<String>,
}

/// Looks for daemons for so long, and says which are there, by name.
///
/// # Errors
/// When the system has no socket for it.
pub fn nearby(within: Duration) -> Result<Vec<Nearby>, RemoteError> {
    let failed = |error: mdns_sd::Error| RemoteError::Nearby { doing: "looking for daemons", what: error.to_string() };
    let mdns = ServiceDaemon::new().map_err(failed)?;
    let events = mdns.browse(SERVICE).map_err(failed)?;
    let until = Deadline::after(within);
    let mut found = BTreeMap::new();
    while let Ok(event) = events.recv_timeout(until.left()) {
        match event {
            ServiceEvent::ServiceResolved(service) if found.len() < MOST || found.contains_key(&service.fullname) => {
                found.insert(service.fullname.clone(), read(&service));
            }
            ServiceEvent::ServiceRemoved(_, full_name) => {
                found.remove(&full_name);
            }
            _ => {}
        }
    }
    if let Ok(over) = mdns.shutdown() {
        drop(over.recv_timeout(GOODBYE));
    }
    Ok(found.into_values().collect())
}

fn read(service: &ResolvedService) -> Nearby {
    let told = |key: &str| service.get_property_val_str(key).unwrap_or_default().to_owned();
    let scheme = if told("scheme") == "https" { "https" } else { "http" };
    let path = told("path");
    let path = if path.starts_with('/') { path } else { format!("/{path}") };
    let mut addresses: Vec<IpAddr> = service.addresses.iter().map(mdns_sd::ScopedIp::to_ip_addr).collect();
    addresses.sort_by_key(|address| (rank(address), *address));
    Nearby {
        name: instance(&service.fullname),
        robot: told("robot"),
        version: told("version"),
        host: service.host.trim_end_matches('.').to_owned(),
        urls: addresses.iter().map(|address| format!("{scheme}://{}{path}", SocketAddr::new(*address, service.port))).collect(),
    }
}

/// Browsers take no address that says on which interface it is meant.
fn rank(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) if !v4.is_link_local() => 0,
        IpAddr::V6(v6) if !v6.is_unicast_link_local() => 1,
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(listens: &str) -> Announced {
        Announced {
            name: "kitchen".into(),
            host: "kitchen-pi".into(),
            robot: "so101".into(),
            version: "1.2.3".into(),
            is_https: false,
            listens: listens.parse().unwrap(),
        }
    }

    #[test]
    fn what_is_announced_is_read_again() {
        let service = service(&announced("10.0.0.7:8450")).unwrap().as_resolved_service();
        let found = read(&service);
        assert_eq!((found.name.as_str(), found.robot.as_str(), found.version.as_str()), ("kitchen", "so101", "1.2.3"));
        assert_eq!((found.host.as_str(), found.urls), ("kitchen-pi.local", vec!["http://10.0.0.7:8450/".to_owned()]));
        let keys: Vec<&str> = service.get_properties().iter().map(mdns_sd::TxtProperty::key).collect();
        assert_eq!(keys, ["robot", "version", "path", "scheme"], "and nothing else");
        let secure = super::service(&Announced { is_https: true, ..announced("10.0.0.7:8450") }).unwrap().as_resolved_service();
        assert_eq!(read(&secure).urls, ["https://10.0.0.7:8450/"]);
    }

    #[test]
    fn a_name_that_is_taken_is_told_once_though_each_address_tells_it() {
        let mut told = BTreeSet::new();
        let mut lines = |new: &str| renamed(&mut told, ("kitchen".into(), new.into()));
        assert!(lines("kitchen (2)").is_some_and(|line| line.contains("kitchen is taken") && line.ends_with("kitchen (2)")));
        assert_eq!([lines("kitchen (2)"), lines("kitchen (2)")], [None, None]);
        assert!(lines("kitchen (3)").is_some());
    }

    #[test]
    fn addresses_that_browsers_take_come_first() {
        let mut all: Vec<IpAddr> = ["fe80::1", "169.254.0.9", "fd00::2", "192.0.2.2"].map(|text| text.parse().unwrap()).to_vec();
        all.sort_by_key(|address| (rank(address), *address));
        assert_eq!(all.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.2", "fd00::2", "169.254.0.9", "fe80::1"]);
    }

    #[test]
    fn who_listens_at_one_address_is_found_at_that_one_alone() {
        assert!(service(&announced("0.0.0.0:8450")).unwrap().is_addr_auto());
        assert!(service(&announced("[::]:8450")).unwrap().is_addr_auto());
        assert!(!service(&announced("10.0.0.7:8450")).unwrap().is_addr_auto());
        assert_eq!(interfaces("0.0.0.0".parse().unwrap()).1.len(), 3, "no IPv6 where none is listened to");
        assert_eq!(interfaces("10.0.0.7".parse().unwrap()).0.len(), 1);
        assert_eq!(instance("a\\.b (2)._sinew._tcp.local."), "a.b (2)");
    }
}
