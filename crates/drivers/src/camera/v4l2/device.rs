//! A camera is opened as it was asked for, or not at all, and read a picture at a time.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Clock, Timestamp};

use super::find::{capabilities, holder};
use super::offers::{self, FourCc, Offer, in_words, interval, is_same_rate, rate};
use super::sys::{
    CAN_CAPTURE, CAN_STREAM, CAPTURE, Capability, Device, FIELD_NONE, Filled, Format, G_FMT, G_PARM, HAS_RATE, Numbers, Parameters,
    QUERYCAP, Queue, S_FMT, S_PARM,
};
use super::{Roots, V4l2Options, controls, is_gone, lost, text, unusable};
use crate::camera::{Picture, PixelFormat, Source, SourceError, Stream};
use crate::serial::group_of;

pub(super) const OPENING: &str = "opening";
/// Pictures that the driver can have ready while nobody asks. Each can be older than the newest by one more interval, as the
/// oldest is handed out first; fewer are too few for a thread that is late.
const BUFFERS: u32 = 4;
/// From this on raw pictures of a camera fill half of what a USB 2 link carries: 640x480 at 30 a second.
const MANY_PIXELS_PER_S: f64 = 640.0 * 480.0 * 30.0;
/// A picture that the kernel says is older than this when it arrives was stamped by another clock.
const OLDEST: Duration = Duration::from_secs(10);

/// A camera that is to be opened.
pub(super) struct Opening<'a> {
    pub name: &'a str,
    pub path: &'a Path,
    pub options: &'a V4l2Options,
    pub roots: &'a Roots,
}

/// A format that the camera offers and that is to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choice {
    four_cc: FourCc,
    format: PixelFormat,
    size: (u32, u32),
}

