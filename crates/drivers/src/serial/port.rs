//! An open serial port: bytes out, bytes in, each within a while.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use serialport::SerialPortType;

/// Where a port is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortAddress {
    /// By its path, such as `/dev/ttyACM0`. After a replug another device may have it.
    Path(String),
    /// By the serial number of its USB adapter, whatever path it has now.
    Usb { serial: String },
}

impl fmt::Display for PortAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Usb { serial } => write!(f, "the USB adapter {serial}"),
        }
    }
}

impl PortAddress {
    /// The path that it has now.
    ///
    /// # Errors
    /// When there is none, or the system doesn't say which ports there are.
    pub fn path(&self) -> io::Result<String> {
        match self {
            Self::Path(path) => Ok(path.clone()),
            Self::Usb { serial } => {
                let is_it =
                    |kind: &SerialPortType| matches!(kind, SerialPortType::UsbPort(usb) if usb.serial_number.as_ref() == Some(serial));
                let found = serialport::available_ports()?.into_iter().find(|port| is_it(&port.port_type));
                let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no USB adapter has the serial number {serial}"));
                found.map(|port| port.port_name).ok_or_else(missing)
            }
        }
    }
}

/// Why a port can't be opened, with what can be done about it where that is known.
fn explain(address: &PortAddress, error: io::Error) -> io::Error {
    let kind = error.kind();
    let path = address.path().unwrap_or_else(|_| address.to_string());
    let hint = match kind {
        io::ErrorKind::PermissionDenied => who_may_open(Path::new(&path), &std::fs::read_to_string("/etc/group").unwrap_or_default()),
        io::ErrorKind::ResourceBusy => Some(format!("another program has {path}; end that one first (`fuser -v {path}` says which)")),
        io::ErrorKind::NotFound if matches!(address, PortAddress::Path(_)) => {
            let known = serialport::available_ports().unwrap_or_default();
            let known: Vec<String> = known.into_iter().map(|port| port.port_name).collect();
            Some(if known.is_empty() {
                "there is no serial port".to_owned()
            } else {
                format!("the serial ports here are {}", known.join(", "))
            })
        }
        // That is what it says already.
        io::ErrorKind::InvalidInput | io::ErrorKind::NotFound => None,
        _ => (!is_device(Path::new(&path))).then(|| "it is no serial port".to_owned()),
    };
    match hint {
        Some(hint) => io::Error::new(kind, format!("{error}: {hint}")),
        None => error,
    }
}

/// What somebody who may not open `device` can do about it; `groups` is what `/etc/group` holds.
#[cfg(unix)]
pub fn who_may_open(device: &Path, groups: &str) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let data = std::fs::metadata(device).ok()?;
    Some(for_group(groups, data.gid(), data.mode()))
}

/// Elsewhere nobody knows.
#[cfg(not(unix))]
pub fn who_may_open(_: &Path, _: &str) -> Option<String> {
    None
}

/// Joining a group helps only where that group may read and write.
#[cfg(unix)]
fn for_group(groups: &str, id: u32, mode: u32) -> String {
    match named(groups, id).filter(|name| name != "root" && mode & 0o60 == 0o60) {
        Some(name) => format!("you may not open it: `sudo usermod -aG {name} $USER`, then log in again"),
        None => "you may not open it: it belongs to root alone; a udev rule gives it a group, such as dialout".to_owned(),
    }
}

#[cfg(unix)]
fn named(groups: &str, id: u32) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

/// The name of the group that a file belongs to, from the system's list, or its number.
#[cfg(unix)]
pub(crate) fn group_of(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let gid = std::fs::metadata(path).ok()?.gid();
    Some(named(&std::fs::read_to_string("/etc/group").unwrap_or_default(), gid).unwrap_or_else(|| gid.to_string()))
}

#[cfg(unix)]
fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|data| data.file_type().is_char_device())
}

#[cfg(not(unix))]
fn is_device(_: &Path) -> bool {
    true
}

#[cfg(not(unix))]
pub(crate) fn group_of(_: &Path) -> Option<String> {
    None
}

