//! Which cameras there are, and which of them an address means now.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use super::sys::{CAN_CAPTURE, Capability, Device, HAS_DEVICE_CAPABILITIES, Numbers, QUERYCAP};
use super::{lost, unusable};
use crate::camera::SourceError;

/// Where the system's folders are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    pub sys: PathBuf,
    pub dev: PathBuf,
    pub proc: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { sys: "/sys".into(), dev: "/dev".into(), proc: "/proc".into() }
    }
}

impl Roots {
    /// The path of a device by its name, such as `video0`.
    pub fn device(&self, node: &str) -> PathBuf {
        self.dev.join(node)
    }
}

/// How a camera is named by its user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `usb:SERIAL`, by the serial number that it says of itself; `usb:SERIAL@1` is the second of several pictures that one
    /// device has, such as colour and depth, counted from 0.
    Usb { serial: String, picture: Option<usize> },
    /// `path:1-1.4`, by the bus and the ports that it is plugged into; `path:1-1.4@1` as above.
    Port { path: String, picture: Option<usize> },
    /// `/dev/video0`, or a link to it. After a replug another camera may have it.
    Node(PathBuf),
}

/// A text that is no address.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("reading the address of a camera: expected usb:SERIAL, path:PORT such as path:1-1.4, or a path such as /dev/video0, found {0:?}")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refused = || AddressError(text.to_owned());
        let parts = |rest: &str| match rest.rsplit_once('@') {
            Some((name, picture)) if picture.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok((name.to_owned(), Some(picture.parse().map_err(|_| refused())?)))
            }
            _ => Ok((rest.to_owned(), None)),
        };
        match text.split_once(':') {
            _ if text.starts_with('/') => Ok(Self::Node(text.into())),
            Some(("usb", rest)) => match parts(rest)? {
                (serial, picture) if !serial.is_empty() => Ok(Self::Usb { serial, picture }),
                _ => Err(refused()),
            },
            Some(("path", rest)) => match parts(rest)? {
                (path, picture) if is_port(&path) => Ok(Self::Port { path, picture }),
                _ => Err(refused()),
            },
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let picture = match self {
            Self::Usb { serial, picture } => {
                write!(f, "usb:{serial}")?;
                picture
            }
            Self::Port { path, picture } => {
                write!(f, "path:{path}")?;
                picture
            }
            Self::Node(path) => return path.display().fmt(f),
        };
        picture.map_or(Ok(()), |picture| write!(f, "@{picture}"))
    }
}

/// Such as `1-1.4`: a bus, and a port of each hub on the way.
fn is_port(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('-').is_some_and(|(bus, ports)| is_number(bus) && ports.split('.').all(is_number))
}

/// Whether a camera can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeState {
    Free,
    /// Another program streams from it: which one, where the system says.
    Busy(Option<String>),
    /// It can't be opened: why.
    Refused(String),
}

/// Where a camera is plugged in, and what it says of itself there.
#[derive(Clone, Debug, PartialEq)]
pub struct UsbPlace {
    pub vendor: u16,
    pub product: u16,
    pub serial: Option<String>,
    /// Such as `1-1.4`: bus 1, its port 1, port 4 of the hub there.
    pub port: String,
    pub interface: u8,
    /// From the camera to the root hub, what each is plugged into its next with: name and megabits a second.
    pub links: Vec<(String, f64)>,
}

/// A device that gives pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundCamera {
    /// Such as `video0`.
    pub node: String,
    /// What its driver calls it.
    pub card: String,
    /// Counts a device's nodes, those with data about pictures, too.
    pub index: u32,
    pub usb: Option<UsbPlace>,
    pub state: NodeState,
    /// See [`FoundCamera::address`].
    pub(super) address: String,
}

