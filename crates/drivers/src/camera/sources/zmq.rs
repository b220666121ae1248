//! A camera of an image server of LeRobot (`lerobot/cameras/zmq/image_server.py` of LeRobot 0.6.1): a PUB socket that sends JSON
//! with a JPEG in base 64 for each camera that has a new picture.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use serde::Deserialize;
use sinew_core::{Clock, Timestamp};

use super::http::connect;
use super::wire::Wire;
use crate::camera::{Decoder, OpenSource, Picture, PixelFormat, Source, SourceError, Stream};
use crate::net::zmtp::{self, Kind, Most};

/// A message is no larger.
const MOST: Most = Most { parts: 2, bytes: 32 << 20 };
/// How long a hand-shake may take.
const SHAKE_WITHIN: Duration = Duration::from_secs(3);
/// So many messages with pictures of other cameras alone say that the name is wrong.
const OTHERS: u64 = 60;

/// The camera `name` at the image server of `host` and `port`. A picture was captured when its message came: the server's times are
/// those of another clock, and only tell whether a picture is new.
///
/// LeRobot's server gives its RGB to OpenCV's encoder, which expects BGR, and LeRobot's client reads it back the same way. So red and
/// blue of its JPEGs are exchanged, and are exchanged back here, too.
pub struct ZmqCamera {
    host: String,
    port: u16,
    camera: String,
    clock: Arc<dyn Clock>,
}

impl ZmqCamera {
    pub fn new(host: String, port: u16, camera: String, clock: Arc<dyn Clock>) -> Self {
        Self { host, port, camera, clock }
    }
}

impl OpenSource for ZmqCamera {
    fn name(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("zmq://{host}:{}/{}", self.port, self.camera)
    }

    fn open(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let name = self.name();
        let lost = |error: std::io::Error| SourceError::Lost { doing: "opening", source_name: name.clone(), what: error.to_string() };
        let mut stream = connect(&self.host, self.port).map_err(lost)?;
        stream.set_read_timeout(Some(SHAKE_WITHIN)).map_err(lost)?;
        zmtp::connect(&mut stream, Kind::Sub, None).map_err(lost)?;
        stream.write_all(&zmtp::subscription()).map_err(lost)?;
        let (camera, clock) = (self.camera.clone(), self.clock.clone());
        let wire = Wire::new(stream, clock.clone());
        Ok(Box::new(Open {
            name,
            camera,
            clock,
            wire,
            decoder: Decoder::default(),
            rgb: Vec::new(),
            count: 0,
            told: None,
            others: 0,
            since: None,
        }))
    }
}

struct Open {
    name: String,
    camera: String,
    clock: Arc<dyn Clock>,
    wire: Wire,
    decoder: Decoder,
    rgb: Vec<u8>,
    count: u64,
    /// The server's time of the newest picture.
    told: Option<f64>,
    /// How many messages had pictures of other cameras alone, since ours was among them.
    others: u64,
    /// When the first of the bytes came that nobody took yet.
    since: Option<Timestamp>,
}

/// One message of the server.
#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    images: BTreeMap<Cow<'a, str>, Text<'a>>,
    #[serde(borrow, default)]
    timestamps: BTreeMap<Cow<'a, str>, f64>,
}

/// A text that is not copied where nothing in it is escaped.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Open {
    fn lost(&self, what: impl ToString) -> SourceError {
        SourceError::Lost { doing: "reading", source_name: self.name.clone(), what: what.to_string() }
    }

    /// The newest JPEG of our camera that has come.
    fn newest(&mut self) -> Result<Option<Vec<u8>>, SourceError> {
        let (mut newest, mut at) = (None, 0);
        loop {
            let mut rest = &self.wire.bytes[at..];
            match zmtp::read_message(&mut rest, MOST) {
                Ok(mut parts) => {
                    at = self.wire.bytes.len() - rest.len();
                    // Our camera may be in an older one alone.
                    let message = parts.pop().unwrap_or_default();
                    newest = self.jpeg(&message)?.or(newest);
                }
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(self.lost(error)),
            }
        }
        self.wire.bytes.drain(..at);
        Ok(newest)
    }

    /// Our camera's JPEG where `message` has one that is new; counts it.
    fn jpeg(&mut self, message: &[u8]) -> Result<Option<Vec<u8>>, SourceError> {
        let message: Message<'_> = serde_json::from_slice(message)
            .map_err(|error| self.lost(format!("expected JSON with images as LeRobot's image server sends it: {error}")))?;
        let Some(Text(jpeg)) = message.images.get(self.camera.as_str()) else {
            self.others += u64::from(!message.images.is_empty());
            if self.others >= OTHERS {
                let names: Vec<String> = message.images.keys().map(|name| zmtp::printable(name.as_bytes())).collect();
                return Err(self.lost(format!("expected images of {}, found {}", self.camera, names.join(", "))));
            }
            return Ok(None);
        };
        self.others = 0;
        let told = message.timestamps.get(self.camera.as_str()).copied();
        if told.is_some() && told == self.told {
            return Ok(None);
        }
        self.told = told;
        self.count += 1;
        // What is no base 64 is no picture, which its camera counts.
        Ok(Some(BASE64.decode(jpeg.as_bytes()).unwrap_or_default()))
    }
}

impl Source for Open {
    fn stream(&self) -> Stream {
        Stream { width: 0, height: 0, format: PixelFormat::Mjpeg, fps: None }
    }

    fn next(&mut self, wait: Duration, take: &mut dyn FnMut(&Picture<'_>)) -> Result<bool, SourceError> {
        let until = self.clock.now() + wait;
        loop {
            let now = self.clock.now();
            let captured_at = self.since.unwrap_or(now);
            let newest = self.newest()?;
            self.since = (!self.wire.bytes.is_empty()).then_some(self.since.filter(|_| newest.is_none()).unwrap_or(now));
            if let Some(bytes) = newest {
                let jpeg = Picture {
                    format: PixelFormat::Mjpeg,
                    width: 0,
                    height: 0,
                    stride: 0,
                    bytes: &bytes,
                    captured_at,
                    sequence: self.count,
                };
                let size = self.decoder.size(&jpeg).and_then(|(width, height)| {
                    self.rgb.resize(width as usize * height as usize * 3, 0);
                    self.decoder.decode(&jpeg, &mut self.rgb).map(|()| (width, height))
                });
                match size {
                    Ok((width, height)) => {
                        self.rgb.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
                        let format = PixelFormat::Rgb;
                        take(&Picture { format, width, height, stride: width as usize * 3, bytes: &self.rgb, ..jpeg });
                    }
                    // Its camera finds out the same.
                    Err(_) => take(&jpeg),
                }
                return Ok(true);
            }
            if self.clock.now() >= until {
                return Ok(false);
            }
            if self.wire.fill(until).map_err(|error| self.lost(error))? {
                self.since = self.since.or(Some(self.clock.now()));
            }
        }
    }
}
