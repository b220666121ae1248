//! Network cameras that speak RTSP: H.264, or JPEGs over RTP, through the RTSP connection itself.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use openh264::OpenH264API;
use openh264::decoder::{Decoder, DecoderConfig, Flush};
use openh264::formats::YUVSource;
use retina::client::{Credentials, Demuxed, PlayOptions, Session, SessionOptions, SetupOptions};
use retina::codec::{CodecItem, FrameFormat, VideoFrame};
use sinew_core::{Clock, Timestamp};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::camera::decode::i420_row;
use crate::camera::{OpenSource, Picture, PixelFormat, Source, SourceError, Stream};

/// How long each step of opening may take.
const STEP_WITHIN: Duration = Duration::from_secs(5);

/// Pictures of `rtsp://[USER[:PASSWORD]@]HOST[:PORT]/PATH`. When a picture was captured is told by the stream's own times, set by the one
/// that came with the least delay of late: what is held up on the way is older by that, and what every picture takes is
/// not known. After a gap in the packets pictures are left out until one that needs no other. Colours are those of
/// [`Decoder`](crate::camera::Decoder), whatever the stream says of its own.
pub struct Rtsp {
    url: String,
    clock: Arc<dyn Clock>,
}

impl Rtsp {
    pub fn new(url: String, clock: Arc<dyn Clock>) -> Self {
        Self { url, clock }
    }

    /// The address without user and password, and these.
    fn parts(&self) -> Option<(Url, Option<Credentials>)> {
        let mut url = Url::from_str(&self.url).ok().filter(|url| url.scheme() == "rtsp" && url.has_host())?;
        let unescape = |text: &str| super::http::unescape(text);
        let credentials = (!url.username().is_empty())
            .then(|| Credentials { username: unescape(url.username()), password: unescape(url.password().unwrap_or_default()) });
        url.set_username("").and_then(|()| url.set_password(None)).ok()?;
        Some((url, credentials))
    }
}

impl OpenSource for Rtsp {
    /// The address without user and password.
    fn name(&self) -> String {
        self.parts().map_or_else(|| self.url.clone(), |(url, _)| url.to_string())
    }

    fn open(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let name = self.name();
        let unusable = |what: String| SourceError::Unusable { doing: "opening", source_name: name.clone(), what };
        let lost = |what: String| SourceError::Lost { doing: "opening", source_name: name.clone(), what };
        let (url, credentials) = self.parts().ok_or_else(|| unusable("expected rtsp://[USER[:PASSWORD]@]HOST[:PORT]/PATH".to_owned()))?;
        let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(|error| lost(error.to_string()))?;
        let opened = runtime.block_on(async {
            let options = SessionOptions::default().creds(credentials).user_agent("sinew".to_owned());
            let mut session = step("DESCRIBE", Session::describe(url, options)).await?;
            let found = |name: &str| session.streams().iter().position(|it| it.media() == "video" && it.encoding_name() == name);
            let (index, is_jpeg) = match (found("h264"), found("jpeg")) {
                (Some(index), _) => (index, false),
                (None, Some(index)) => (index, true),
                (None, None) => {
                    let all: Vec<&str> = session.streams().iter().map(|stream| stream.encoding_name()).collect();
                    return Err(Failed::Unusable(format!("expected video in H.264 or JPEG, found {}", all.join(", "))));
                }
            };
            let fps = session.streams()[index].framerate().map(f64::from);
            step("SETUP", session.setup(index, SetupOptions::default().frame_format(FrameFormat::SIMPLE))).await?;
            let playing = step("PLAY", session.play(PlayOptions::default())).await?;
            let demuxed = playing.demuxed().map_err(Failed::of)?;
            Ok((demuxed, is_jpeg, fps))
        });
        let (session, is_jpeg, fps) = opened.map_err(|failed| match failed {
            Failed::Unusable(what) => unusable(what),
            Failed::Lost(what) => lost(what),
        })?;
        let format = if is_jpeg { PixelFormat::Mjpeg } else { PixelFormat::Rgb };
        let stream = Stream { width: 0, height: 0, format, fps };
        let video = if is_jpeg { None } else { Some(Video::new().map_err(unusable)?) };
        let delay = Delay::default();
        let session = Some(session);
        Ok(Box::new(Open { name, clock: self.clock.clone(), session, runtime, stream, video, delay, count: 0 }))
    }
}

enum Failed {
    Lost(String),
    Unusable(String),
}

impl Failed {
    /// What a camera refuses it will refuse again; all else may be better another time.
    fn of(error: retina::Error) -> Self {
        match error.status_code() {
            Some(status) if (400..500).contains(&status) => Self::Unusable(error.to_string()),
            _ => Self::Lost(error.to_string()),
        }
    }
}

async fn step<T>(what: &str, doing: impl Future<Output = Result<T, retina::Error>>) -> Result<T, Failed> {
    match tokio::time::timeout(STEP_WITHIN, doing).await {
        Ok(result) => result.map_err(Failed::of),
        Err(_) => Err(Failed::Lost(format!("expected an answer to {what} within {STEP_WITHIN:?}, found none"))),
    }
}

struct Open {
    name: String,
    clock: Arc<dyn Clock>,
    /// `None` once it is being closed.
    session: Option<Demuxed>,
    runtime: Runtime,
    stream: Stream,
    /// For H.264.
    video: Option<Video>,
    delay: Delay,
    count: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        // A session says good-bye on its runtime.
        let _on_it = self.runtime.enter();
        self.session = None;
    }
}

impl Source for Open {
    fn stream(&self) -> Stream {
        self.stream
    }