/// All cameras of the machine, in the order of their numbers. A camera whose nodes can't be opened is known by the first one.
///
/// # Errors
/// When the system's list can't be read. There is none where no camera was ever connected, and then there are no cameras.
pub fn cameras(roots: &Roots) -> Result<Vec<FoundCamera>, SourceError> {
    let mut found: Vec<_> = nodes(roots)?.into_iter().filter_map(|node| node.looked_at(roots)).collect();
    let addresses: Vec<_> = found.iter().map(|camera| camera.address_among(&found)).collect();
    found.iter_mut().zip(addresses).for_each(|(camera, address)| camera.address = address);
    Ok(found)
}

/// What the system's list says of all nodes. None of them was opened.
fn nodes(roots: &Roots) -> Result<Vec<FoundCamera>, SourceError> {
    let list = roots.sys.join("class/video4linux");
    let entries = match fs::read_dir(&list) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(&list.display().to_string(), "listing cameras in", error)),
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let node = entry.file_name().to_string_lossy().into_owned();
        let Some(number) = node.strip_prefix("video").and_then(|number| number.parse::<u32>().ok()) else { continue };
        let folder = entry.path();
        let card = read(&folder, "name").unwrap_or_default();
        let index = read(&folder, "index").and_then(|index| index.parse().ok()).unwrap_or(0);
        // A device may vanish while it is looked at, and then there is nothing behind the link.
        let usb = folder.join("device").canonicalize().ok().and_then(|interface| usb_place(&interface));
        let mut camera = FoundCamera { node, card, index, usb, state: NodeState::Free, address: String::new() };
        camera.address = camera.address_among(&[]);
        found.push((number, camera));
    }
    found.sort_by_key(|(number, _)| *number);
    Ok(found.into_iter().map(|(_, camera)| camera).collect())
}

fn read(folder: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(folder.join(name)).ok()?;
    Some(text.trim().chars().filter(|c| !c.is_control()).collect::<String>()).filter(|text| !text.is_empty())
}

fn usb_place(interface: &Path) -> Option<UsbPlace> {
    let device = interface.ancestors().find(|folder| folder.join("idVendor").is_file())?;
    let hex = |folder: &Path, name: &str| u16::from_str_radix(&read(folder, name)?, 16).ok();
    // Root hubs are called usb1; what their folders lie in is no USB device.
    let links = device.ancestors().take_while(|folder| folder.join("idVendor").is_file()).filter_map(|folder| {
        let name = folder.file_name()?.to_string_lossy().into_owned();
        Some((name, read(folder, "speed")?.parse().ok()?))
    });
    Some(UsbPlace {
        vendor: hex(device, "idVendor")?,
        product: hex(device, "idProduct")?,
        serial: read(device, "serial"),
        port: device.file_name()?.to_string_lossy().into_owned(),
        interface: hex(interface, "bInterfaceNumber").and_then(|number| u8::try_from(number).ok()).unwrap_or(0),
        links: links.collect(),
    })
}

impl FoundCamera {
    /// Opens it for a moment; `None` when it gives no pictures, as nodes with data about pictures don't.
    fn looked_at(mut self, roots: &Roots) -> Option<Self> {
        let path = roots.device(&self.node);
        let device = match Device::open(&path) {
            Ok(device) => device,
            Err(error) => {
                self.state = NodeState::Refused(error.to_string());
                // Pictures have the first node of a device.
                return (self.index == 0).then_some(self);
            }
        };
        let mut capability = Capability::zeros();
        if device.call(&QUERYCAP, &mut capability).is_ok() && capabilities(&capability) & CAN_CAPTURE == 0 {
            return None;
        }
        if device.is_taken() {
            drop(device);
            self.state = NodeState::Busy(holder(&roots.proc, &path));
        }
        Some(self)
    }

