//! What users write of a camera: `NAME=SOURCE[,WxH@FPS][,FORMAT][,key=value…]`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use sinew_core::{CameraDescription, Clock, WhenOld};
use thiserror::Error;

use super::sources::{HttpMjpeg, ImageFiles, Pattern, Url, ZmqCamera};
use super::{Crop, DecodeOptions, OpenSource, PixelFormat, ShapeOptions, size_before_rotation};
use crate::net::host_and_port;

/// The port of LeRobot's image server.
const ZMQ_PORT: u16 = 5555;

/// The oldest that an image may be allowed to be.
const MOST_AGE_MS: u32 = 60_000;

/// What can't be read as a camera.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("reading the camera {text:?}: {what}")]
pub struct CameraAddressError {
    pub text: String,
    pub what: String,
}

/// Where pictures come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceAddress {
    /// A USB device by its serial number: `usb:200901010001`.
    Usb(String),
    /// A USB device by the socket that it is plugged into: `path:1-1.4`.
    UsbPath(String),
    /// A device file: `/dev/video0`, or `0` for short.
    Device(String),
    /// A folder of images, an image, or a video: `file:PATH`.
    File(String),
    /// MJPEG: `http://[USER[:PASSWORD]@]HOST[:PORT]/PATH`.
    Http(String),
    /// `rtsp://[USER[:PASSWORD]@]HOST[:PORT]/PATH`.
    Rtsp(String),
    /// A camera of LeRobot's image server: `zmq://HOST[:PORT]/NAME`.
    Zmq { host: String, port: u16, camera: String },
    /// The camera of the same name of the LeKiwi that is connected to: `zmq`.
    LeKiwi,
    /// A test pattern: `pattern`.
    Pattern,
    /// A simulated world in another process: `sim:SOCKET`.
    Sim(String),
}

/// A setting of a device: its own, or a value in the device's units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    Auto,
    Value(i32),
}

/// What becomes of distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepthUse {
    /// They stay what they are, millimetres: `depth=yes`. A camera in `Z16` of which nothing is said does that.
    Kept,
    /// Greys between a nearest and a farthest one, millimetres: `depth=200:3000`.
    Greys(u32, u32),
}

/// A camera as its user describes it. What is `None` stays as the robot's description or the device has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraAddress {
    pub name: String,
    pub source: SourceAddress,
    /// Width and height of what comes out, as LeRobot's.
    pub size: Option<(u32, u32)>,
    pub fps: Option<u32>,
    pub format: Option<PixelFormat>,
    /// Clockwise, degrees.
    pub rotation_deg: Option<u32>,
    /// The size that the source is asked for, where that is not what comes out, turned back.
    pub capture: Option<(u32, u32)>,
    pub crop: Option<Crop>,
    pub resize: bool,
    pub max_age_ms: Option<u32>,
    pub when_old: Option<WhenOld>,
    pub depth: Option<DepthUse>,
    /// Units of 100 µs, as V4L2 has it.
    pub exposure: Option<Control>,
    /// Kelvin.
    pub white_balance: Option<Control>,
    /// The device's own steps.
    pub focus: Option<Control>,
}

const FORMATS: [(&str, PixelFormat); 7] = [
    ("mjpeg", PixelFormat::Mjpeg),
    ("yuyv", PixelFormat::Yuyv),
    ("nv12", PixelFormat::Nv12),
    ("rgb", PixelFormat::Rgb),
    ("grey", PixelFormat::Grey),
    ("grey16", PixelFormat::Grey16),
    ("depth16", PixelFormat::Depth16),
];
/// As devices and LeRobot (`fourcc`) call them.
const FOURCC: [(&str, PixelFormat); 7] = [
    ("MJPG", PixelFormat::Mjpeg),
    ("YUYV", PixelFormat::Yuyv),
    ("NV12", PixelFormat::Nv12),
    ("RGB3", PixelFormat::Rgb),
    ("GREY", PixelFormat::Grey),
    ("Y16", PixelFormat::Grey16),
    ("Z16", PixelFormat::Depth16),
];

