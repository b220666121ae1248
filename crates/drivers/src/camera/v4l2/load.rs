//! Whether the cameras of a session fit through their USB links, before one of them is refused while the others stream.
//!
//! An estimate, and a mild one. Of a link's bits a second cameras get what USB leaves to transfers that have a time: 90 % of a
//! frame at 12 Mbit/s and 80 % of a microframe at 480 (USB 2.0, chapter 5.6.4), and 90 % of what its coding leaves from 5 Gbit/s
//! on; Linux's driver of USB 3 controllers reckons with the same parts (`FS_BW_RESERVED` and its like in `xhci.h`). Raw
//! pictures need their bytes and the 12 bytes of header that UVC 1.5 (chapter 2.4.3.3) puts before each packet of up to 3072. A
//! JPEG is taken for 2 bits a pixel, which a picture with many details and quality 90 needs. Many cameras reserve more than they
//! send, up to 24.6 MB/s (3072 bytes in each of 8000 microframes a second), so that a link that looks well may still refuse.

use std::fmt;

use super::FoundCamera;
use crate::camera::PixelFormat;

/// Bits of a pixel of a JPEG.
const JPEG_BITS: f64 = 2.0;
/// A packet's bytes, and those of them that are its header.
const PACKET: f64 = 3072.0;
const HEADER: f64 = 12.0;

/// A camera, and how it is to be used.
#[derive(Clone, Copy, Debug)]
pub struct UsbUser<'a> {
    pub camera: &'a FoundCamera,
    pub width: u32,
    pub height: u32,
    pub fps: f64,
    pub format: PixelFormat,
}

impl UsbUser<'_> {
    /// Bytes a second that it sends.
    pub fn bytes_per_s(&self) -> f64 {
        let bits = match self.format {
            PixelFormat::Mjpeg => JPEG_BITS,
            PixelFormat::Grey => 8.0,
            PixelFormat::Nv12 => 12.0,
            PixelFormat::Yuyv | PixelFormat::Grey16 | PixelFormat::Depth16 => 16.0,
            PixelFormat::Rgb => 24.0,
        };
        f64::from(self.width) * f64::from(self.height) * self.fps * bits / 8.0 * PACKET / (PACKET - HEADER)
    }
}

/// What goes through a link: from a camera, or from a hub with all that is behind it, to the next hub; or through a root hub.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkLoad {
    /// Such as `1-1` for the hub in port 1 of bus 1, and `usb1` for that bus.
    pub link: String,
    /// Megabits a second that it was connected with.
    pub speed_mbit_per_s: f64,
    pub needed_bytes_per_s: f64,
    /// What it carries of pictures.
    pub carried_bytes_per_s: f64,
    /// Whose pictures: names of nodes.
    pub cameras: Vec<String>,
}

impl LinkLoad {
    pub fn fits(&self) -> bool {
        self.needed_bytes_per_s <= self.carried_bytes_per_s
    }
}

impl fmt::Display for LinkLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [needed, carried] = [self.needed_bytes_per_s, self.carried_bytes_per_s].map(|bytes| bytes / 1e6);
        let cameras = self.cameras.join(", ");
        write!(f, "{} ({} Mbit/s) carries about {carried:.1} MB/s, {cameras} need about {needed:.1} MB/s", self.link, self.speed_mbit_per_s)
    }
}

/// The load of all links that cameras share or have alone, those with the greatest part of what they carry first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsbLoad {
    pub links: Vec<LinkLoad>,
}

impl UsbLoad {
    /// Links that are asked for more than they carry.
    pub fn too_much(&self) -> impl Iterator<Item = &LinkLoad> {
        self.links.iter().filter(|link| !link.fits())
    }
}

/// Bytes a second of pictures that a link carries.
fn carried(speed_mbit_per_s: f64) -> f64 {
    let bytes = speed_mbit_per_s * 1e6 / 8.0;
    match speed_mbit_per_s {
        ..=12.0 => bytes * 0.9,
        12.0..=480.0 => bytes * 0.8,
        // 8 of 10 bits are data.
        ..=5000.0 => bytes * 0.9 * 0.8,
        // 128 of 132 are.
        _ => bytes * 0.9 * 128.0 / 132.0,
    }
}

