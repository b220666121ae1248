//! Shows datasets elsewhere.

mod live;
mod mcap;
mod mcap_file;
mod page;
mod rrd;
mod walk;

pub use live::{RerunView, ViewError};
pub use mcap::write_mcap;
pub use page::{PageOptions, recorded_robot, write_html};
pub use rrd::{show_in_rerun, write_rrd};

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageError};
use serde_json::Value;
use sinew_core::Image;

use crate::RecordError;
use crate::commit::create_folder;
use crate::tools::ToolError;

fn to_jpeg(image: &Image, quality: u8) -> Result<Vec<u8>, ImageError> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, quality).encode(&image.rgb, image.width, image.height, ExtendedColorType::Rgb8)?;
    Ok(jpeg)
}

/// Makes the folder that `path` will be in.
fn create_parent(path: &Path) -> Result<(), RecordError> {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), create_folder)
}

/// Removes a file that was not written to its end.
fn remove_partial(path: &Path) {
    std::fs::remove_file(path).unwrap_or_else(|error| tracing::warn!(path = %path.display(), %error, "an unfinished file stays"));
}

/// A name of its own for each value of a feature of numbers: those that several have, and those without one, are told
/// apart by their places.
///
/// # Errors
/// When there are more than anybody would look at one by one.
fn names_of(key: &str, feature: &Value) -> Result<Vec<String>, ToolError> {
    let width = width_of(feature);
    if width > MOST_NAMES {
        let why = format!(
            "it has {width} values a row, expected at most {MOST_NAMES}; `sinew dataset remove-feature` makes a dataset without it"
        );
        return Err(ToolError::Plan { what: format!("export the feature {key}"), why });
    }
    // They may be a list, or a list within an object.
    let names = feature["names"].as_array().or_else(|| feature["names"].as_object()?.values().next()?.as_array());
    let name = |at: u64| names.and_then(|names| names.get(at as usize)?.as_str()).map_or_else(|| at.to_string(), str::to_owned);
    let names: Vec<String> = (0..width).map(name).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    names.iter().for_each(|name| *counts.entry(name).or_default() += 1);
    let mut taken: BTreeSet<String> = names.iter().filter(|name| counts[name.as_str()] == 1).cloned().collect();
    let own = names.iter().enumerate().map(|(at, name)| {
        if counts[name.as_str()] == 1 {
            return name.clone();
        }
        let mut own = format!("{name}_{at}");
        while !taken.insert(own.clone()) {
            own.push('_');
        }
        own
    });
    Ok(own.collect())
}

/// Values of a feature in a row.
fn width_of(feature: &Value) -> u64 {
    let sizes = feature["shape"].as_array().map_or(&[][..], Vec::as_slice);
    sizes.iter().fold(1, |width, size| width.saturating_mul(size.as_u64().unwrap_or(u64::MAX)))
}

/// Values of a feature that are exported, each under a name of its own.
const MOST_NAMES: u64 = 1 << 16;

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= group.len() { DIGITS[value as usize] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_name_are_told_apart() {
        let names = |names: &[&str]| names_of("a", &serde_json::json!({"shape": [names.len()], "names": {"motors": names}})).unwrap();
        assert_eq!(names(&["x", "gripper", "gripper", "gripper_2"]), ["x", "gripper_1", "gripper_2_", "gripper_2"]);
        assert_eq!(names_of("a", &serde_json::json!({"shape": [2], "names": ["a"]})).unwrap(), ["a", "1"]);
        assert_eq!(names_of("a", &serde_json::json!({"shape": [2], "names": ["1"]})).unwrap(), ["1_0", "1_1"]);
        let error = names_of("a", &serde_json::json!({"shape": [1 << 28]})).unwrap_err();
        assert!(error.to_string().contains("268435456 values a row, expected at most 65536"), "{error}");
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
    }
}