impl PixelFormat {
    /// By our name of it, or a device's: `mjpeg` or `MJPG`.
    pub fn named(text: &str) -> Option<Self> {
        FORMATS.iter().chain(&FOURCC).find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, format)| *format)
    }

    /// As devices call it, such as `MJPG`.
    pub fn fourcc(self) -> &'static str {
        FOURCC.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }
}

impl CameraAddress {
    /// A camera of which nothing but name and source is said.
    pub fn new(name: String, source: SourceAddress) -> Self {
        Self {
            name,
            source,
            size: None,
            fps: None,
            format: None,
            rotation_deg: None,
            capture: None,
            crop: None,
            resize: false,
            max_age_ms: None,
            when_old: None,
            depth: None,
            exposure: None,
            white_balance: None,
            focus: None,
        }
    }

    /// What its user had better know.
    pub fn warning(&self) -> Option<String> {
        let SourceAddress::Device(path) = &self.source else { return None };
        Some(format!(
            "camera {}: {path} may be another camera after it was plugged in again or the computer was started; usb:SERIAL or path:PORT stays",
            self.name
        ))
    }

    /// Brings what is said here into a description of the same name.
    pub fn describe(&self, camera: &mut CameraDescription) {
        (camera.width, camera.height) = self.size.unwrap_or((camera.width, camera.height));
        camera.fps = self.fps.or(camera.fps);
        camera.rotation_deg = self.rotation_deg.unwrap_or(camera.rotation_deg);
        camera.max_age_ms = self.max_age_ms.unwrap_or(camera.max_age_ms);
        camera.when_old = self.when_old.unwrap_or(camera.when_old);
        if let Some(format) = self.format {
            camera.format = Some(format.fourcc().to_owned());
        }
        camera.depth = match self.depth {
            Some(depth) => depth == DepthUse::Kept,
            None => camera.depth || self.format == Some(PixelFormat::Depth16),
        };
        if camera.depth && camera.format.is_none() {
            camera.format = Some(PixelFormat::Depth16.fourcc().to_owned());
        }
    }

    pub fn shape(&self) -> ShapeOptions {
        ShapeOptions { crop: self.crop, resize: self.resize }
    }

    pub fn decode(&self) -> DecodeOptions {
        let metres = |mm: u32| mm as f32 / 1e3;
        let depth_range_m = match self.depth {
            Some(DepthUse::Greys(near, far)) => Some((metres(near), metres(far))),
            Some(DepthUse::Kept) | None => None,
        };
        DecodeOptions { depth_range_m, ..DecodeOptions::default() }
    }

    /// The size to ask a source for, so that `camera` comes out.
    pub fn capture_size(&self, camera: &CameraDescription) -> (u32, u32) {
        self.capture.unwrap_or_else(|| size_before_rotation(camera))
    }

    /// Its source, for `camera` as [`describe`](Self::describe)d; `None` for what is opened elsewhere: devices, videos,
    /// simulated worlds, a LeKiwi's cameras, and RTSP in a program without it.
    pub fn source(&self, camera: &CameraDescription, clock: Arc<dyn Clock>) -> Option<Box<dyn OpenSource>> {
        let fps = f64::from(camera.fps.unwrap_or(30));
        let (width, height) = self.capture_size(camera);
        match &self.source {
            SourceAddress::Pattern => Some(Box::new(Pattern::new(width, height, fps, clock))),
            SourceAddress::File(path) => {
                let path = PathBuf::from(path);
                // A path that is not there is told by who opens images.
                (!path.is_file() || ImageFiles::is_image(&path)).then(|| Box::new(ImageFiles::new(path, fps, clock)) as Box<dyn OpenSource>)
            }
            SourceAddress::Http(url) => Some(Box::new(HttpMjpeg::new(url.clone(), clock))),
            SourceAddress::Zmq { host, port, camera } => Some(Box::new(ZmqCamera::new(host.clone(), *port, camera.clone(), clock))),
            #[cfg(feature = "rtsp")]
            SourceAddress::Rtsp(url) => Some(Box::new(super::sources::Rtsp::new(url.clone(), clock))),
            _ => None,
        }
    }