impl Opening<'_> {
    /// Sets the camera up and has it stream.
    pub fn open(&self, clock: &Arc<dyn Clock>) -> Result<Camera, SourceError> {
        let (device, capability) = self.device()?;
        let offers = offers::of_device(&device).map_err(|error| self.error("asking for the formats of", &error))?;
        let choice = self.choose(&device, &capability, &offers)?;
        let set = self.set_format(&device, choice, &offers)?;
        let fps = self.set_rate(&device, choice, &offers)?;
        let controls = controls::apply(&device, &self.options.controls).map_err(|error| self.error("setting the controls of", &error))?;
        let row = row_bytes(choice.format, choice.size.0);
        let stride = if row == 0 { 0 } else { row.max(set.bytes_per_line as usize) };
        let queue = Queue::start(device, BUFFERS).map_err(|(doing, error)| self.error(doing, &error))?;
        controls::check(queue.device(), &controls).map_err(|error| self.error("reading the controls of", &error))?;
        let (width, height) = choice.size;
        let reader = Reader {
            name: self.name.to_owned(),
            stream: Stream { width, height, format: choice.format, fps },
            stride,
            least_bytes: least_bytes(choice.format, stride, row, height),
            clock: clock.clone(),
            counter: Counter::default(),
            is_warned: false,
        };
        Ok(Camera { queue, reader })
    }

    pub fn offers(&self) -> Result<Vec<Offer>, SourceError> {
        let (device, _) = self.device()?;
        offers::of_device(&device).map_err(|error| self.error("asking for the formats of", &error))
    }

    fn device(&self) -> Result<(Device, Capability), SourceError> {
        let device = Device::open(self.path).map_err(|error| self.error(OPENING, &error))?;
        let mut capability = Capability::zeros();
        device.call(&QUERYCAP, &mut capability).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOTTY | libc::EINVAL) => unusable(self.name, OPENING, format!("{} is no camera", self.path.display())),
            _ => self.error(OPENING, &error),
        })?;
        let can = capabilities(&capability);
        if can & CAN_CAPTURE == 0 || can & CAN_STREAM == 0 {
            let card = text(&capability.card);
            let what = format!("expected a node that streams pictures, found one of {card} with the capabilities {can:#010x}");
            return Err(unusable(self.name, OPENING, what));
        }
        Ok((device, capability))
    }

    /// What a failed call means to whoever asked for the camera.
    fn error(&self, doing: &'static str, error: &io::Error) -> SourceError {
        let path = self.path.display();
        match error.raw_os_error() {
            // It is free again when the other one ends.
            Some(libc::EBUSY) => {
                let who = holder(&self.roots.proc, self.path).map_or_else(String::new, |holder| format!(": {holder}"));
                lost(self.name, doing, format!("another program holds {path}{who} (`fuser -v {path}` says which)"))
            }
            Some(libc::EACCES | libc::EPERM) => {
                let group = group_of(self.path).filter(|group| group != "root").unwrap_or_else(|| "video".to_owned());
                let what =
                    format!("{error}: {path} is the group's {group}; join it with `sudo usermod -aG {group} $USER`, and log in again");
                unusable(self.name, doing, what)
            }
            Some(libc::ENOSPC) => {
                let what = format!("{error}: its USB link has no room for it: use smaller or fewer pictures, MJPG, or another port");
                unusable(self.name, doing, what)
            }
            Some(libc::ENOENT) => lost(self.name, doing, error),
            _ if is_gone(error) => lost(self.name, doing, format!("{error}: it was unplugged, or hangs")),
            _ => unusable(self.name, doing, error),
        }
    }

    /// The best format that has what was asked for.
    fn choose(&self, device: &Device, capability: &Capability, offers: &[Offer]) -> Result<Choice, SourceError> {
        const DOING: &str = "choosing a format of";
        let size = match self.options.size {
            Some(size) => size,
            None => {
                let mut set = Format { kind: CAPTURE, ..Format::zeros() };
                device.call(&G_FMT, &mut set).map_err(|error| self.error("asking for the size of", &error))?;
                (set.width, set.height)
            }
        };
        let mut possible = Vec::new();
        for offer in offers {
            let Some(format) = offer.four_cc.format() else { continue };
            if self.options.format.is_some_and(|asked| asked != format) || !offer.has_size(size.0, size.1) {
                continue;
            }
            if let Some(fps) = self.options.fps {
                let rates = offers::rates(device, offer.four_cc.code(), size.0, size.1);
                if !rates.map_err(|error| self.error("asking for the rates of", &error))?.has(fps) {
                    continue;
                }
            }
            possible.push(Choice { four_cc: offer.four_cc, format, size });
        }
        let pixels_per_s = f64::from(size.0) * f64::from(size.1) * self.options.fps.unwrap_or(30.0);
        let wants_jpeg = text(&capability.bus).starts_with("usb") && pixels_per_s >= MANY_PIXELS_PER_S;
        possible.sort_by_key(|choice| rank(choice.format, wants_jpeg));
        possible.first().copied().ok_or_else(|| {
            let format =
                self.options.format.map_or_else(|| "any format that is read here".to_owned(), |format| FourCc::of(format).to_string());
            let at = self.options.fps.map_or_else(String::new, |fps| format!(" at {fps} pictures a second"));
            unusable(self.name, DOING, format!("expected {}x{}{at} in {format}; it offers {}", size.0, size.1, in_words(offers)))
        })
    }

    fn set_format(&self, device: &Device, choice: Choice, offers: &[Offer]) -> Result<Format, SourceError> {
        const DOING: &str = "setting the format of";
        let (width, height) = choice.size;
        let mut set = Format { kind: CAPTURE, width, height, four_cc: choice.four_cc.code(), field: FIELD_NONE, ..Format::zeros() };
        device.call(&S_FMT, &mut set).map_err(|error| self.error(DOING, &error))?;
        if (set.width, set.height, set.four_cc) != (width, height, choice.four_cc.code()) {
            let found = format!("{}x{} in {}", set.width, set.height, FourCc::of_code(set.four_cc));
            let what = format!("expected {width}x{height} in {}, found {found}; it offers {}", choice.four_cc, in_words(offers));
            return Err(unusable(self.name, DOING, what));
        }
        Ok(set)
    }

    /// Sets the rate if one was asked for; says which one it is.
    fn set_rate(&self, device: &Device, choice: Choice, offers: &[Offer]) -> Result<Option<f64>, SourceError> {
        const DOING: &str = "setting the rate of";
        let mut set = Parameters { kind: CAPTURE, ..Parameters::zeros() };
        let is_known = match device.call(&G_PARM, &mut set) {
            Ok(()) => set.capability & HAS_RATE != 0,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)) => false,
            Err(error) => return Err(self.error(DOING, &error)),
        };
        let Some(fps) = self.options.fps else { return Ok(rate(set.interval).filter(|_| is_known)) };
        if !is_known {
            return Err(unusable(self.name, DOING, format!("its rate can't be set: leave the {fps} pictures a second out")));
        }
        set.interval = interval(fps);
        device.call(&S_PARM, &mut set).map_err(|error| self.error(DOING, &error))?;
        let mut found = Parameters { kind: CAPTURE, ..Parameters::zeros() };
        device.call(&G_PARM, &mut found).map_err(|error| self.error(DOING, &error))?;
        match rate(found.interval) {
            Some(found) if is_same_rate(found, fps) => Ok(Some(found)),
            found => {
                let found = found.map_or_else(|| "none".to_owned(), |found| found.to_string());
                let (width, height) = choice.size;
                let what = format!("expected {fps} pictures a second of {width}x{height} in {}, found {found}", choice.four_cc);
                Err(unusable(self.name, DOING, format!("{what}; it offers {}", in_words(offers))))
            }
        }
    }
}

