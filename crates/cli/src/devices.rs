//! Cameras of this machine: those of Linux, and elsewhere those that the feature `nokhwa` brings.

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use linux::{check_usb, open};
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub use others::{check_usb, open};
use sinew_core::CameraDescription;
use sinew_drivers::camera::PixelFormat;

/// The format that is asked of a device, which is in `camera` by now; `None` leaves it to the driver.
fn format_of(camera: &CameraDescription) -> anyhow::Result<Option<PixelFormat>> {
    use anyhow::Context as _;
    let unknown = |name: &str| format!("reading the format of camera {}: expected one such as MJPG, found {name:?}", camera.name);
    camera.format.as_deref().map(|name| PixelFormat::named(name).with_context(|| unknown(name))).transpose()
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod linux {
    use std::sync::Arc;

    use sinew_core::{CameraDescription, Clock};
    use sinew_drivers::camera::v4l2::{self, Controls, FoundCamera, Roots, Setting, UsbUser, V4l2Camera, V4l2Options};
    use sinew_drivers::camera::{CameraAddress, Control, OpenSource, PixelFormat, SourceAddress};

    use super::format_of;
    use crate::cameras::USUAL;
    use crate::text::note;

    /// The device that `address` names.
    pub fn open(camera: &CameraDescription, address: &CameraAddress, clock: Arc<dyn Clock>) -> anyhow::Result<Box<dyn OpenSource>> {
        let options = V4l2Options {
            size: Some(address.capture_size(camera)),
            fps: camera.fps.map(f64::from),
            format: format_of(camera)?,
            controls: controls_of(address),
        };
        Ok(Box::new(V4l2Camera::new(device_of(&address.source)?, options, clock)))
    }

    fn device_of(source: &SourceAddress) -> anyhow::Result<v4l2::Address> {
        Ok(source.to_string().parse()?)
    }

    fn controls_of(address: &CameraAddress) -> Controls {
        let setting = |control: Control| match control {
            Control::Auto => Setting::Auto,
            Control::Value(value) => Setting::Value(value),
        };
        Controls {
            exposure: address.exposure.map(setting),
            white_balance: address.white_balance.map(setting),
            focus: address.focus.map(setting),
            ..Controls::default()
        }
    }

    /// Says where the cameras may be too many for a USB link. An estimate: nothing is refused for it.
    pub fn check_usb(meant: &[(&CameraDescription, &CameraAddress)]) {
        let devices: Vec<(&CameraDescription, &CameraAddress, FoundCamera)> = meant
            .iter()
            .filter_map(|(camera, address)| Some((*camera, *address, device_of(&address.source).ok()?.camera(&Roots::default()).ok()??)))
            .collect();
        let users: Vec<UsbUser<'_>> = devices
            .iter()
            .filter_map(|(camera, address, device)| {
                let (width, height) = address.capture_size(camera);
                let format = format_of(camera).ok()?.unwrap_or(PixelFormat::Mjpeg);
                Some(UsbUser { camera: device, width, height, fps: f64::from(camera.fps.unwrap_or(USUAL.2)), format })
            })
            .collect();
        v4l2::usb_load(&users).too_much().for_each(|link| note!("USB: {link}; another socket, a smaller size or MJPG helps"));
    }
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
mod others {
    use std::sync::Arc;

    use sinew_core::{CameraDescription, Clock};
    use sinew_drivers::camera::{CameraAddress, OpenSource, SourceAddress};

    /// The system's camera of a number: nothing else stays the same there, as far as is known.
    pub fn open(camera: &CameraDescription, address: &CameraAddress, clock: Arc<dyn Clock>) -> anyhow::Result<Box<dyn OpenSource>> {
        let SourceAddress::Device(path) = &address.source else {
            anyhow::bail!("--camera {address}: usb:SERIAL and path:PORT are for Linux, expected a number such as 0");
        };
        let has_controls = address.exposure.or(address.white_balance).or(address.focus).is_some();
        anyhow::ensure!(!has_controls, "--camera {address}: exposure, wb and focus are set on Linux only");
        native(path, camera, address, clock)
    }

    #[cfg(feature = "nokhwa")]
    fn native(
        path: &str,
        camera: &CameraDescription,
        address: &CameraAddress,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Box<dyn OpenSource>> {
        use anyhow::Context as _;
        let index = path.strip_prefix("/dev/video").and_then(|index| index.parse().ok());
        let index = index.with_context(|| format!("--camera {address}: expected a number such as 0"))?;
        let (size, fps) = (address.capture_size(camera), camera.fps.unwrap_or(crate::cameras::USUAL.2));
        let format = super::format_of(camera)?;
        Ok(Box::new(sinew_drivers::camera::NativeCamera::new(index, size, fps, format, clock)))
    }

    #[cfg(not(feature = "nokhwa"))]
    fn native(_: &str, _: &CameraDescription, address: &CameraAddress, _: Arc<dyn Clock>) -> anyhow::Result<Box<dyn OpenSource>> {
        anyhow::bail!(
            "--camera {address}: this build of sinew leaves out cameras of this system; `cargo build --release -p sinew-cli --features \
             nokhwa` makes one with them"
        )
    }

    /// Nothing is known of these.
    pub fn check_usb(_: &[(&CameraDescription, &CameraAddress)]) {}
}