    /// What is asked of a source that can't do it.
    fn misfit(&self) -> Option<String> {
        let is_device = matches!(self.source, SourceAddress::Usb(_) | SourceAddress::UsbPath(_) | SourceAddress::Device(_));
        let is_asked_for_size = is_device || self.source == SourceAddress::Pattern;
        let is_shaped = self.source != SourceAddress::LeKiwi;
        let given = [
            ("a format", self.format.is_some(), is_device, "cameras of this machine"),
            ("depth", self.depth.is_some(), is_device, "cameras of this machine"),
            ("exposure", self.exposure.is_some(), is_device, "cameras of this machine"),
            ("wb", self.white_balance.is_some(), is_device, "cameras of this machine"),
            ("focus", self.focus.is_some(), is_device, "cameras of this machine"),
            ("capture", self.capture.is_some(), is_asked_for_size, "sources that are asked for a size"),
            ("crop", self.crop.is_some(), is_shaped, "all but a LeKiwi's cameras"),
            ("resize", self.resize, is_shaped, "all but a LeKiwi's cameras"),
            ("rotate", self.rotation_deg.is_some(), is_shaped, "all but a LeKiwi's cameras"),
        ];
        if let Some((what, _, _, whose)) = given.into_iter().find(|(_, is_given, fits, _)| *is_given && !fits) {
            return Some(format!("{what} is for {whose}, and {} is none of them", self.source));
        }
        let format = self.format.filter(|_| self.depth == Some(DepthUse::Kept));
        let colours = format.filter(|format| !matches!(format, PixelFormat::Depth16 | PixelFormat::Grey16))?;
        Some(format!("depth=yes: distances come in Z16 or Y16, and {} is neither", colours.fourcc()))
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        if let Some((size, fps)) = size_and_fps(option) {
            if self.size.is_some() {
                return Err(format!("its size is said twice, the second time as {option:?}"));
            }
            (self.size, self.fps) = (Some(size), fps);
            return Ok(());
        }
        let Some((key, value)) = option.split_once('=') else {
            let names: Vec<&str> = FORMATS.iter().map(|(name, _)| *name).collect();
            let format = PixelFormat::named(option)
                .ok_or_else(|| format!("expected WxH@FPS, a format ({}) or key=value, found {option:?}", names.join(", ")))?;
            return set_once(&mut self.format, format, "its format");
        };
        let expected = |what: &str| format!("{key}: expected {what}, found {value:?}");
        match key {
            "rotate" => {
                let degrees = match value {
                    "-90" => 270,
                    _ => value
                        .parse()
                        .ok()
                        .filter(|degrees| [0, 90, 180, 270].contains(degrees))
                        .ok_or_else(|| expected("0, 90, 180 or 270"))?,
                };
                set_once(&mut self.rotation_deg, degrees, key)
            }
            "crop" => {
                let numbers: Option<Vec<u32>> = value.split(':').map(number).collect();
                let crop = match numbers.as_deref() {
                    Some(&[x, y, width, height]) if width > 0 && height > 0 => Crop { x, y, width, height },
                    _ => return Err(expected("X:Y:W:H")),
                };
                set_once(&mut self.crop, crop, key)
            }
            "capture" => set_once(&mut self.capture, size(value).ok_or_else(|| expected("WxH"))?, key),
            "resize" => match value {
                "yes" => {
                    self.resize = true;
                    Ok(())
                }
                "no" => Ok(()),
                _ => Err(expected("yes or no")),
            },
            "age" => {
                let age = number(value).filter(|ms| (1..=MOST_AGE_MS).contains(ms));
                set_once(&mut self.max_age_ms, age.ok_or_else(|| expected("1 to 60000 milliseconds"))?, key)
            }
            "old" => match value {
                "stop" => set_once(&mut self.when_old, WhenOld::Stop, key),
                "repeat" => set_once(&mut self.when_old, WhenOld::Repeat, key),
                _ => Err(expected("stop or repeat")),
            },
            "depth" if value == "yes" => set_once(&mut self.depth, DepthUse::Kept, key),
            "depth" => {
                let range = value.split_once(':').and_then(|(near, far)| Some((number(near)?, number(far)?)));
                let (near, far) =
                    range.filter(|(near, far)| near < far).ok_or_else(|| expected("yes, or NEAR:FAR in millimetres for greys"))?;
                set_once(&mut self.depth, DepthUse::Greys(near, far), key)
            }
            "exposure" | "wb" | "focus" => {
                let control = match value {
                    "auto" => Control::Auto,
                    _ => Control::Value(value.parse().map_err(|_| expected("auto or a whole number"))?),
                };
                let slot = match key {
                    "exposure" => &mut self.exposure,
                    "wb" => &mut self.white_balance,
                    _ => &mut self.focus,
                };
                set_once(slot, control, key)
            }
            _ => Err(format!("expected one of rotate, crop, capture, resize, age, old, depth, exposure, wb and focus, found {key:?}")),
        }
    }
}

