//! Finding and opening input devices on Linux.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::evdev::{AXES, DeviceState, InputBytes, InputDevice, Open};
use super::evdev_sys;
use super::spacemouse::{OpenReports, Reports};

/// `O_NONBLOCK`.
pub(super) fn open_without_waiting(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// An open device below `/dev/input`. Its events reach whoever else listens too: it isn't grabbed.
struct Device(File);

impl InputBytes for Device {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }

    fn state(&mut self) -> io::Result<DeviceState> {
        let mut state = DeviceState { keys: evdev_sys::keys(&self.0)?, ..DeviceState::default() };
        for (code, axis) in (0..AXES as u16).zip(&mut state.axes) {
            *axis = evdev_sys::axis(&self.0, code)?;
        }
        Ok(state)
    }
}

/// What sysfs says of an input device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFacts {
    /// Below `/dev/input`.
    pub path: PathBuf,
    pub name: String,
    /// Of USB, as a number.
    pub vendor: u16,
    keys: Vec<u64>,
    axes: Vec<u64>,
}

impl InputFacts {
    pub fn has_key(&self, code: u16) -> bool {
        has(&self.keys, code)
    }

    pub fn has_axis(&self, code: u16) -> bool {
        has(&self.axes, code)
    }

    /// Opens it, now and whenever it was gone: then by its name, as it may have another number.
    ///
    /// # Errors
    /// When it may not be read (on most systems by the group `input`).
    pub fn open(&self, reconnects: bool) -> io::Result<InputDevice> {
        let (mut path, name) = (Some(self.path.clone()), self.name.clone());
        let open: Open = Box::new(move || {
            let path = match path.take() {
                Some(path) => path,
                None => input_devices()?.into_iter().find(|facts| facts.name == name).ok_or(io::ErrorKind::NotFound)?.path,
            };
            Ok(Box::new(Device(open_without_waiting(&path)?)))
        });
        InputDevice::new(&self.name, reconnects, open)
    }
}

fn has(words: &[u64], code: u16) -> bool {
    words.get(usize::from(code / 64)).is_some_and(|word| word & (1 << (code % 64)) != 0)
}

/// Every input device that there is, in the order of their numbers.
///
/// # Errors
/// When `/sys` can't be read.
pub fn input_devices() -> io::Result<Vec<InputFacts>> {
    input_devices_of(Path::new("/sys/class/input"), Path::new("/dev/input"))
}

fn input_devices_of(sys: &Path, dev: &Path) -> io::Result<Vec<InputFacts>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(sys) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let file = entry?.file_name();
        let Some(number) = file.to_str().and_then(|name| name.strip_prefix("event")?.parse::<u32>().ok()) else { continue };
        let device = sys.join(&file).join("device");
        // One that is unplugged just now is none.
        let text = |of: &str| std::fs::read_to_string(device.join(of)).map(|text| text.trim().to_owned()).unwrap_or_default();
        let facts = InputFacts {
            path: dev.join(&file),
            name: text("name"),
            vendor: u16::from_str_radix(&text("id/vendor"), 16).unwrap_or(0),
            keys: words(&text("capabilities/key")),
            axes: words(&text("capabilities/abs")),
        };
        found.push((number, facts));
    }
    found.sort_by_key(|(number, _)| *number);
    Ok(found.into_iter().map(|(_, facts)| facts).collect())
}

/// A bitmap as sysfs writes it: words of 64 bits in hexadecimal, the highest first.
fn words(text: &str) -> Vec<u64> {
    text.split_whitespace().rev().map(|word| u64::from_str_radix(word, 16).unwrap_or(0)).collect()
}

/// Of 3Dconnexion, and of Logitech, which made the first ones: those have these products.
const SPACE_MAKER: u16 = 0x256f;
const LOGITECH: u16 = 0x046d;
const LOGITECH_SPACE: std::ops::RangeInclusive<u16> = 0xc603..=0xc62b;

/// An open `/dev/hidrawN`.
struct HidRaw(File);

