//! A terminal device that another program opens as a serial port.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::tcgetattr;

/// Our end of a pseudo-terminal, with a link to the other at a path of one's choice. Dropping it makes both vanish, as a
/// pulled cable does.
#[derive(Debug)]
pub(crate) struct Port {
    ours: OwnedFd,
    link: PathBuf,
    device: PathBuf,
}

/// What reading brought.
pub(crate) enum Arrived {
    Bytes(usize),
    Nothing,
    /// Nobody has the port open.
    NobodyThere,
}

impl Port {
    /// What is at `link` is replaced when it is a link to a pseudo-terminal, and refused when it is anything else.
    pub fn open(link: &Path) -> io::Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let device = PathBuf::from(std::ffi::OsStr::from_bytes(name.as_bytes()));
        fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
        match fs::symlink_metadata(link) {
            Ok(_) if fs::read_link(link).is_ok_and(|device| device.starts_with("/dev/pts")) => fs::remove_file(link)?,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something that is no link to a terminal")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        symlink(&device, link)?;
        Ok(Self { ours, link: link.to_owned(), device })
    }

    /// Bits a second that the other side has set. The pseudo-terminal itself knows no speed.
    pub fn speed(&self) -> u32 {
        tcgetattr(&self.ours).map_or(0, |settings| settings.output_speed())
    }

    pub fn read(&self, buffer: &mut [u8]) -> Arrived {
        match rustix::io::read(&self.ours, buffer) {
            Ok(0) | Err(Errno::AGAIN | Errno::INTR) => Arrived::Nothing,
            Ok(len) => Arrived::Bytes(len),
            Err(_) => Arrived::NobodyThere,
        }
    }

    /// What does not fit is lost, as in an adapter whose buffer nobody empties; how many bytes that are.
    pub fn write(&self, bytes: &[u8]) -> usize {
        bytes.len() - rustix::io::write(&self.ours, bytes).unwrap_or(0)
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.ours.as_fd()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // Another emulator may have taken the place since.
        if fs::read_link(&self.link).is_ok_and(|device| device == self.device)
            && let Err(error) = fs::remove_file(&self.link)
        {
            tracing::warn!("removing {}: {error}", self.link.display());
        }
    }
}