fn set_once<T>(slot: &mut Option<T>, value: T, what: &str) -> Result<(), String> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{what} is said twice")),
    }
}

/// Digits alone, so that what is written is what is read.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn size(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once(['x', 'X'])?;
    let side = |text| number(text).filter(|side| (1..=8192).contains(side));
    Some((side(width)?, side(height)?))
}

fn size_and_fps(text: &str) -> Option<((u32, u32), Option<u32>)> {
    match text.split_once('@') {
        None => Some((size(text)?, None)),
        Some((text, fps)) => Some((size(text)?, Some(number(fps).filter(|fps| (1..=1000).contains(fps))?))),
    }
}

impl FromStr for SourceAddress {
    type Err = String;

    /// The error says what was expected.
    fn from_str(text: &str) -> Result<Self, String> {
        let scheme = text.split_once(':').map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
        let filled = |rest: &str, what: &str| if rest.is_empty() { Err(format!("expected {what}")) } else { Ok(rest.to_owned()) };
        match scheme.as_ref().map(|(scheme, rest)| (scheme.as_str(), *rest)) {
            Some(("usb", rest)) => filled(rest, "usb:SERIAL").map(Self::Usb),
            Some(("path", rest)) => filled(rest, "path:PORT").map(Self::UsbPath),
            Some(("file", rest)) => filled(rest, "file:PATH").map(Self::File),
            Some(("sim", rest)) => filled(rest, "sim:SOCKET").map(Self::Sim),
            Some(("http" | "https", _)) => Url::parse(text).map(|_| Self::Http(text.to_owned())),
            Some(("rtsp", rest)) if rest.len() > 2 && rest.starts_with("//") => Ok(Self::Rtsp(text.to_owned())),
            Some(("rtsp", _)) => Err("expected rtsp://[USER[:PASSWORD]@]HOST[:PORT]/PATH".to_owned()),
            Some(("zmq", rest)) => {
                let parts = rest.strip_prefix("//").and_then(|rest| rest.split_once('/'));
                let parts = parts.and_then(|(host, camera)| Some((host_and_port(host, ZMQ_PORT)?, camera)));
                match parts {
                    Some(((host, port), camera)) if !camera.is_empty() && !camera.contains('/') => {
                        Ok(Self::Zmq { host, port, camera: camera.to_owned() })
                    }
                    _ => Err("expected zmq://HOST[:PORT]/NAME, or zmq alone for a LeKiwi's camera".to_owned()),
                }
            }
            _ => match text {
                "zmq" => Ok(Self::LeKiwi),
                "pattern" => Ok(Self::Pattern),
                _ if text.starts_with("/dev/") => Ok(Self::Device(text.to_owned())),
                _ if number(text).is_some_and(|index| index < 1000) => Ok(Self::Device(format!("/dev/video{}", number(text).unwrap_or(0)))),
                _ => Err(format!(
                    "expected usb:SERIAL, path:PORT, /dev/videoN, file:PATH, http://…, rtsp://…, zmq://HOST:PORT/NAME, zmq, \
                     pattern or sim:SOCKET, found {text:?}"
                )),
            },
        }
    }
}