/// Which of two formats is the better one: the lesser.
fn rank(format: PixelFormat, wants_jpeg: bool) -> u8 {
    match format {
        PixelFormat::Mjpeg if wants_jpeg => 0,
        PixelFormat::Yuyv => 1,
        PixelFormat::Nv12 => 2,
        PixelFormat::Rgb => 3,
        PixelFormat::Mjpeg => 4,
        PixelFormat::Grey => 5,
        PixelFormat::Grey16 => 6,
        PixelFormat::Depth16 => 7,
    }
}

/// Bytes of a row's pixels, of the first plane; 0 for what has no rows.
fn row_bytes(format: PixelFormat, width: u32) -> usize {
    let width = width as usize;
    match format {
        PixelFormat::Mjpeg => 0,
        PixelFormat::Nv12 | PixelFormat::Grey => width,
        PixelFormat::Yuyv | PixelFormat::Grey16 | PixelFormat::Depth16 => 2 * width,
        PixelFormat::Rgb => 3 * width,
    }
}

/// Bytes of a whole picture at least: the last row may end where its pixels do.
fn least_bytes(format: PixelFormat, stride: usize, row: usize, height: u32) -> usize {
    let rows = match format {
        PixelFormat::Mjpeg => return 1,
        PixelFormat::Nv12 => height as usize + (height as usize).div_ceil(2),
        _ => height as usize,
    };
    (rows * stride).saturating_sub(stride - row)
}

/// The kernel's 32-bit numbers, counted on where they begin anew.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    last: Option<u64>,
}

impl Counter {
    fn at(&mut self, sequence: u32) -> u64 {
        let now = match self.last {
            // What is less by more than half the range is greater, a round later.
            Some(last) => last + u64::from(sequence.wrapping_sub(last as u32)),
            None => u64::from(sequence),
        };
        self.last = Some(now);
        now
    }
}

/// A camera that streams.
pub(super) struct Camera {
    queue: Queue,
    reader: Reader,
}

/// Makes pictures of filled buffers.
struct Reader {
    name: String,
    stream: Stream,
    stride: usize,
    least_bytes: usize,
    clock: Arc<dyn Clock>,
    counter: Counter,
    /// It was said that its stamps are not believed.
    is_warned: bool,
}

impl Reader {
    /// `None` where there is none in the buffer.
    fn picture<'a>(&mut self, filled: &Filled, bytes: &'a [u8]) -> Option<Picture<'a>> {
        let sequence = self.counter.at(filled.sequence);
        if filled.is_damaged || bytes.len() < self.least_bytes {
            tracing::debug!("{}: picture {sequence} is damaged: {} bytes", self.name, bytes.len());
            return None;
        }
        let Stream { width, height, format, .. } = self.stream;
        let captured_at = self.captured_at(filled.monotonic_ns.map(Timestamp::from_nanos));
        Some(Picture { format, width, height, stride: self.stride, bytes, captured_at, sequence })
    }

    /// When a picture was taken that has just arrived, by the kernel's stamp on it.
    fn captured_at(&mut self, stamp: Option<Timestamp>) -> Timestamp {
        let now = self.clock.now();
        let age_ns = stamp.map(|stamp| now.nanos_since(stamp));
        match stamp {
            Some(stamp) if age_ns.is_some_and(|age| (0..OLDEST.as_nanos() as i64).contains(&age)) => stamp,
            _ => {
                if !self.is_warned {
                    let why = age_ns.map_or("of another clock".to_owned(), |age| format!("{} s old", age as f64 * 1e-9));
                    tracing::warn!("{}: its pictures are stamped when they arrive, as the driver's own stamps are {why}", self.name);
                    self.is_warned = true;
                }
                now
            }
        }
    }
}

impl Source for Camera {
    fn stream(&self) -> Stream {
        self.reader.stream
    }