    /// The address that stays when its number changes: by the serial number where no other camera has that, else by the port.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    fn address_among(&self, all: &[Self]) -> String {
        let Some(usb) = &self.usb else { return format!("/dev/{}", self.node) };
        let others = || all.iter().filter_map(|camera| Some((camera, camera.usb.as_ref()?)));
        let is_own = |serial: &String| others().all(|(_, other)| other.serial.as_ref() != Some(serial) || other.port == usb.port);
        let device = match &usb.serial {
            Some(serial) if is_own(serial) => format!("usb:{serial}"),
            _ => format!("path:{}", usb.port),
        };
        let mut pictures: Vec<_> = others().filter(|(_, other)| other.port == usb.port).map(|(camera, _)| camera).collect();
        pictures.sort_by_key(|camera| camera.place());
        match pictures.iter().position(|camera| camera.node == self.node) {
            Some(picture) if pictures.len() > 1 => format!("{device}@{picture}"),
            _ => device,
        }
    }

    /// By which a device's pictures are counted, as it lists them itself.
    fn place(&self) -> (Option<u8>, u32) {
        (self.usb.as_ref().map(|usb| usb.interface), self.index)
    }
}

impl fmt::Display for FoundCamera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.node, self.card)?;
        if let Some(usb) = &self.usb {
            write!(f, ", {:04x}:{:04x}, {}", usb.vendor, usb.product, usb.port)?;
            if let Some(serial) = &usb.serial {
                write!(f, ", serial number {serial}")?;
            }
        }
        f.write_str(")")
    }
}

pub(super) fn capabilities(capability: &Capability) -> u32 {
    match capability.capabilities & HAS_DEVICE_CAPABILITIES {
        0 => capability.capabilities,
        _ => capability.device_capabilities,
    }
}

/// The device that an address means now.
pub(super) struct Meant {
    pub path: PathBuf,
    /// What the system's list says of it, where it is in there.
    pub camera: Option<FoundCamera>,
}

impl Address {
    /// The camera that it means now; `None` for a node that the system's list does not have.
    ///
    /// # Errors
    /// When there is none, or there are several.
    pub fn camera(&self, roots: &Roots) -> Result<Option<FoundCamera>, SourceError> {
        Ok(self.find(roots)?.camera)
    }

    pub(super) fn find(&self, roots: &Roots) -> Result<Meant, SourceError> {
        const DOING: &str = "finding";
        let name = self.to_string();
        let all = nodes(roots)?;
        let is_usb = |camera: &FoundCamera, is_it: &dyn Fn(&UsbPlace) -> bool| camera.usb.as_ref().is_some_and(is_it);
        let (matching, picture): (Vec<_>, _) = match self {
            Self::Node(path) => {
                let path = path.canonicalize().map_err(|error| lost(&name, DOING, format!("{error}; {}", there_are(&all, roots))))?;
                let camera = all.into_iter().find(|camera| path.file_name().is_some_and(|file| file == camera.node.as_str()));
                return Ok(Meant { path, camera });
            }
            Self::Usb { serial, picture } => {
                (all.iter().filter(|camera| is_usb(camera, &|usb| usb.serial.as_ref() == Some(serial))).collect(), picture)
            }
            Self::Port { path, picture } => (all.iter().filter(|camera| is_usb(camera, &|usb| usb.port == *path)).collect(), picture),
        };
        let mut found: Vec<FoundCamera> = matching.into_iter().cloned().filter_map(|camera| camera.looked_at(roots)).collect();
        let list = |found: &[FoundCamera]| found.iter().map(FoundCamera::to_string).collect::<Vec<_>>().join(", ");
        let port = |camera: &FoundCamera| camera.usb.as_ref().map(|usb| usb.port.clone());
        if found.iter().any(|camera| port(camera) != port(&found[0])) {
            let ports: Vec<_> = found.iter().filter_map(port).map(|port| format!("path:{port}")).collect();
            let (list, ports) = (list(&found), ports.join(" or "));
            return Err(unusable(&name, DOING, format!("several cameras have this serial number: {list}; name one by its port, {ports}")));
        }
        found.sort_by_key(FoundCamera::place);
        let count = found.len();
        let camera = match (picture, count) {
            (_, 0) => return Err(lost(&name, DOING, format!("it is not connected; {}", there_are(&all, roots)))),
            (None, 1) => found.remove(0),
            (None, _) => {
                let names: Vec<_> = (0..count).map(|picture| format!("{name}@{picture}")).collect();
                let (list, names) = (list(&found), names.join(", "));
                return Err(unusable(&name, DOING, format!("it gives {count} pictures: {list}; name one as {names}")));
            }
            (Some(picture), _) if *picture < count => found.remove(*picture),
            (Some(_), _) => return Err(unusable(&name, DOING, format!("it gives {count} pictures, counted from 0: {}", list(&found)))),
        };
        Ok(Meant { path: roots.device(&camera.node), camera: Some(camera) })
    }
}