    fn next(&mut self, wait: Duration, take: &mut dyn FnMut(&Picture<'_>)) -> Result<bool, SourceError> {
        let lost = |name: &str, what: String| SourceError::Lost { doing: "reading", source_name: name.to_owned(), what };
        let until = self.clock.now() + wait;
        loop {
            let now = self.clock.now();
            let left_ns = until.nanos_since(now);
            if left_ns <= 0 {
                return Ok(false);
            }
            let Some(session) = &mut self.session else { return Ok(false) };
            let item =
                self.runtime.block_on(async { tokio::time::timeout(Duration::from_nanos(left_ns.unsigned_abs()), session.next()).await });
            let frame = match item {
                Err(_) => return Ok(false),
                Ok(None) => return Err(lost(&self.name, "the camera ended the stream".to_owned())),
                Ok(Some(Err(error))) => return Err(lost(&self.name, error.to_string())),
                Ok(Some(Ok(CodecItem::VideoFrame(frame)))) => frame,
                Ok(Some(Ok(_))) => continue,
            };
            self.count += 1 + u64::from(frame.loss().min(1));
            let captured_at = self.delay.captured_at(self.clock.now(), frame.timestamp().elapsed_secs());
            let sequence = self.count;
            match &mut self.video {
                None => {
                    let format = PixelFormat::Mjpeg;
                    take(&Picture { format, width: 0, height: 0, stride: 0, bytes: frame.data(), captured_at, sequence });
                    return Ok(true);
                }
                Some(video) => {
                    if let Some((width, height)) = video.decode(&frame) {
                        let (format, stride) = (PixelFormat::Rgb, width as usize * 3);
                        take(&Picture { format, width, height, stride, bytes: &video.rgb, captured_at, sequence });
                        return Ok(true);
                    }
                }
            }
        }
    }
}

/// A stream of H.264, decoded.
struct Video {
    decoder: Decoder,
    rgb: Vec<u8>,
    /// What comes next refers to what is not there.
    waits_for_key: bool,
}

impl Video {
    fn new() -> Result<Self, String> {
        Ok(Self { decoder: decoder()?, rgb: Vec::new(), waits_for_key: true })
    }

    /// Decodes the next picture into `rgb`; its size. `None` while there is none.
    fn decode(&mut self, frame: &VideoFrame) -> Option<(u32, u32)> {
        self.waits_for_key |= frame.loss() > 0;
        if self.waits_for_key && !frame.is_random_access_point() {
            return None;
        }
        if std::mem::take(&mut self.waits_for_key) {
            // It forgets what went wrong.
            self.decoder = decoder().ok()?;
        }
        match self.decoder.decode(frame.data()) {
            Ok(Some(yuv)) => {
                let (width, height) = yuv.dimensions();
                self.rgb.resize(width * height * 3, 0);
                let ((y_stride, u_stride, v_stride), y, u, v) = (yuv.strides(), yuv.y(), yuv.u(), yuv.v());
                for (row, out) in self.rgb.chunks_exact_mut(width * 3).enumerate() {
                    let chroma = |plane: &'_ [u8], stride: usize| row / 2 * stride..(row / 2 * stride + width.div_ceil(2)).min(plane.len());
                    let luma = row * y_stride..row * y_stride + width;
                    i420_row(y.get(luma)?, u.get(chroma(u, u_stride))?, v.get(chroma(v, v_stride))?, out);
                }
                Some((u32::try_from(width).ok()?, u32::try_from(height).ok()?))
            }
            Ok(None) => None,
            Err(_) => {
                self.waits_for_key = true;
                None
            }
        }
    }
}

/// Finds out when pictures were captured, by their own times.
#[derive(Debug, Default)]
struct Delay {
    /// When the time 0 of the stream was at the earliest, by the pictures of the window before this one, and of this one. Two, as
    /// clocks drift apart.
    before: Option<Timestamp>,
    now: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Delay {
    const WINDOW: Duration = Duration::from_secs(15);

    /// When a picture was captured that came at `now` and says that it is of `elapsed_s` of the stream.
    fn captured_at(&mut self, now: Timestamp, elapsed_s: f64) -> Timestamp {
        let elapsed_ns = (elapsed_s * 1e9) as i64;
        let zero = Timestamp::from_nanos(now.as_nanos().saturating_sub(elapsed_ns));
        if self.since.is_none_or(|since| since + Self::WINDOW < now) {
            (self.before, self.now, self.since) = (self.now, None, Some(now));
        }
        let earliest = self.now.map_or(zero, |earliest| earliest.min(zero));
        self.now = Some(earliest);
        let zero = self.before.map_or(earliest, |before| before.min(earliest));
        Timestamp::from_nanos(zero.as_nanos().saturating_add(elapsed_ns))
    }
}

fn decoder() -> Result<Decoder, String> {
    let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
    Decoder::with_api_config(OpenH264API::from_source(), config).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_up_is_older() {
        let at = |ms: i64| Timestamp::from_nanos(ms * 1_000_000);
        let mut delay = Delay::default();
        assert_eq!(delay.captured_at(at(1_100), 0.0), at(1_100));
        assert_eq!(delay.captured_at(at(1_140), 0.1), at(1_140), "the first one was late");
        assert_eq!(delay.captured_at(at(2_540), 0.5), at(1_540), "this one is late by a second");
        assert_eq!(delay.captured_at(at(2_545), 1.5), at(2_540));
        // A camera's clock that goes slow by a thousandth is followed.
        for s in 3..600_i64 {
            let captured = delay.captured_at(at(s * 1_001), s as f64);
            let late_ms = at(s * 1_001).nanos_since(captured) / 1_000_000;
            assert!((0..=600).contains(&late_ms) && (s < 60 || late_ms <= 31), "{s}: {late_ms}");
        }
    }
}