/// What to do about an FTDI adapter that keeps answers back for longer than a millisecond; `None` for others, and where
/// the system doesn't say.
pub fn slow_adapter(port: &str) -> Option<String> {
    slow_adapter_in(Path::new("/sys/bus/usb-serial/devices"), port)
}

fn slow_adapter_in(devices: &Path, port: &str) -> Option<String> {
    let path = std::fs::canonicalize(port).ok()?;
    let timer = devices.join(path.file_name()?).join("latency_timer");
    let ms: u32 = std::fs::read_to_string(&timer).ok()?.trim().parse().ok()?;
    let timer = timer.display();
    (ms > 1).then(|| format!("the adapter keeps answers back for {ms} ms; set it to 1 ms with `echo 1 | sudo tee {timer}`"))
}

/// How long a port that has nothing yet is left before it is looked at again.
const LOOK: Duration = Duration::from_micros(50);

/// A port that nobody else has open.
pub(crate) struct Port {
    name: String,
    /// Bytes go through a descriptor of its own: waiting for them then costs no allocation, and a watchdog can be given
    /// a copy.
    #[cfg(unix)]
    line: std::fs::File,
    /// Holds the settings and the lock.
    #[cfg_attr(unix, expect(dead_code, reason = "is there to be dropped"))]
    settings: Box<dyn serialport::SerialPort>,
}

impl Port {
    /// # Errors
    /// What the system says, with what can be done about it where that is known.
    pub fn open(address: &PortAddress, baud: u32) -> io::Result<Self> {
        Self::open_plainly(address, baud).map_err(|error| explain(address, error))
    }

