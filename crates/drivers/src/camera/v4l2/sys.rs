//! The kernel's interface to cameras, Video for Linux 2: structures and numbers of `linux/videodev2.h` as they are on
//! 64-bit machines, and a device that is called through libc, so that a library which is loaded before it can play one.
//!
//! What is unsafe about devices stays in here: memory is mapped and read in [`Queue`] alone, while no buffer of it is the
//! driver's.

#![allow(unsafe_code, reason = "the standard library has neither ioctl nor mmap nor poll")]

use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::time::Duration;

/// `V4L2_BUF_TYPE_VIDEO_CAPTURE`
pub(super) const CAPTURE: u32 = 1;
/// `V4L2_MEMORY_MMAP`
const MAPPED: u32 = 1;
/// `V4L2_FIELD_NONE`: whole pictures.
pub(super) const FIELD_NONE: u32 = 1;
/// `V4L2_CAP_VIDEO_CAPTURE`, `V4L2_CAP_STREAMING`, `V4L2_CAP_DEVICE_CAPS`
pub(super) const CAN_CAPTURE: u32 = 1;
pub(super) const CAN_STREAM: u32 = 0x0400_0000;
pub(super) const HAS_DEVICE_CAPABILITIES: u32 = 0x8000_0000;
/// `V4L2_CAP_TIMEPERFRAME`
pub(super) const HAS_RATE: u32 = 0x1000;
/// `V4L2_FRMSIZE_TYPE_DISCRETE` and `V4L2_FRMIVAL_TYPE_DISCRETE`
pub(super) const DISCRETE: u32 = 1;
/// `V4L2_BUF_FLAG_ERROR`
const BUFFER_ERROR: u32 = 0x40;
/// `V4L2_BUF_FLAG_TIMESTAMP_MASK`, `V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC`
const STAMP_KIND: u32 = 0xe000;
const STAMP_MONOTONIC: u32 = 0x2000;
/// `V4L2_CTRL_FLAG_DISABLED`, `V4L2_CTRL_FLAG_NEXT_CTRL`
pub(super) const CONTROL_DISABLED: u32 = 1;
pub(super) const NEXT_CONTROL: u32 = 0x8000_0000;

/// `v4l2_capability`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Capability {
    pub driver: [u8; 16],
    pub card: [u8; 32],
    pub bus: [u8; 32],
    pub version: u32,
    pub capabilities: u32,
    pub device_capabilities: u32,
    pub reserved: [u32; 3],
}

/// `v4l2_fmtdesc`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct FormatOffer {
    pub index: u32,
    pub kind: u32,
    pub flags: u32,
    pub description: [u8; 32],
    pub four_cc: u32,
    pub bus_code: u32,
    pub reserved: [u32; 3],
}

/// `v4l2_frmsizeenum`: a discrete one has width and height first, a stepwise one all.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct SizeOffer {
    pub index: u32,
    pub four_cc: u32,
    pub kind: u32,
    pub numbers: [u32; 6],
    pub reserved: [u32; 2],
}

/// `v4l2_fract`
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fraction {
    pub over: u32,
    pub under: u32,
}

/// `v4l2_frmivalenum`: a discrete one has the first interval, a stepwise one the least, the most, and the step.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct IntervalOffer {
    pub index: u32,
    pub four_cc: u32,
    pub width: u32,
    pub height: u32,
    pub kind: u32,
    pub intervals: [Fraction; 3],
    pub reserved: [u32; 2],
}

/// `v4l2_format` with its `v4l2_pix_format`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Format {
    pub kind: u32,
    /// The union that follows holds pointers.
    pub gap: u32,
    pub width: u32,
    pub height: u32,
    pub four_cc: u32,
    pub field: u32,
    pub bytes_per_line: u32,
    pub image_bytes: u32,
    pub rest: [u32; 44],
}

/// `v4l2_streamparm` with its `v4l2_captureparm`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Parameters {
    pub kind: u32,
    pub capability: u32,
    pub mode: u32,
    pub interval: Fraction,
    pub rest: [u32; 46],
}

/// `v4l2_control`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Control {
    pub id: u32,
    pub value: i32,
}

/// `v4l2_queryctrl`
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ControlOffer {
    pub id: u32,
    pub kind: u32,
    pub name: [u8; 32],
    pub minimum: i32,
    pub maximum: i32,
    pub step: i32,
    pub default: i32,
    pub flags: u32,
    pub reserved: [u32; 2],
}

/// `v4l2_requestbuffers`
#[repr(C)]
#[derive(Clone, Copy)]
struct BufferRequest {
    count: u32,
    kind: u32,
    memory: u32,
    capabilities: u32,
    flags: u32,
}

/// `v4l2_buffer`. Of its memory there is only an offset, as no pointer may reach the kernel from outside.
#[repr(C)]
#[derive(Clone, Copy)]
struct Buffer {
    index: u32,
    kind: u32,
    used: u32,
    flags: u32,
    field: u32,
    pub gap: u32,
    seconds: i64,
    microseconds: i64,
    time_code: [u32; 4],
    sequence: u32,
    memory: u32,
    offset: u64,
    length: u32,
    pub reserved: [u32; 2],
    pub gap_behind: u32,
}

