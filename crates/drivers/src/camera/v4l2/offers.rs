//! What a camera offers: formats, sizes and rates.

use std::fmt;
use std::io;

use super::sys::{
    CAPTURE, DISCRETE, Device, ENUM_FMT, ENUM_FRAMEINTERVALS, ENUM_FRAMESIZES, FormatOffer, Fraction, IntervalOffer, Numbers, SizeOffer,
};
use crate::camera::PixelFormat;

/// More than any camera lists. A driver that never ends would be listened to for ever.
const MOST_OFFERS: u32 = 256;

/// A format's name in four letters, as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FourCc(pub [u8; 4]);

impl FourCc {
    pub(super) fn code(self) -> u32 {
        u32::from_le_bytes(self.0)
    }

    pub(super) fn of_code(code: u32) -> Self {
        Self(code.to_le_bytes())
    }

    /// The name that cameras give to `format`.
    pub fn of(format: PixelFormat) -> Self {
        Self(*match format {
            PixelFormat::Mjpeg => b"MJPG",
            PixelFormat::Yuyv => b"YUYV",
            PixelFormat::Nv12 => b"NV12",
            PixelFormat::Rgb => b"RGB3",
            PixelFormat::Grey => b"GREY",
            PixelFormat::Grey16 => b"Y16 ",
            PixelFormat::Depth16 => b"Z16 ",
        })
    }

    /// What it means; `None` for one that is not read here.
    pub fn format(self) -> Option<PixelFormat> {
        Some(match &self.0 {
            b"MJPG" | b"JPEG" => PixelFormat::Mjpeg,
            b"YUYV" => PixelFormat::Yuyv,
            b"NV12" => PixelFormat::Nv12,
            b"RGB3" => PixelFormat::Rgb,
            b"GREY" => PixelFormat::Grey,
            b"Y16 " => PixelFormat::Grey16,
            b"Z16 " => PixelFormat::Depth16,
            _ => return None,
        })
    }
}

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(String::from_utf8_lossy(&self.0).trim_end().escape_debug().to_string().as_str())
    }
}

/// Numbers from `least` to `most` by `step`: pixels of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    pub least: u32,
    pub most: u32,
    pub step: u32,
}

impl Steps {
    fn one(number: u32) -> Self {
        Self { least: number, most: number, step: 1 }
    }

    pub fn has(self, number: u32) -> bool {
        (self.least..=self.most).contains(&number) && (number - self.least).is_multiple_of(self.step.max(1))
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.least == self.most {
            true => write!(f, "{}", self.least),
            false => write!(f, "{}..{} by {}", self.least, self.most, self.step),
        }
    }
}

/// Pictures a second.
#[derive(Clone, Debug, PartialEq)]
pub enum Rates {
    Listed(Vec<f64>),
    Between(f64, f64),
    /// The driver doesn't say.
    Unknown,
}

/// Whether two rates are one: 30 and 30000 / 1001 are.
pub(super) fn is_same_rate(a: f64, b: f64) -> bool {
    (a - b).abs() <= 0.005 * a.max(b)
}

impl Rates {
    pub fn has(&self, fps: f64) -> bool {
        match self {
            Self::Listed(rates) => rates.iter().any(|rate| is_same_rate(*rate, fps)),
            Self::Between(least, most) => (*least..=*most).contains(&fps) || is_same_rate(*least, fps) || is_same_rate(*most, fps),
            Self::Unknown => true,
        }
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let round = |rate: &f64| ((rate * 100.0).round() / 100.0).to_string();
        match self {
            Self::Listed(rates) => f.write_str(&rates.iter().map(round).collect::<Vec<_>>().join(", ")),
            Self::Between(least, most) => write!(f, "{} to {}", round(least), round(most)),
            Self::Unknown => f.write_str("any rate"),
        }
    }
}

/// A size, or a range of sizes, with its rates (a range's: those of its largest).
#[derive(Clone, Debug, PartialEq)]
pub struct OfferedSize {
    pub widths: Steps,
    pub heights: Steps,
    pub rates: Rates,
}

/// A format that a camera offers.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    pub four_cc: FourCc,
    /// Empty where the driver doesn't list them.
    pub sizes: Vec<OfferedSize>,
}

impl Offer {
    pub fn has_size(&self, width: u32, height: u32) -> bool {
        self.sizes.is_empty() || self.sizes.iter().any(|size| size.widths.has(width) && size.heights.has(height))
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<_> = self.sizes.iter().map(|size| format!("{}x{} at {}", size.widths, size.heights, size.rates)).collect();
        write!(f, "{} {}", self.four_cc, if sizes.is_empty() { "of sizes that it does not list".into() } else { sizes.join("; ") })
    }
}

/// All that is offered, in a line.
pub(super) fn in_words(offers: &[Offer]) -> String {
    offers.iter().map(Offer::to_string).collect::<Vec<_>>().join(" | ")
}

/// Asks for one after another until there is none, or the driver knows no such question.
fn each<T>(mut ask: impl FnMut(u32) -> io::Result<T>) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    for index in 0..MOST_OFFERS {
        match ask(index) {
            Ok(one) => found.push(one),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTTY)) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

