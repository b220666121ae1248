//! Cameras: each a thread that reads a source of pictures, and the newest picture for a loop that never waits.
//!
//! ```
//! use sinew_drivers::camera::CameraAddress;
//!
//! let camera: CameraAddress = "front=usb:200901010001,640x480@30,MJPG,rotate=180".parse()?;
//! assert_eq!((camera.name.as_str(), camera.size, camera.fps), ("front", Some((640, 480)), Some(30)));
//! # Ok::<(), sinew_drivers::camera::CameraAddressError>(())
//! ```

mod address;
mod counter;
mod decode;
mod health;
mod jpeg;
#[cfg(feature = "nokhwa")]
mod native;
mod set;
mod shape;
mod source;
mod sources;
mod thread;
/// Cameras on Linux. Elsewhere those of the machine come by the feature `nokhwa`.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod v4l2;

pub use address::{CameraAddress, CameraAddressError, Control, DepthUse, SourceAddress};
pub use counter::{draw_counter, read_counter};
pub use decode::{DecodeError, DecodeOptions, Decoder, show_distances};
pub use health::{CameraHealth, CameraState};
#[cfg(feature = "nokhwa")]
pub use native::NativeCamera;
pub use set::{CameraMonitor, CameraSet, CameraSetError, CameraSetup, Delivery};
pub use shape::{Crop, ShapeError, ShapeOptions, resized, size_before_rotation};
pub use source::{OpenSource, Picture, PixelFormat, Source, SourceError, Stream};
#[cfg(feature = "rtsp")]
pub use sources::Rtsp;
pub use sources::{HttpMjpeg, ImageFiles, Pace, Pattern, ZmqCamera};
pub use thread::WhenCameraLost;