    /// Pictures that the driver says are damaged, that are empty, or of which rows are missing, are left out: they show as
    /// gaps of [`Picture::sequence`]. Whether a JPEG is whole only its decoder can tell.
    fn next(&mut self, wait: Duration, take: &mut dyn FnMut(&Picture<'_>)) -> Result<bool, SourceError> {
        const DOING: &str = "reading a picture of";
        let Self { queue, reader } = self;
        let end = reader.clock.now() + wait;
        loop {
            let left_ns = end.nanos_since(reader.clock.now()).max(0).unsigned_abs();
            match queue.wait(Duration::from_nanos(left_ns)) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(lost(&reader.name, DOING, error)),
            }
            let mut is_taken = false;
            let result = queue.take(&mut |filled, bytes| {
                if let Some(picture) = reader.picture(filled, bytes) {
                    take(&picture);
                    is_taken = true;
                }
            });
            match result {
                Err(error) if is_gone(&error) => return Err(lost(&reader.name, DOING, format!("{error}: it was unplugged, or hangs"))),
                Err(error) => return Err(lost(&reader.name, DOING, error)),
                Ok(_) if is_taken => return Ok(true),
                // Broken pictures without end are none within the wait.
                Ok(_) if left_ns == 0 => return Ok(false),
                Ok(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    struct At(AtomicI64);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
        }

        fn sleep_until(&self, _: Timestamp) {}

        fn runs_by_itself(&self) -> bool {
            true
        }
    }

    fn reader(format: PixelFormat, least_bytes: usize) -> Reader {
        Reader {
            name: "usb:1".into(),
            stream: Stream { width: 4, height: 2, format, fps: None },
            stride: 0,
            least_bytes,
            clock: Arc::new(At(AtomicI64::new(100_000_000_000))),
            counter: Counter::default(),
            is_warned: false,
        }
    }

    #[test]
    fn a_stamp_of_another_clock_is_not_believed() {
        let mut reader = reader(PixelFormat::Grey, 1);
        let now = Timestamp::from_nanos(100_000_000_000);
        for (stamp, taken) in [
            (Some(99_900_000_000), 99_900_000_000),
            (Some(90_000_000_001), 90_000_000_001),
            (Some(90_000_000_000), now.as_nanos()),
            (Some(100_000_000_001), now.as_nanos()),
            (Some(1_700_000_000_000_000_000), now.as_nanos()),
            (Some(-1), now.as_nanos()),
            (None, now.as_nanos()),
        ] {
            assert_eq!(reader.captured_at(stamp.map(Timestamp::from_nanos)).as_nanos(), taken, "{stamp:?}");
        }
    }

    #[test]
    fn numbers_go_on_where_the_kernels_begin_anew() {
        let mut counter = Counter::default();
        let given: Vec<u64> = [7, 8, 10, u32::MAX, 0, 3].into_iter().map(|sequence| counter.at(sequence)).collect();
        assert_eq!(given, [7, 8, 10, u64::from(u32::MAX), 1 << 32, (1 << 32) + 3]);
    }

    #[test]
    fn a_damaged_empty_or_half_picture_is_none() {
        let least = least_bytes(PixelFormat::Grey, 8, 4, 2);
        assert_eq!(least, 12, "the last row has no padding");
        let mut reader = reader(PixelFormat::Grey, least);
        let filled = |is_damaged, sequence| Filled { is_damaged, monotonic_ns: None, sequence };
        assert!(reader.picture(&filled(true, 0), &[0; 16]).is_none());
        assert!(reader.picture(&filled(false, 1), &[]).is_none());
        assert!(reader.picture(&filled(false, 2), &[0; 11]).is_none());
        assert_eq!(reader.picture(&filled(false, 3), &[0; 12]).unwrap().sequence, 3);
        assert_eq!(least_bytes(PixelFormat::Nv12, 4, 4, 2), 12);
        assert_eq!(least_bytes(PixelFormat::Mjpeg, 0, 0, 2), 1);
    }

    #[test]
    fn a_fast_camera_is_read_as_jpegs_and_a_slow_one_raw() {
        let best = |wants_jpeg| {
            let all = [PixelFormat::Depth16, PixelFormat::Grey, PixelFormat::Mjpeg, PixelFormat::Nv12, PixelFormat::Yuyv];
            all.into_iter().min_by_key(|format| rank(*format, wants_jpeg)).unwrap()
        };
        assert_eq!((best(true), best(false)), (PixelFormat::Mjpeg, PixelFormat::Yuyv));
    }
}