fn there_are(all: &[FoundCamera], roots: &Roots) -> String {
    let cameras: Vec<_> = all.iter().cloned().filter_map(|node| node.looked_at(roots)).map(|camera| camera.to_string()).collect();
    if cameras.is_empty() { "there is no camera".to_owned() } else { format!("there are {}", cameras.join(", ")) }
}

/// Which program has a device open, where the system lets that be read: that of other users only to root.
pub(super) fn holder(proc: &Path, path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    fs::read_dir(proc).ok()?.flatten().find_map(|process| {
        let id: u32 = process.file_name().to_str()?.parse().ok()?;
        let files = fs::read_dir(process.path().join("fd")).ok()?;
        files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|target| target == path)).then(|| {
            let name = read(&process.path(), "comm").unwrap_or_default();
            format!("{name} (process {id})")
        })
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let usb = |serial: &str, picture| Address::Usb { serial: serial.into(), picture };
        let port = |path: &str, picture| Address::Port { path: path.into(), picture };
        for (text, address) in [
            ("usb:200901010001", usb("200901010001", None)),
            ("usb:A@B", usb("A@B", None)),
            ("usb:A@B@1", usb("A@B", Some(1))),
            ("path:1-1.4", port("1-1.4", None)),
            ("path:12-3@0", port("12-3", Some(0))),
            ("/dev/video2", Address::Node("/dev/video2".into())),
            ("/dev/v4l/by-id/usb-a:b", Address::Node("/dev/v4l/by-id/usb-a:b".into())),
        ] {
            assert_eq!(text.parse(), Ok(address.clone()));
            assert_eq!(address.to_string(), text);
        }
        for text in [
            "",
            "usb:",
            "usb:@0",
            "path:",
            "path:1",
            "path:1-",
            "path:1-1.",
            "path:a-1",
            "path:../x",
            "video0",
            "0",
            "usb:A@99999999999999999999",
        ] {
            assert!(text.parse::<Address>().unwrap_err().to_string().contains(&format!("{text:?}")), "{text}");
        }
    }

    /// A camera's folders as the kernel has them.
    fn plug_in(roots: &Roots, node: &str, index: u32, place: &str, files: &[(&str, &str)]) {
        let device = roots.sys.join("devices/pci0000:00/0000:00:14.0").join(place);
        let name = device.file_name().unwrap().to_str().unwrap().to_owned();
        let own = device.join(format!("{name}:1.0/video4linux/{node}"));
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("name"), format!("Camera {node}\n")).unwrap();
        fs::write(own.join("index"), format!("{index}\n")).unwrap();
        let _ = symlink("../../../".to_owned() + &format!("{name}:1.0"), own.join("device"));
        for (file, text) in files {
            fs::write(device.join(file), text).unwrap();
        }
        fs::create_dir_all(roots.sys.join("class/video4linux")).unwrap();
        symlink(&own, roots.sys.join("class/video4linux").join(node)).unwrap();
    }

    fn machine() -> (tempfile::TempDir, Roots) {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots { sys: folder.path().join("sys"), dev: folder.path().join("dev"), proc: "/proc".into() };
        let hub = roots.sys.join("devices/pci0000:00/0000:00:14.0/usb1/1-1");
        fs::create_dir_all(&hub).unwrap();
        for (folder, vendor) in [(hub.as_path(), "05e3\n"), (hub.parent().unwrap(), "1d6b\n")] {
            fs::write(folder.join("idVendor"), vendor).unwrap();
            fs::write(folder.join("speed"), "480\n").unwrap();
        }
        (folder, roots)
    }

    const FILES: [(&str, &str); 4] = [("idVendor", "046d\n"), ("idProduct", "082d\n"), ("speed", "480\n"), ("serial", "AB12\n")];

    #[test]
    fn cameras_are_found_where_the_kernel_lists_them() {
        let (_folder, roots) = machine();
        assert_eq!(cameras(&roots), Ok(vec![]));
        plug_in(&roots, "video10", 0, "usb1/1-1/1-1.4", &FILES);
        plug_in(&roots, "video11", 1, "usb1/1-1/1-1.4", &FILES);
        plug_in(&roots, "video2", 0, "usb1/1-2", &FILES[..3]);
        let found = cameras(&roots).unwrap();
        // No node can be opened here, so that the second one of the first camera counts as one of data.
        assert_eq!(found.iter().map(|camera| camera.node.as_str()).collect::<Vec<_>>(), ["video2", "video10"]);
        let usb = found[1].usb.as_ref().unwrap();
        assert_eq!((usb.vendor, usb.product, usb.serial.as_deref(), usb.port.as_str()), (0x046d, 0x082d, Some("AB12"), "1-1.4"));
        assert_eq!(usb.links, [("1-1.4".to_owned(), 480.0), ("1-1".to_owned(), 480.0), ("usb1".to_owned(), 480.0)]);
        assert_eq!((found[0].address(), found[1].address()), ("path:1-2".into(), "usb:AB12".into()));
        assert!(matches!(&found[0].state, NodeState::Refused(why) if why.contains("No such file")));
        let meant = "usb:AB12".parse::<Address>().unwrap().find(&roots).unwrap();
        assert_eq!(meant.path, roots.dev.join("video10"));
        let error = "usb:CD".parse::<Address>().unwrap().find(&roots).err().unwrap();
        assert!(matches!(&error, SourceError::Lost { what, .. } if what.contains("video10 (Camera video10, 046d:082d, 1-1.4")), "{error}");
    }

    #[test]
    fn two_cameras_of_one_serial_number_are_told_apart_by_their_ports() {
        let (_folder, roots) = machine();
        plug_in(&roots, "video0", 0, "usb1/1-1/1-1.4", &FILES);
        plug_in(&roots, "video2", 0, "usb1/1-1/1-1.3", &FILES);
        let found = cameras(&roots).unwrap();
        assert_eq!((found[0].address(), found[1].address()), ("path:1-1.4".into(), "path:1-1.3".into()));
        let error = "usb:AB12".parse::<Address>().unwrap().find(&roots).err().unwrap();
        assert!(matches!(&error, SourceError::Unusable { what, .. } if what.contains("path:1-1.4 or path:1-1.3")), "{error}");
        assert_eq!("path:1-1.3".parse::<Address>().unwrap().find(&roots).unwrap().path, roots.dev.join("video2"));
    }

    #[test]
    fn who_holds_a_device_is_named() {
        let held = tempfile::NamedTempFile::new().unwrap();
        let id = std::process::id();
        assert!(holder(Path::new("/proc"), held.path()).unwrap().ends_with(&format!("(process {id})")));
        let (path, closed) = (held.path().with_extension("other"), held);
        fs::write(&path, "").unwrap();
        assert_eq!(holder(Path::new("/proc"), &path), None);
        fs::remove_file(&path).unwrap();
        drop(closed);
    }
}