    fn open_plainly(address: &PortAddress, baud: u32) -> io::Result<Self> {
        let name = address.path()?;
        #[cfg(unix)]
        let line = unix::open(&name)?;
        let settings = serialport::new(&name, baud).timeout(Duration::from_millis(1)).open().map_err(|error| match error.kind() {
            // There it is, as it was just opened: the crate says so of a port that is locked.
            serialport::ErrorKind::NoDevice if cfg!(unix) => io::Error::new(io::ErrorKind::ResourceBusy, error.to_string()),
            _ => error.into(),
        })?;
        Ok(Self {
            name,
            #[cfg(unix)]
            line,
            settings,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends all of `bytes`, within `patience` where the system's buffer is full.
    pub fn send(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        #[cfg(unix)]
        return unix::send(&self.line, bytes, patience);
        #[cfg(not(unix))]
        {
            use io::Write;
            self.settings.set_timeout(patience.max(Duration::from_millis(1)))?;
            self.settings.write_all(bytes)
        }
    }

    /// What has arrived. Where nothing has, it waits for [`LOOK`], or for `patience` where that is shorter, and looks once
    /// more: 0 bytes say that nothing has come until then.
    pub fn receive(&mut self, buffer: &mut [u8], patience: Duration) -> io::Result<usize> {
        #[cfg(unix)]
        return unix::receive(&self.line, buffer, patience);
        #[cfg(not(unix))]
        {
            use io::Read;
            self.settings.set_timeout(patience.clamp(LOOK, Duration::from_millis(1)))?;
            match self.settings.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(0),
                result => result,
            }
        }
    }

    /// A copy of the port's descriptor, for who outlives this process.
    #[cfg(unix)]
    pub fn descriptor(&self) -> io::Result<std::os::fd::OwnedFd> {
        Ok(self.line.try_clone()?.into())
    }
}

#[cfg(unix)]
mod unix {
    use std::fs::{File, OpenOptions};
    use std::io::{self, IsTerminal, Read, Write};
    use std::os::unix::fs::OpenOptionsExt;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::OFlags;
    use rustix::io::{Errno, ioctl_fionread};

    use super::LOOK;

    pub fn open(path: &str) -> io::Result<File> {
        let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed();
        let line = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        // Files, pipes and devices such as /dev/null open as well.
        if line.is_terminal() { Ok(line) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no serial port")) }
    }

    /// Until the port is ready for one of `flags`, or something is wrong with it, or `patience` is over.
    fn wait(line: &File, flags: PollFlags, patience: Duration) -> io::Result<()> {
        let secs = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX);
        let timeout = Timespec { tv_sec: secs, tv_nsec: patience.subsec_nanos().into() };
        match poll(&mut [PollFd::new(line, flags)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    pub fn send(mut line: &File, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
        let mut has_waited = false;
        while !bytes.is_empty() {
            match line.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if has_waited {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    has_waited = true;
                    wait(line, PollFlags::OUT, patience)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Linux hands arrived bytes to a terminal's reader by a kernel thread of ordinary priority. `poll` and `read` wait for
    /// that thread while it has anything to do, whatever time-out they are given and however urgent the caller is: on a busy
    /// machine for more than 100 ms. How many bytes are there can be asked without.
    fn arrived(line: &File) -> bool {
        // Where something is wrong with it, reading says so.
        ioctl_fionread(line).map_or(true, |count| count > 0)
    }

    pub fn receive(mut line: &File, buffer: &mut [u8], patience: Duration) -> io::Result<usize> {
        if !arrived(line) {
            if patience.is_zero() {
                return Ok(0);
            }
            std::thread::sleep(patience.min(LOOK));
            if !arrived(line) {
                return Ok(0);
            }
        }
        loop {
            match line.read(buffer) {
                // A terminal whose other end is gone.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => return Ok(len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_port_from_being_opened_comes_with_what_helps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("port");
        std::fs::write(&path, "").unwrap();
        let address = PortAddress::Path(path.to_str().unwrap().to_owned());
        assert!(!group_of(&path).unwrap().is_empty());
        let error = explain(&address, io::ErrorKind::PermissionDenied.into());
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("you may not open it"), "{error}");
        let error = explain(&address, io::ErrorKind::ResourceBusy.into());
        assert!(error.to_string().contains("another program has"), "{error}");
        let error = explain(&address, io::ErrorKind::NotFound.into());
        assert!(error.to_string().contains("serial port"), "{error}");
    }

    #[test]
    fn what_is_no_terminal_is_no_serial_port() {
        let folder = tempfile::tempdir().unwrap();
        let (file, pipe, dir) = (folder.path().join("file"), folder.path().join("pipe"), folder.path().join("dir"));
        std::fs::write(&file, "").unwrap();
        std::fs::create_dir(&dir).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let given = [&file, &pipe, &dir].map(|path| path.to_str().unwrap()).into_iter().chain(["/dev/null", "/dev/zero"]);
        for path in given {
            let error = Port::open(&PortAddress::Path(path.to_owned()), 1_000_000).err().unwrap().to_string();
            assert!(error.ends_with("it is no serial port") && !error.contains("typewriter"), "{path}: {error}");
        }
    }

    #[test]
    fn who_may_not_open_a_port_is_told_its_group_where_that_one_may() {
        let groups = "root:x:0:\ndialout:x:20:somebody\nuucp:x:986:\n";
        assert_eq!(for_group(groups, 20, 0o20660), "you may not open it: `sudo usermod -aG dialout $USER`, then log in again");
        assert!(for_group(groups, 986, 0o20660).contains("-aG uucp $USER"));
        for (group, mode) in [(0, 0o20660), (0, 0o20600), (7, 0o20660), (20, 0o20600), (20, 0o20640), (20, 0o20644)] {
            let found = for_group(groups, group, mode);
            assert!(found.contains("it belongs to root alone; a udev rule gives it a group, such as dialout"), "{group} {mode:o}: {found}");
        }
    }

    #[test]
    fn an_adapter_that_keeps_answers_back_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let (port, device) = (folder.path().join("ttyUSB7"), folder.path().join("devices/ttyUSB7"));
        std::fs::write(&port, "").unwrap();
        std::fs::create_dir_all(&device).unwrap();
        let advice = |ms: &str| {
            std::fs::write(device.join("latency_timer"), ms).unwrap();
            slow_adapter_in(&folder.path().join("devices"), port.to_str().unwrap())
        };
        assert!(advice("16\n").unwrap().contains("for 16 ms; set it to 1 ms with `echo 1 | sudo tee"));
        assert_eq!(advice("1\n"), None);
        assert_eq!(slow_adapter(port.to_str().unwrap()), None);
    }
}