impl Reports for HidRaw {
    fn read(&mut self, report: &mut [u8]) -> io::Result<usize> {
        self.0.read(report)
    }
}

/// Opens the SpaceMouse at `path`, or the first one that there is.
pub fn open_space_mouse(path: Option<PathBuf>) -> OpenReports {
    Box::new(move || {
        let found = match &path {
            Some(path) => path.clone(),
            None => space_mouse_of(Path::new("/sys/class/hidraw"), Path::new("/dev"))?,
        };
        Ok(Box::new(HidRaw(open_without_waiting(&found)?)))
    })
}

fn space_mouse_of(sys: &Path, dev: &Path) -> io::Result<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(sys)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    files.sort();
    let is_one = |file: &String| {
        let text = std::fs::read_to_string(sys.join(file).join("device/uevent")).unwrap_or_default();
        // `HID_ID=0003:0000256F:0000C635`: the bus, the vendor, the product.
        let mut ids = text.lines().find_map(|line| line.strip_prefix("HID_ID="))?.split(':').skip(1);
        let mut id = || u16::try_from(u32::from_str_radix(ids.next()?, 16).ok()?).ok();
        let (vendor, product) = (id()?, id()?);
        Some(vendor == SPACE_MAKER || vendor == LOGITECH && LOGITECH_SPACE.contains(&product))
    };
    let found = files.into_iter().find(|file| is_one(file).unwrap_or(false));
    Ok(dev.join(found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no SpaceMouse is connected"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_by_what_sysfs_says() {
        let sys = tempfile::tempdir().unwrap();
        let write = |event: &str, of: &str, text: &str| {
            let path = sys.path().join(event).join("device").join(of);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        // An Xbox pad, as its driver says it, after another device of a greater number.
        write("event12", "name", "Power Button\n");
        write("event12", "capabilities/key", "10000000000000 0\n");
        write("event3", "name", "Microsoft X-Box 360 pad\n");
        write("event3", "id/vendor", "045e\n");
        write("event3", "capabilities/key", "7cdb000000000000 0 0 0 0\n");
        write("event3", "capabilities/abs", "3003f\n");
        std::fs::create_dir_all(sys.path().join("mouse0")).unwrap();
        let found = input_devices_of(sys.path(), Path::new("/dev/input")).unwrap();
        assert_eq!(found.iter().map(|facts| facts.name.as_str()).collect::<Vec<_>>(), ["Microsoft X-Box 360 pad", "Power Button"]);
        let pad = &found[0];
        assert_eq!((pad.path.as_path(), pad.vendor), (Path::new("/dev/input/event3"), 0x045e));
        assert!(pad.has_key(0x130) && pad.has_key(0x137) && !pad.has_key(0x138) && pad.has_axis(4) && !pad.has_axis(6));
        assert!(found[1].has_key(116) && !found[1].has_key(0x130));
        assert!(input_devices_of(&sys.path().join("none"), Path::new("/dev/input")).unwrap().is_empty());
    }

    #[test]
    fn a_space_mouse_is_told_by_its_maker() {
        let sys = tempfile::tempdir().unwrap();
        let write = |hidraw: &str, id: &str| {
            let folder = sys.path().join(hidraw).join("device");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("uevent"), format!("DRIVER=hid-generic\nHID_ID={id}\nHID_NAME=a device\n")).unwrap();
        };
        let found = || space_mouse_of(sys.path(), Path::new("/dev"));
        // A mouse of Logitech's.
        write("hidraw0", "0003:0000046D:0000C077");
        write("hidraw1", "no id at all");
        assert_eq!(found().unwrap_err().to_string(), "no SpaceMouse is connected");
        write("hidraw5", "0003:0000256F:0000C635");
        assert_eq!(found().unwrap(), Path::new("/dev/hidraw5"));
        write("hidraw2", "0003:0000046D:0000C626");
        assert_eq!(found().unwrap(), Path::new("/dev/hidraw2"));
    }
}