/// A call that takes a `T`: its direction, number and size, in the kernel's `_IOWR`.
pub(super) struct Request<T>(u32, PhantomData<T>);

/// Sizes are those of the header on 64-bit machines; the kernel refuses a number with another size.
const fn request<T>(direction: u32, number: u32, bytes: usize) -> Request<T> {
    assert!(size_of::<T>() == bytes, "a structure is not as the kernel has it");
    Request(direction << 30 | (bytes as u32) << 16 | 0x56 << 8 | number, PhantomData)
}

const WRITE: u32 = 1;
const READ: u32 = 2;
pub(super) const QUERYCAP: Request<Capability> = request(READ, 0, 104);
pub(super) const ENUM_FMT: Request<FormatOffer> = request(READ | WRITE, 2, 64);
pub(super) const G_FMT: Request<Format> = request(READ | WRITE, 4, 208);
pub(super) const S_FMT: Request<Format> = request(READ | WRITE, 5, 208);
const REQBUFS: Request<BufferRequest> = request(READ | WRITE, 8, 20);
const QUERYBUF: Request<Buffer> = request(READ | WRITE, 9, 88);
const QBUF: Request<Buffer> = request(READ | WRITE, 15, 88);
const DQBUF: Request<Buffer> = request(READ | WRITE, 17, 88);
const STREAMON: Request<u32> = request(WRITE, 18, 4);
const STREAMOFF: Request<u32> = request(WRITE, 19, 4);
pub(super) const G_PARM: Request<Parameters> = request(READ | WRITE, 21, 204);
pub(super) const S_PARM: Request<Parameters> = request(READ | WRITE, 22, 204);
pub(super) const G_CTRL: Request<Control> = request(READ | WRITE, 27, 8);
pub(super) const S_CTRL: Request<Control> = request(READ | WRITE, 28, 8);
pub(super) const QUERYCTRL: Request<ControlOffer> = request(READ | WRITE, 36, 68);
pub(super) const ENUM_FRAMESIZES: Request<SizeOffer> = request(READ | WRITE, 74, 44);
pub(super) const ENUM_FRAMEINTERVALS: Request<IntervalOffer> = request(READ | WRITE, 75, 52);

/// A structure that is numbers throughout, so that zeros are one of it and the kernel may write any into it.
pub(super) trait Numbers: Copy {
    fn zeros() -> Self {
        // SAFETY: all fields are integers or arrays of them, whose zeros are values; this file alone says which types are so.
        unsafe { std::mem::zeroed() }
    }
}

impl Numbers for Capability {}
impl Numbers for FormatOffer {}
impl Numbers for SizeOffer {}
impl Numbers for IntervalOffer {}
impl Numbers for Format {}
impl Numbers for Parameters {}
impl Numbers for Control {}
impl Numbers for ControlOffer {}
impl Numbers for BufferRequest {}
impl Numbers for Buffer {}
impl Numbers for u32 {}

/// A device that is open. Calls never block: pictures are waited for with [`Device::wait`].
#[derive(Debug)]
pub(super) struct Device(OwnedFd);