impl fmt::Display for SourceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usb(serial) => write!(f, "usb:{serial}"),
            Self::UsbPath(port) => write!(f, "path:{port}"),
            Self::Device(path) | Self::Http(path) | Self::Rtsp(path) => f.write_str(path),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Zmq { host, port, camera } if host.contains(':') => write!(f, "zmq://[{host}]:{port}/{camera}"),
            Self::Zmq { host, port, camera } => write!(f, "zmq://{host}:{port}/{camera}"),
            Self::LeKiwi => f.write_str("zmq"),
            Self::Pattern => f.write_str("pattern"),
            Self::Sim(socket) => write!(f, "sim:{socket}"),
        }
    }
}

/// Splits at commas; `\,` is one that does not split.
fn split(text: &str) -> Vec<String> {
    let (mut fields, mut chars) = (vec![String::new()], text.chars().peekable());
    while let Some(c) = chars.next() {
        let is_escaped = c == '\\' && matches!(chars.peek(), Some(',' | '\\'));
        match (c, fields.last_mut()) {
            (',', _) => fields.push(String::new()),
            (_, Some(field)) => field.push(if is_escaped { chars.next().unwrap_or(c) } else { c }),
            _ => {}
        }
    }
    fields
}

impl FromStr for CameraAddress {
    type Err = CameraAddressError;

    fn from_str(text: &str) -> Result<Self, CameraAddressError> {
        let failed = |what: String| CameraAddressError { text: text.to_owned(), what };
        let (name, rest) = text.split_once('=').ok_or_else(|| failed("expected NAME=SOURCE[,WxH@FPS][,FORMAT][,key=value…]".to_owned()))?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(fits) {
            return Err(failed(format!("expected a name of letters, digits, _, - and ., found {name:?}")));
        }
        let mut fields = split(rest).into_iter();
        let source = fields.next().unwrap_or_default().parse().map_err(failed)?;
        let mut camera = Self::new(name.to_owned(), source);
        fields.try_for_each(|option| camera.set(&option)).map_err(failed)?;
        camera.misfit().map_or(Ok(camera), |what| Err(failed(what)))
    }
}

impl fmt::Display for CameraAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.source.to_string().replace('\\', "\\\\").replace(',', "\\,");
        write!(f, "{}={source}", self.name)?;
        if let Some((width, height)) = self.size {
            write!(f, ",{width}x{height}")?;
            if let Some(fps) = self.fps {
                write!(f, "@{fps}")?;
            }
        }
        if let Some(format) = self.format {
            write!(f, ",{}", FORMATS.iter().find(|(_, of)| *of == format).map_or("", |(name, _)| name))?;
        }
        if let Some(degrees) = self.rotation_deg {
            write!(f, ",rotate={degrees}")?;
        }
        if let Some((width, height)) = self.capture {
            write!(f, ",capture={width}x{height}")?;
        }
        if let Some(crop) = self.crop {
            write!(f, ",crop={crop}")?;
        }
        if self.resize {
            f.write_str(",resize=yes")?;
        }
        if let Some(ms) = self.max_age_ms {
            write!(f, ",age={ms}")?;
        }
        if let Some(old) = self.when_old {
            write!(f, ",old={}", if old == WhenOld::Stop { "stop" } else { "repeat" })?;
        }
        match self.depth {
            None => {}
            Some(DepthUse::Kept) => f.write_str(",depth=yes")?,
            Some(DepthUse::Greys(near, far)) => write!(f, ",depth={near}:{far}")?,
        }
        for (key, control) in [("exposure", self.exposure), ("wb", self.white_balance), ("focus", self.focus)] {
            match control {
                None => {}
                Some(Control::Auto) => write!(f, ",{key}=auto")?,
                Some(Control::Value(value)) => write!(f, ",{key}={value}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
