//! What systemd is told: that the daemon is ready, and that its robot is looked after.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use super::Owned;

/// The way to systemd, where it started this process.
pub struct Notify {
    socket: UnixDatagram,
    /// How often it is told that all is well, where it wants to know.
    every: Option<Duration>,
}

impl Notify {
    /// As the environment says; `None` where nobody waits to be told.
    pub fn from_env() -> Option<Self> {
        let place = std::env::var("NOTIFY_SOCKET").ok().filter(|place| !place.is_empty())?;
        let every = std::env::var("WATCHDOG_USEC").ok().and_then(|us| us.parse().ok()).map(|us: u64| Duration::from_micros(us / 3));
        let is_for_us =
            std::env::var("WATCHDOG_PID").ok().and_then(|pid| pid.parse().ok()).is_none_or(|pid: u32| pid == std::process::id());
        let socket = connect(&place).inspect_err(|error| tracing::warn!(%error, "reaching systemd at NOTIFY_SOCKET")).ok()?;
        Some(Self { socket, every: every.filter(|_| is_for_us) })
    }

    pub fn say(&self, words: &str) {
        // systemd, which is not there, misses nothing.
        drop(self.socket.send(words.as_bytes()));
    }

    /// Tells that all is well as long as `owned` looks after its robot: where torque is on, that is what the control loop's
    /// ticks say, and nothing else.
    pub fn watch(self: Arc<Self>, owned: Arc<Owned>) {
        let Some(every) = self.every else { return };
        let feed = move || {
            let mut last = None;
            loop {
                let now = owned.heartbeat();
                if now.is_none() || now != last {
                    self.say("WATCHDOG=1");
                }
                last = now;
                std::thread::sleep(every);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("systemd".into()).spawn(feed) {
            tracing::warn!(%error, "starting the thread that feeds systemd's watchdog");
        }
    }
}

/// A name that begins with `@` is in no folder.
fn connect(place: &str) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match place.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt as _;
            socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        }
        _ => socket.connect(place)?,
    }
    Ok(socket)
}
