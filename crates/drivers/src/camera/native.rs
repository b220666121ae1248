//! Cameras of macOS and Windows, through the system's own frameworks by the crate `nokhwa`, which leaves decoding to us. Where
//! the system is another one there is none.

use std::sync::Arc;
use std::time::Duration;

use nokhwa::utils::{CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType};
use nokhwa::{Camera, NokhwaError};
use sinew_core::Clock;

use crate::camera::{OpenSource, Picture, PixelFormat, Source, SourceError, Stream};

/// What is spoken, best first.
const FORMATS: [(FrameFormat, PixelFormat); 5] = [
    (FrameFormat::YUYV, PixelFormat::Yuyv),
    (FrameFormat::NV12, PixelFormat::Nv12),
    (FrameFormat::MJPEG, PixelFormat::Mjpeg),
    (FrameFormat::RAWRGB, PixelFormat::Rgb),
    (FrameFormat::GRAY, PixelFormat::Grey),
];

/// The system's camera of a number. A picture was taken when it came, as far as anyone knows, and what is lost between two is not
/// known: the frameworks say neither through this crate.
pub struct NativeCamera {
    index: u32,
    size: (u32, u32),
    fps: u32,
    format: Option<PixelFormat>,
    clock: Arc<dyn Clock>,
}

impl NativeCamera {
    /// Without a `format` it is the first of those that are spoken and have the size and the rate.
    pub fn new(index: u32, size: (u32, u32), fps: u32, format: Option<PixelFormat>, clock: Arc<dyn Clock>) -> Self {
        Self { index, size, fps, format, clock }
    }

    fn open_as(&self, format: FrameFormat) -> Result<Camera, NokhwaError> {
        let wanted = CameraFormat::new_from(self.size.0, self.size.1, format, self.fps);
        let formats = [format];
        let request = RequestedFormat::with_formats(RequestedFormatType::Exact(wanted), &formats);
        let mut camera = Camera::new(CameraIndex::Index(self.index), request)?;
        camera.open_stream()?;
        Ok(camera)
    }
}

impl OpenSource for NativeCamera {
    fn name(&self) -> String {
        format!("/dev/video{}", self.index)
    }

    fn open(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let mut why = "its format is none of those that are spoken here".to_owned();
        for (theirs, format) in FORMATS.into_iter().filter(|(_, format)| self.format.is_none_or(|wanted| wanted == *format)) {
            match self.open_as(theirs) {
                Ok(camera) => {
                    let found = camera.camera_format();
                    let ((width, height), fps) = (self.size, self.fps);
                    if (found.width(), found.height(), found.frame_rate(), found.format()) != (width, height, fps, theirs) {
                        why = format!("expected {width}x{height} {} at {fps} Hz, found {found}", format.fourcc());
                        continue;
                    }
                    let stream = Stream { width, height, format, fps: Some(f64::from(fps)) };
                    return Ok(Box::new(Open { name: self.name(), camera, stream, clock: self.clock.clone(), count: 0 }));
                }
                Err(error) => why = error.to_string(),
            }
        }
        // It may be there later, or free.
        Err(SourceError::Lost { doing: "opening", source_name: self.name(), what: why })
    }
}

struct Open {
    name: String,
    camera: Camera,
    stream: Stream,
    clock: Arc<dyn Clock>,
    count: u64,
}

impl Source for Open {
    fn stream(&self) -> Stream {
        self.stream
    }

    /// Waits for as long as the framework does: that it hangs is told by who asked.
    fn next(&mut self, _: Duration, take: &mut dyn FnMut(&Picture<'_>)) -> Result<bool, SourceError> {
        let frame = self.camera.frame();
        let frame =
            frame.map_err(|error| SourceError::Lost { doing: "reading", source_name: self.name.clone(), what: error.to_string() })?;
        self.count += 1;
        let Stream { width, height, format, .. } = self.stream;
        let stride = width as usize
            * match format {
                PixelFormat::Mjpeg => 0,
                PixelFormat::Nv12 | PixelFormat::Grey => 1,
                PixelFormat::Yuyv | PixelFormat::Grey16 | PixelFormat::Depth16 => 2,
                PixelFormat::Rgb => 3,
            };
        take(&Picture { format, width, height, stride, bytes: frame.buffer(), captured_at: self.clock.now(), sequence: self.count });
        Ok(true)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_framework_it_is_lost_by_its_name() {
        let clock = Arc::new(sinew_core::MockClock::new());
        let error = NativeCamera::new(3, (640, 480), 30, None, clock).open().err().unwrap();
        assert!(matches!(error, SourceError::Lost { .. }) && error.to_string().starts_with("opening /dev/video3: "), "{error}");
    }
}