/// What cameras on USB need of each link on their ways. Others need none.
pub fn usb_load(users: &[UsbUser<'_>]) -> UsbLoad {
    let mut links: Vec<LinkLoad> = Vec::new();
    for user in users {
        for (name, speed) in user.camera.usb.iter().flat_map(|usb| &usb.links) {
            let link = match links.iter().position(|link| link.link == *name) {
                Some(known) => &mut links[known],
                None => {
                    let (link, carried) = (name.clone(), carried(*speed));
                    links.push(LinkLoad {
                        link,
                        speed_mbit_per_s: *speed,
                        needed_bytes_per_s: 0.0,
                        carried_bytes_per_s: carried,
                        cameras: vec![],
                    });
                    let last = links.len() - 1;
                    &mut links[last]
                }
            };
            link.needed_bytes_per_s += user.bytes_per_s();
            link.cameras.push(user.camera.node.clone());
        }
    }
    let share = |link: &LinkLoad| link.needed_bytes_per_s / link.carried_bytes_per_s;
    links.sort_by(|a, b| share(b).total_cmp(&share(a)));
    UsbLoad { links }
}

#[cfg(test)]
mod tests {
    use super::super::{NodeState, UsbPlace};
    use super::*;

    fn camera(number: u32, links: &[(&str, f64)]) -> FoundCamera {
        let links: Vec<_> = links.iter().map(|(name, speed)| ((*name).to_owned(), *speed)).collect();
        let usb = UsbPlace { vendor: 1, product: 2, serial: None, port: links[0].0.clone(), interface: 0, links };
        FoundCamera {
            node: format!("video{number}"),
            card: "Camera".into(),
            index: 0,
            usb: Some(usb),
            state: NodeState::Free,
            address: String::new(),
        }
    }

    fn user(camera: &FoundCamera, format: PixelFormat) -> UsbUser<'_> {
        UsbUser { camera, width: 640, height: 480, fps: 30.0, format }
    }

    #[test]
    fn a_third_raw_stream_is_too_much_for_a_hub_and_jpegs_are_not() {
        let cameras: Vec<_> = (0..3)
            .map(|port| camera(port, &[(["1-1.1", "1-1.2", "1-1.3"][port as usize], 480.0), ("1-1", 480.0), ("usb1", 480.0)]))
            .collect();
        let load = |count: usize, format| usb_load(&cameras[..count].iter().map(|camera| user(camera, format)).collect::<Vec<_>>());
        assert_eq!(load(2, PixelFormat::Yuyv).too_much().count(), 0);
        let raw = load(3, PixelFormat::Yuyv);
        assert_eq!(raw.too_much().map(|link| link.link.as_str()).collect::<Vec<_>>(), ["1-1", "usb1"]);
        let words = raw.links[0].to_string();
        assert_eq!(words, "1-1 (480 Mbit/s) carries about 48.0 MB/s, video0, video1, video2 need about 55.5 MB/s");
        assert_eq!(load(3, PixelFormat::Mjpeg).too_much().count(), 0);
        assert_eq!(load(0, PixelFormat::Mjpeg), UsbLoad::default());
    }

    #[test]
    fn buses_of_their_own_share_nothing() {
        let one = camera(0, &[("1-1", 480.0), ("usb1", 480.0)]);
        let two = camera(1, &[("2-1", 5000.0), ("usb2", 5000.0)]);
        let mut three = camera(2, &[("3-1", 12.0), ("usb3", 12.0)]);
        let users = [user(&one, PixelFormat::Yuyv), user(&two, PixelFormat::Rgb), user(&three, PixelFormat::Grey)];
        let load = usb_load(&users);
        assert_eq!(load.links.len(), 6);
        assert_eq!(load.too_much().map(|link| link.link.as_str()).collect::<Vec<_>>(), ["3-1", "usb3"]);
        three.usb = None;
        assert_eq!(usb_load(&[user(&three, PixelFormat::Grey)]), UsbLoad::default());
    }
}
