//! An open serial port: bytes out, bytes in, each within a while.

use std::fmt;
use std::io;
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
    pub fn open(address: &PortAddress, baud: u32) -> io::Result<Self> {
        let name = address.path()?;
        #[cfg(unix)]
        let line = unix::open(&name)?;
        let settings = serialport::new(&name, baud).timeout(Duration::from_millis(1)).open()?;
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

    /// What has arrived, as soon as anything has; 0 bytes when nothing has come within `patience`.
    pub fn receive(&mut self, buffer: &mut [u8], patience: Duration) -> io::Result<usize> {
        #[cfg(unix)]
        return unix::receive(&self.line, buffer, patience);
        #[cfg(not(unix))]
        {
            use io::Read;
            self.settings.set_timeout(patience.max(Duration::from_millis(1)))?;
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
    use std::io::{self, Read, Write};
    use std::os::unix::fs::OpenOptionsExt;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::OFlags;
    use rustix::io::Errno;

    pub fn open(path: &str) -> io::Result<File> {
        let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed();
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
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

    pub fn receive(mut line: &File, buffer: &mut [u8], patience: Duration) -> io::Result<usize> {
        let mut has_waited = false;
        loop {
            match line.read(buffer) {
                // A terminal whose other end is gone.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => return Ok(len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if has_waited || patience.is_zero() {
                        return Ok(0);
                    }
                    has_waited = true;
                    wait(line, PollFlags::IN, patience)?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
