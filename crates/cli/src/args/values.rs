//! How values are read from the command line.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use sinew_drivers::camera::CameraAddress;

/// More threads only take turns.
pub(super) const MOST_THREADS: u64 = 256;
/// More of anything that is counted is a slip of the finger.
pub(super) const MANY: u64 = 1_000_000;
/// Seeds of later episodes are larger, and must be numbers too.
const MOST_SEED: u64 = u64::MAX / 2;

/// A whole number within `range`.
pub(super) fn whole<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| match (range.start(), range.end()) {
            (least, &u64::MAX) => format!("expected a whole number of at least {least}"),
            (least, most) => format!("expected a whole number from {least} to {most}"),
        })
    }
}

pub(super) fn at_least_one(text: &str) -> Result<u64, String> {
    whole(1..=u64::MAX)(text)
}

pub(super) fn seed(text: &str) -> Result<u64, String> {
    whole(0..=MOST_SEED)(text)
}

pub(super) fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1e9 => Ok(value),
        _ => Err("expected a number above 0, at most 1e9".to_owned()),
    }
}

pub(super) fn zero_or_above(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1e9).contains(&value) => Ok(value),
        _ => Err("expected 0 or a number above it, at most 1e9".to_owned()),
    }
}

/// What is not empty: nothing means the same as an option that was left out.
pub(super) fn words(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("expected a text, found nothing in it".to_owned()) } else { Ok(text.to_owned()) }
}

pub(super) fn png_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let is_png = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("png"));
    if is_png { Ok(path) } else { Err("it is written as PNG; expected a name that ends in .png".to_owned()) }
}

/// A processor that this machine has, where the system says which those are.
pub(super) fn processor(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| "expected the number of a processor".to_owned())?;
    let processors = Path::new("/sys/devices/system/cpu");
    if processors.join("cpu0").exists() && !processors.join(format!("cpu{number}")).exists() {
        let last = std::fs::read_to_string(processors.join("present")).unwrap_or_default();
        return Err(format!("there is no processor {number}, expected one of {}", last.trim()));
    }
    Ok(number)
}

/// The size of a camera's images, and perhaps their rate, as `--camera` takes them.
pub(super) fn size_and_rate(text: &str) -> Result<String, String> {
    let is_one = format!("camera=pattern,{text}").parse::<CameraAddress>().is_ok() && text.contains('x') && !text.contains([',', '=']);
    if is_one { Ok(text.to_owned()) } else { Err("expected a size and perhaps a rate, for example 640x480 or 1280x720@30".to_owned()) }
}

/// What something can be called, also a file of that name, as calibrations are.
pub(super) fn plain_name(text: &str) -> Result<String, String> {
    sinew_core::check_name(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// Where a Rerun viewer listens.
pub(super) fn viewer(text: &str) -> Result<String, String> {
    let is_place = text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if is_place { Ok(text.to_owned()) } else { Err("expected HOST:PORT, for example 127.0.0.1:9876".to_owned()) }
}

/// A host's name, without a port.
pub fn host_name(text: &str) -> Result<String, String> {
    if sinew_remote::is_host_name(text) {
        return Ok(text.to_owned());
    }
    Err("expected a host's name without a port, for example robot.example.com".to_owned())
}

/// An IP address and a port.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected an IP address and a port, for example 127.0.0.1:8000 or [::1]:8000".to_owned())
}
