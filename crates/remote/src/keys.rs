//! Under which names a server wants what a robot sees: the wire itself says nothing of it.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;

use crate::RemoteError;
use crate::link::Protocol;

/// What a server wants under which key, and in which form. From a preset, or a TOML file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyMap {
    /// What state and actions are in.
    pub units: WireUnits,
    /// The key of the instruction; without it none is sent.
    pub prompt: Option<Key>,
    #[serde(rename = "image", default)]
    pub images: Vec<ImageKey>,
    #[serde(rename = "state", default)]
    pub states: Vec<StateKey>,
    /// Keys of the answer, whose columns are put side by side; without it `actions`, `action` or a bare array.
    #[serde(default)]
    pub actions: Vec<String>,
}

/// What numbers of the wire mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WireUnits {
    /// As in LeRobot's datasets: degrees, 0 to 100.
    Lerobot,
    /// Radians, metres, seconds.
    Si,
}

/// Where an image goes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageKey {
    pub key: Key,
    /// The robot's cameras that it may come from, by name; `*` for every camera that no other key takes.
    pub camera: Names,
    /// Scaled to this, with black bars. Without it as the server says, or as it is.
    pub size: Option<Size>,
    #[serde(default)]
    pub layout: Layout,
    /// Of the JPEG, 1 to 100, where images are sent as such; 90 without it.
    pub quality: Option<u8>,
    /// Degrees: 0 or 180.
    #[serde(default)]
    pub rotate: u32,
    /// Whether the server does without it.
    #[serde(default)]
    pub optional: bool,
}

/// Where a part of the state goes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateKey {
    pub key: Key,
    /// From the first of the robot's channels to before the second; all of them without it.
    pub range: Option<[usize; 2]>,
    /// The channels by name, instead of a range.
    #[serde(default)]
    pub channels: Vec<String>,
    #[serde(default)]
    pub dtype: FloatKind,
}

/// A key in the request, or the keys of maps inside each other.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Key {
    Flat(String),
    Nested(Vec<String>),
}

impl Key {
    /// The keys from the outermost map inwards.
    pub fn path(&self) -> &[String] {
        match self {
            Self::Flat(key) => std::slice::from_ref(key),
            Self::Nested(keys) => keys,
        }
    }

    /// Whether a user means it by `name`: all of it, or its last part.
    pub(crate) fn is_meant_by(&self, name: &str) -> bool {
        let whole = self.to_string();
        whole == name || whole.rsplit('/').next() == Some(name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path().join("/"))
    }
}

/// One name, or several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Names {
    One(String),
    Several(Vec<String>),
}

impl Names {
    /// All of them.
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

/// The order of an image's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[height, width, 3]`.
    #[default]
    Hwc,
    /// `[3, height, width]`.
    Chw,
}

/// The type of numbers that are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FloatKind {
    #[default]
    F32,
    F64,
}

/// `WIDTHxHEIGHT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Size {
    pub width: usize,
    pub height: usize,
}

/// Along a side of an image.
const MOST_PIXELS: usize = 4096;

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |text: &str| text.parse().ok().filter(|side| (1..=MOST_PIXELS).contains(side));
        let sides = text.split_once('x').and_then(|(width, height)| Some(Self { width: side(width)?, height: side(height)? }));
        sides.ok_or_else(|| format!("the size {text:?}, expected WIDTHxHEIGHT, each side 1 to {MOST_PIXELS}, such as 224x224"))
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

const PRESETS: [(&str, &str); 5] = [
    ("droid", include_str!("../keys/droid.toml")),
    ("libero", include_str!("../keys/libero.toml")),
    ("aloha", include_str!("../keys/aloha.toml")),
    ("lerobot", include_str!("../keys/lerobot.toml")),
    ("groot-so100", include_str!("../keys/groot_so100.toml")),
];

/// No file of keys comes near this.
const MOST_BYTES: u64 = 1 << 20;

impl KeyMap {
    /// The names of the presets.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// LeRobot's names.
    ///
    /// # Errors
    /// Never: tests read it.
    pub fn lerobot() -> Result<Self, RemoteError> {
        Self::find("lerobot")
    }

    /// A preset by its name, or the file `name`.
    ///
    /// # Errors
    /// When it is neither, or the file is none of the kind.
    pub fn find(name: &str) -> Result<Self, RemoteError> {
        let fault = |what: String| RemoteError::Keys { name: name.to_owned(), what };
        if let Some((_, text)) = PRESETS.iter().find(|(preset, _)| *preset == name) {
            return Self::parse(text).map_err(fault);
        }
        let path = Path::new(name);
        let metadata = std::fs::metadata(path);
        let bytes =
            metadata.map_err(|error| fault(format!("{error}; expected a file, or {}", Self::presets().collect::<Vec<_>>().join(", "))))?;
        if !bytes.is_file() || bytes.len() > MOST_BYTES {
            return Err(fault("expected a TOML file of at most 1 MiB".into()));
        }
        let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        Self::parse(&text).map_err(fault)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let keys: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        keys.check().map(|()| keys)
    }