pub(super) fn of_device(device: &Device) -> io::Result<Vec<Offer>> {
    let formats = each(|index| {
        let mut offer = FormatOffer { index, kind: CAPTURE, ..FormatOffer::zeros() };
        device.call(&ENUM_FMT, &mut offer).map(|()| offer.four_cc)
    })?;
    formats.into_iter().map(|code| Ok(Offer { four_cc: FourCc::of_code(code), sizes: sizes(device, code)? })).collect()
}

fn sizes(device: &Device, four_cc: u32) -> io::Result<Vec<OfferedSize>> {
    let mut is_range = false;
    let sizes = each(|index| {
        if is_range {
            // A range stands alone.
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut offer = SizeOffer { index, four_cc, ..SizeOffer::zeros() };
        device.call(&ENUM_FRAMESIZES, &mut offer)?;
        is_range = offer.kind != DISCRETE;
        Ok(match (is_range, offer.numbers) {
            (false, [width, height, ..]) => (Steps::one(width), Steps::one(height)),
            (true, [least_width, most_width, step_width, least_height, most_height, step_height]) => (
                Steps { least: least_width, most: most_width, step: step_width },
                Steps { least: least_height, most: most_height, step: step_height },
            ),
        })
    })?;
    sizes
        .into_iter()
        .map(|(widths, heights)| Ok(OfferedSize { widths, heights, rates: rates(device, four_cc, widths.most, heights.most)? }))
        .collect()
}

/// The rates that a format has at a size.
pub(super) fn rates(device: &Device, four_cc: u32, width: u32, height: u32) -> io::Result<Rates> {
    let mut range = None;
    let mut listed = each(|index| {
        let mut offer = IntervalOffer { index, four_cc, width, height, ..IntervalOffer::zeros() };
        if range.is_some() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        device.call(&ENUM_FRAMEINTERVALS, &mut offer)?;
        if offer.kind != DISCRETE {
            range = Some((offer.intervals[1], offer.intervals[0]));
        }
        Ok(offer.intervals[0])
    })?;
    if let Some((longest, shortest)) = range {
        return Ok(match (rate(longest), rate(shortest)) {
            (Some(least), Some(most)) => Rates::Between(least, most),
            _ => Rates::Unknown,
        });
    }
    listed.dedup();
    let rates: Vec<f64> = listed.into_iter().filter_map(rate).collect();
    Ok(if rates.is_empty() { Rates::Unknown } else { Rates::Listed(rates) })
}

/// Pictures a second of an interval in seconds; `None` where it is none.
pub(super) fn rate(interval: Fraction) -> Option<f64> {
    (interval.over > 0 && interval.under > 0).then(|| f64::from(interval.under) / f64::from(interval.over))
}

/// The interval of a rate, exact to a thousandth of a picture a second.
pub(super) fn interval(fps: f64) -> Fraction {
    match fps.fract() == 0.0 {
        true => Fraction { over: 1, under: fps as u32 },
        false => Fraction { over: 1000, under: (fps * 1000.0).round() as u32 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_the_names_that_the_kernel_gives_them() {
        for format in [
            PixelFormat::Mjpeg,
            PixelFormat::Yuyv,
            PixelFormat::Nv12,
            PixelFormat::Rgb,
            PixelFormat::Grey,
            PixelFormat::Grey16,
            PixelFormat::Depth16,
        ] {
            let name = FourCc::of(format);
            assert_eq!(FourCc::of_code(name.code()).format(), Some(format));
        }
        // V4L2_PIX_FMT_YUYV
        assert_eq!(FourCc::of(PixelFormat::Yuyv).code(), 0x5659_5559);
        assert_eq!(FourCc(*b"H264").format(), None);
        assert_eq!((FourCc(*b"Z16 ").to_string(), FourCc(*b"\x1b[2J").to_string()), ("Z16".into(), "\\u{1b}[2J".into()));
    }

    #[test]
    fn a_size_is_in_a_range_when_its_step_has_it() {
        let steps = Steps { least: 32, most: 640, step: 16 };
        assert!(steps.has(32) && steps.has(48) && steps.has(640));
        assert!(!steps.has(33) && !steps.has(16) && !steps.has(656));
        assert!(Steps { least: 2, most: 4, step: 0 }.has(3), "a driver that says no step has all");
    }

    #[test]
    fn rates_and_intervals_are_each_others_inverse() {
        for fps in [0.5, 5.0, 7.5, 15.0, 29.97, 30.0, 60.0, 120.0] {
            assert!(is_same_rate(rate(interval(fps)).unwrap(), fps));
        }
        assert_eq!(rate(Fraction { over: 0, under: 30 }), None);
        assert_eq!(rate(Fraction { over: 333_333, under: 10_000_000 }).map(|rate| is_same_rate(rate, 30.0)), Some(true));
        assert!(Rates::Listed(vec![30.0, 15.0]).has(29.97) && !Rates::Listed(vec![30.0]).has(25.0));
        assert!(Rates::Between(5.0, 30.0).has(29.0) && !Rates::Between(5.0, 30.0).has(31.0));
    }
}
