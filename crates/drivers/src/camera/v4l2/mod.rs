//! Cameras on Linux by its Video for Linux 2: webcams on USB and whatever else the kernel has a driver for.
//!
//! Devices that give a picture in one piece of memory are spoken to, which all webcams are (`V4L2_CAP_VIDEO_CAPTURE`).
//!
//! A camera that does not do what it was asked for is an error that lists what it offers: a size that was changed behind
//! one's back trains a policy on other pictures than it is run with. Numbers, structures and rules are those of the kernel's
//! [documentation](https://docs.kernel.org/userspace-api/media/v4l/v4l2.html) and of `linux/videodev2.h`.
//!
//! ```no_run
//! use sinew_drivers::camera::v4l2::{Roots, cameras};
//!
//! for camera in cameras(&Roots::default())? {
//!     println!("{} {}", camera.node, camera.card);
//! }
//! # Ok::<(), sinew_drivers::camera::SourceError>(())
//! ```

mod controls;
mod device;
mod find;
mod load;
mod offers;
mod sys;

use std::fmt;
use std::io;
use std::sync::Arc;

use sinew_core::Clock;

use super::{OpenSource, PixelFormat, Source, SourceError};

pub use controls::{Controls, PowerLine, Setting};
pub use find::{Address, AddressError, FoundCamera, NodeState, Roots, UsbPlace, cameras};
pub use load::{LinkLoad, UsbLoad, UsbUser, usb_load};
pub use offers::{FourCc, Offer, OfferedSize, Rates, Steps};

/// How a camera is used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct V4l2Options {
    /// Width and height in pixels; `None` takes the size that the camera is set to.
    pub size: Option<(u32, u32)>,
    /// Pictures a second; `None` takes the rate that the camera chooses.
    pub fps: Option<f64>,
    /// `None` takes the best that has the size and the rate. From 640x480 at 30 on, cameras on USB are read as
    /// [`PixelFormat::Mjpeg`] where they can, as USB 2 carries two raw streams of 640x480 at 30 and no more; else raw colours go
    /// before JPEGs (`YUYV`, `NV12`, `RGB3`), and these before grey and depth.
    pub format: Option<PixelFormat>,
    pub controls: Controls,
}

/// A camera of this machine, found anew by its address whenever it is opened.
pub struct V4l2Camera {
    address: Address,
    options: V4l2Options,
    clock: Arc<dyn Clock>,
    roots: Roots,
    /// What it was when it was first opened.
    known: Option<Identity>,
}

/// What stays of a camera when it is plugged in again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    card: String,
    vendor: Option<u16>,
    product: Option<u16>,
    serial: Option<String>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.card)?;
        if let (Some(vendor), Some(product)) = (self.vendor, self.product) {
            write!(f, " {vendor:04x}:{product:04x}")?;
        }
        self.serial.iter().try_for_each(|serial| write!(f, " usb:{serial}"))
    }
}

impl Identity {
    fn of(found: &FoundCamera) -> Self {
        let usb = found.usb.as_ref();
        Self {
            card: found.card.clone(),
            vendor: usb.map(|usb| usb.vendor),
            product: usb.map(|usb| usb.product),
            serial: usb.and_then(|usb| usb.serial.clone()),
        }
    }
}

impl V4l2Camera {
    /// Opens nothing yet. Where the kernel does not say when a picture was taken, `clock` says when it arrived; it is to be
    /// the system's monotonic one, as the kernel's stamps are.
    pub fn new(address: Address, options: V4l2Options, clock: Arc<dyn Clock>) -> Self {
        Self::in_roots(address, options, clock, Roots::default())
    }

    /// The same on a Linux whose files lie elsewhere.
    pub fn in_roots(address: Address, options: V4l2Options, clock: Arc<dyn Clock>, roots: Roots) -> Self {
        Self { address, options, clock, roots, known: None }
    }
}

impl OpenSource for V4l2Camera {
    fn name(&self) -> String {
        self.address.to_string()
    }

    fn open(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let name = self.name();
        let meant = self.address.find(&self.roots)?;
        let identity = meant.camera.as_ref().map(Identity::of);
        if let (Some(known), Some(identity)) = (&self.known, &identity)
            && known != identity
        {
            let what = format!("another camera is there now: expected {known}, found {identity}");
            return Err(lost(&name, "opening", what));
        }
        let opening = device::Opening { name: &name, path: &meant.path, options: &self.options, roots: &self.roots };
        // The system gives a new node its group only a moment after the node is there.
        let opened = opening.open(&self.clock).map_err(|error| match error {
            SourceError::Unusable { doing, source_name, what } if self.known.is_some() && doing == device::OPENING => {
                SourceError::Lost { doing, source_name, what }
            }
            error => error,
        })?;
        self.known = self.known.take().or(identity);
        Ok(Box::new(opened))
    }
}

/// What the camera offers.
///
/// # Errors
/// As for [`OpenSource::open`]; a camera that another program uses says it all the same.
pub fn offers_of(address: &Address, roots: &Roots) -> Result<Vec<Offer>, SourceError> {
    let (name, meant) = (address.to_string(), address.find(roots)?);
    let opening = device::Opening { name: &name, path: &meant.path, options: &V4l2Options::default(), roots };
    opening.offers()
}

fn lost(name: &str, doing: &'static str, what: impl ToString) -> SourceError {
    SourceError::Lost { doing, source_name: name.to_owned(), what: what.to_string() }
}

fn unusable(name: &str, doing: &'static str, what: impl ToString) -> SourceError {
    SourceError::Unusable { doing, source_name: name.to_owned(), what: what.to_string() }
}

/// Whether a call failed since the device is gone or hangs.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EIO | libc::ENXIO | libc::EPIPE | libc::EPROTO | libc::ETIMEDOUT))
}

/// A text that a driver wrote into an array, harmless in a terminal.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().chars().filter(|c| !c.is_control()).collect()
}