    /// Whether `protocol` can send it.
    ///
    /// # Errors
    /// What it can't, in words.
    pub(crate) fn check_for(&self, protocol: Protocol) -> Result<(), String> {
        for image in &self.images {
            let key = &image.key;
            match protocol {
                Protocol::Lerobot if image.layout == Layout::Chw => {
                    return Err(format!("layout = \"chw\" of {key}: LeRobot's servers take images as [height, width, 3]"));
                }
                Protocol::Lerobot if key.path().len() > 1 => {
                    return Err(format!("the key {key}: LeRobot's servers name features, such as observation.images.front"));
                }
                Protocol::Endpoint if image.layout == Layout::Chw => {
                    return Err(format!("layout = \"chw\" of {key}: images are sent as JPEGs, which have no layout"));
                }
                Protocol::Groot if image.layout == Layout::Chw => {
                    return Err(format!("layout = \"chw\" of {key}: GR00T's service takes images as [height, width, 3]"));
                }
                Protocol::Openpi | Protocol::Groot if image.quality.is_some() => {
                    return Err(format!(
                        "quality of {key}: images are sent as they are, and only http://, https:// and zenoh:// send JPEGs"
                    ));
                }
                _ => {}
            }
        }
        match self.states.iter().find(|state| protocol == Protocol::Groot && state.dtype == FloatKind::F64) {
            Some(state) => Err(format!("dtype = \"f64\" of {}: GR00T's service takes a state as f32", state.key)),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), String> {
        let mut all: Vec<&[String]> =
            self.images.iter().map(|image| image.key.path()).chain(self.states.iter().map(|state| state.key.path())).collect();
        all.extend(self.prompt.iter().map(Key::path));
        for (i, path) in all.iter().enumerate() {
            if path.is_empty() || path.iter().any(String::is_empty) {
                return Err("an empty key".into());
            }
            // The whole of another, or a map that others are in.
            if let Some(other) = all.iter().enumerate().find(|(j, other)| i != *j && other.starts_with(path)) {
                return Err(format!("the key {} stands in the way of {}", path.join("/"), other.1.join("/")));
            }
        }
        for image in &self.images {
            if !matches!(image.rotate, 0 | 180) {
                return Err(format!("rotate = {} of {}, expected 0 or 180", image.rotate, image.key));
            }
            if image.quality.is_some_and(|quality| !(1..=100).contains(&quality)) {
                return Err(format!("quality = {} of {}, expected 1 to 100", image.quality.unwrap_or_default(), image.key));
            }
            let is_every = image.camera.all().iter().any(|name| name == "*");
            if is_every != image.key.path().iter().any(|key| key.contains('*')) {
                return Err(format!("the key {}: a * in it stands for the camera's name, with camera = \"*\"", image.key));
            }
        }
        for state in &self.states {
            if state.range.is_some_and(|[first, end]| first >= end) || (state.range.is_some() && !state.channels.is_empty()) {
                return Err(format!(
                    "the state {}: expected range = [FIRST, END] with FIRST below END, or channels, or neither",
                    state.key
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_what_they_should_be() {
        for name in KeyMap::presets() {
            let keys = KeyMap::find(name).unwrap();
            assert!(!keys.images.is_empty() && !keys.states.is_empty(), "{name}");
        }
        assert_eq!(KeyMap::find("aloha").unwrap().images[0].key.to_string(), "images/cam_high");
    }

    #[test]
    fn the_files_that_the_guide_shows_are_such() {
        let page = include_str!("../../../docs/remote-policies.md");
        let files: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        let counts = files.iter().map(|file| KeyMap::parse(file).map(|keys| (keys.images.len(), keys.states.len())));
        assert_eq!(counts.collect::<Result<Vec<_>, _>>().unwrap()[..2], [(1, 2), (1, 1)]);
        let whole = format!("actions = [\"arm\", \"gripper\"]\n{}", files[0]);
        assert_eq!(KeyMap::parse(&whole).unwrap().actions, ["arm", "gripper"]);
    }

    #[test]
    fn a_file_that_makes_no_sense_says_why() {
        let head = "units = \"si\"\n";
        let cases = [
            ("units = \"inches\"", "inches"),
            ("units = \"si\"\ncolour = 1", "colour"),
            ("prompt = \"a\"", "units"),
            ("units = \"si\"\n[[image]]\nkey = \"a\"\ncamera = \"b\"\nquality = 0", "expected 1 to 100"),
            ("units = \"si\"\n[[image]]\nkey = \"a\"\ncamera = \"b\"\nsize = \"0x3\"", "expected WIDTHxHEIGHT"),
            ("units = \"si\"\n[[image]]\nkey = \"a\"\ncamera = \"b\"\nrotate = 90", "expected 0 or 180"),
            ("units = \"si\"\n[[image]]\nkey = \"a\"\ncamera = \"*\"", "a * in it stands for"),
            ("units = \"si\"\nprompt = \"a\"\n[[state]]\nkey = [\"a\", \"b\"]", "the key a stands in the way of a/b"),
            ("units = \"si\"\n[[state]]\nkey = \"a\"\nrange = [3, 3]", "FIRST below END"),
        ];
        for (text, words) in cases {
            let error = KeyMap::parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(KeyMap::parse(head).is_ok());
        let error = KeyMap::find("no-such-file").unwrap_err().to_string();
        assert!(error.contains("droid, libero, aloha, lerobot, groot-so100"), "{error}");
    }
}