impl Device {
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: `path` ends with a zero and lives during the call.
        let descriptor = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was opened just now and is nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    pub fn call<T: Numbers>(&self, request: &Request<T>, argument: &mut T) -> io::Result<()> {
        loop {
            // SAFETY: the request's number says that the kernel reads and writes as many bytes as a `T` has, which is numbers
            // throughout; pointers for the kernel to follow are in none of them.
            let result = unsafe { libc::ioctl(self.0.as_raw_fd(), request.0 as _, std::ptr::from_mut(argument)) };
            if result >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Whether another program streams from it: asking for no buffers changes nothing, and only one may ask.
    pub fn is_taken(&self) -> bool {
        let mut none = BufferRequest { kind: CAPTURE, memory: MAPPED, ..BufferRequest::zeros() };
        self.call(&REQBUFS, &mut none).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
    }
}

/// Memory that a driver fills with pictures.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it is memory of the process, which any thread may read; it is behind a `&mut` of its queue.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(descriptor: RawFd, buffer: &Buffer) -> io::Result<Self> {
        let (bytes, offset) = (buffer.length as usize, buffer.offset as u32);
        // Of the kernel's union only the lower half is an offset.
        // SAFETY: a new map at an address of the kernel's choice touches no memory that is in use.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_SHARED, descriptor, libc::off_t::from(offset)) };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { start, bytes }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this start and size, and nothing borrows it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// What a driver says of a buffer that it has filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filled {
    /// The driver says that the picture may be damaged.
    pub is_damaged: bool,
    /// Nanoseconds of the monotonic clock, where the driver stamps with that one.
    pub monotonic_ns: Option<i64>,
    pub sequence: u32,
}

/// A device that streams into mapped buffers.
pub(super) struct Queue {
    // Unmapped before the device is closed: fields are dropped in their order.
    mappings: Vec<Mapping>,
    device: Device,
}

impl Queue {
    /// Maps about `count` buffers, gives them all to the driver, and has it stream. The error names the step that failed.
    pub fn start(device: Device, count: u32) -> Result<Self, (&'static str, io::Error)> {
        let mut asked = BufferRequest { count, kind: CAPTURE, memory: MAPPED, ..BufferRequest::zeros() };
        device.call(&REQBUFS, &mut asked).map_err(|error| ("asking for buffers of", error))?;
        let mut queue = Self { mappings: Vec::new(), device };
        for index in 0..asked.count {
            let mut buffer = buffer(index);
            queue.device.call(&QUERYBUF, &mut buffer).map_err(|error| ("asking for a buffer of", error))?;
            let mapping = Mapping::new(queue.device.0.as_raw_fd(), &buffer).map_err(|error| ("mapping a buffer of", error))?;
            queue.mappings.push(mapping);
            queue.give_back(index).map_err(|error| ("queueing a buffer of", error))?;
        }
        queue.device.call(&STREAMON, &mut { CAPTURE }).map_err(|error| ("starting to stream from", error))?;
        Ok(queue)
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Waits until there may be a picture or an error; `false` when there was none in `time`.
    pub fn wait(&self, time: Duration) -> io::Result<bool> {
        // Rounded up, so that a wait of less than a millisecond is one.
        let milliseconds = i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
        let mut wanted = libc::pollfd { fd: self.device.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: it is one structure that lives during the call.
        match unsafe { libc::poll(&raw mut wanted, 1, milliseconds) } {
            0 => Ok(false),
            1.. if wanted.revents & libc::POLLIN == 0 => Err(io::Error::other("the driver reports an error: it was unplugged, or reset")),
            1.. => Ok(true),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Hands the oldest filled buffer to `take`, and then back to the driver; `false` when there is none.
    pub fn take(&mut self, take: &mut dyn FnMut(&Filled, &[u8])) -> io::Result<bool> {
        let mut buffer = buffer(0);
        match self.device.call(&DQBUF, &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            result => result?,
        }
        let Some(mapping) = self.mappings.get(buffer.index as usize) else {
            return Err(io::Error::other(format!("the driver filled buffer {} of {}", buffer.index, self.mappings.len())));
        };
        let filled = Filled {
            is_damaged: buffer.flags & BUFFER_ERROR != 0,
            monotonic_ns: (buffer.flags & STAMP_KIND == STAMP_MONOTONIC)
                .then(|| buffer.seconds.saturating_mul(1_000_000_000).saturating_add(buffer.microseconds.saturating_mul(1000))),
            sequence: buffer.sequence,
        };
        let used = mapping.bytes.min(buffer.used as usize);
        // SAFETY: the mapping has these bytes, and the driver leaves a buffer alone that it has handed out until it is given
        // back, which is below, when the slice is gone: `take` can't keep it.
        take(&filled, unsafe { std::slice::from_raw_parts(mapping.start.as_ptr(), used) });
        self.give_back(buffer.index)?;
        Ok(true)
    }

    fn give_back(&self, index: u32) -> io::Result<()> {
        self.device.call(&QBUF, &mut buffer(index))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // One that is gone can't be stopped.
        let _ = self.device.call(&STREAMOFF, &mut { CAPTURE });
    }
}

fn buffer(index: u32) -> Buffer {
    Buffer { index, kind: CAPTURE, memory: MAPPED, ..Buffer::zeros() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_headers_numbers() {
        let numbers = [QUERYCAP.0, ENUM_FMT.0, S_FMT.0, REQBUFS.0, DQBUF.0, STREAMON.0, S_PARM.0, QUERYCTRL.0, ENUM_FRAMEINTERVALS.0];
        let header: [u32; 9] =
            [0x8068_5600, 0xc040_5602, 0xc0d0_5605, 0xc014_5608, 0xc058_5611, 0x4004_5612, 0xc0cc_5616, 0xc044_5624, 0xc034_564b];
        assert_eq!(numbers, header);
    }

    #[test]
    fn fields_stand_where_the_header_has_them() {
        let places = [
            std::mem::offset_of!(Format, width),
            std::mem::offset_of!(Format, image_bytes),
            std::mem::offset_of!(Parameters, interval),
            std::mem::offset_of!(Buffer, seconds),
            std::mem::offset_of!(Buffer, sequence),
            std::mem::offset_of!(Buffer, offset),
            std::mem::offset_of!(Buffer, length),
            std::mem::offset_of!(SizeOffer, numbers),
            std::mem::offset_of!(IntervalOffer, intervals),
            std::mem::offset_of!(ControlOffer, flags),
        ];
        assert_eq!(places, [8, 28, 12, 24, 56, 64, 72, 12, 20, 56]);
    }

    #[test]
    fn what_is_no_device_refuses_calls() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let device = Device::open(file.path()).unwrap();
        let error = device.call(&QUERYCAP, &mut Capability::zeros()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
        assert!(!device.is_taken());
        assert!(Device::open(Path::new("/dev/\0")).is_err());
    }
}
