//! What the rows of a dataset hold.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};
use sinew_core::Pixels;

use crate::format::rate::Rate;
use crate::format::schema::{DEFAULT_FEATURES, picture_size};

/// Values of a feature in a row.
const MOST_VALUES: usize = 1 << 20;
/// Rows a second.
const LEAST_HZ: f64 = 0.01;
const GREATEST_HZ: f64 = 1000.0;
/// Pixels.
const LONGEST_SIDE: u32 = 16_384;

/// What every episode of a dataset has in common.
#[derive(Clone, Debug, PartialEq)]
pub struct DatasetSchema {
    /// Rows a second.
    pub fps: Rate,
    /// LeRobot's class name of the robot.
    pub robot_type: Option<String>,
    /// In the order of the columns, without LeRobot's own five (`timestamp`, `frame_index`, …).
    pub features: Vec<Feature>,
    /// Columns of a side table, a row for each of the data's, which LeRobot ignores: numbers only.
    pub side: Vec<Feature>,
    /// What else must be the same in every episode, such as the robot's calibration: what it is, and
    /// its value.
    pub rig: BTreeMap<String, String>,
}

/// A column of a dataset, or a camera.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    pub name: String,
    pub kind: FeatureKind,
    /// Names of the dimensions, as LeRobot keeps them: null, a list or an object.
    pub names: Json,
}

/// What a feature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureKind {
    /// Numbers or truth values of a shape of 1 to 5 dimensions; `[1]` is a plain number.
    Numbers {
        dtype: Dtype,
        shape: Vec<usize>,
    },
    Text,
    /// RGB images, kept losslessly as PNG in the table.
    Image {
        height: u32,
        width: u32,
    },
    /// RGB images, kept as video.
    Video {
        height: u32,
        width: u32,
    },
    /// Depth in millimetres, kept as 12-bit HEVC video; needs an installed ffmpeg with libx265.
    Depth {
        height: u32,
        width: u32,
    },
}

macro_rules! dtypes {
    ($(($variant:ident, $rust:ty, $name:literal)),* $(,)?) => {
        /// numpy's types.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Dtype { $($variant),* }

        impl Dtype {
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            pub(crate) fn of_name(name: &str) -> Option<Self> {
                Some(match name { $($name => Self::$variant,)* _ => return None })
            }

            /// Bytes of a value.
            pub(crate) fn size(self) -> usize {
                match self { $(Self::$variant => size_of::<$rust>()),* }
            }
        }

        $(impl From<&[$rust]> for Value<'_> {
            fn from(values: &[$rust]) -> Self {
                Self::Numbers(Dtype::$variant, Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect()))
            }
        })*
    };
}

dtypes! {
    (I8, i8, "int8"), (I16, i16, "int16"), (I32, i32, "int32"), (I64, i64, "int64"),
    (F32, f32, "float32"), (F64, f64, "float64"),
    (U8, u8, "uint8"), (U16, u16, "uint16"), (U32, u32, "uint32"), (U64, u64, "uint64"),
    (Bool, Truth, "bool"),
}

/// A truth value, a byte that is 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth(pub bool);

impl Truth {
    fn to_le_bytes(self) -> [u8; 1] {
        [u8::from(self.0)]
    }
}

/// What a row holds of one feature.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Row-major, little-endian; made from a slice by `into`.
    Numbers(Dtype, Cow<'a, [u8]>),
    Text(&'a str),
    /// RGB8, `[height, width, 3]`.
    Rgb(&'a Pixels),
    /// Millimetres, u16 little-endian, `[height, width]`.
    DepthMm(&'a Pixels),
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::from(&[Truth(value)][..])
    }
}

/// A camera of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PictureFeature {
    pub(crate) key: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) kind: FeatureKind,
}

impl PictureFeature {
    pub(crate) fn is_video(&self) -> bool {
        !matches!(self.kind, FeatureKind::Image { .. })
    }

    pub(crate) fn is_depth(&self) -> bool {
        matches!(self.kind, FeatureKind::Depth { .. })
    }
}

impl Feature {
    pub fn numbers(name: &str, dtype: Dtype, shape: &[usize]) -> Self {
        Self { name: name.to_owned(), kind: FeatureKind::Numbers { dtype, shape: shape.to_vec() }, names: Json::Null }
    }

    pub fn text(name: &str) -> Self {
        Self { name: name.to_owned(), kind: FeatureKind::Text, names: Json::Null }
    }

    pub fn image(name: &str, width: u32, height: u32) -> Self {
        Self { name: name.to_owned(), kind: FeatureKind::Image { height, width }, names: picture_names() }
    }

    pub fn video(name: &str, width: u32, height: u32) -> Self {
        Self { name: name.to_owned(), kind: FeatureKind::Video { height, width }, names: picture_names() }
    }

    pub fn depth(name: &str, width: u32, height: u32) -> Self {
        Self { name: name.to_owned(), kind: FeatureKind::Depth { height, width }, names: picture_names() }
    }

    pub(crate) fn picture(&self) -> Option<PictureFeature> {
        match self.kind {
            FeatureKind::Image { height, width } | FeatureKind::Video { height, width } | FeatureKind::Depth { height, width } => {
                Some(PictureFeature { key: self.name.clone(), width, height, kind: self.kind.clone() })
            }
            _ => None,
        }
    }

    /// LeRobot's `dtype` and `shape`.
    pub(crate) fn dtype_and_shape(&self) -> (&'static str, Vec<usize>) {
        let picture = |height: u32, width: u32, channels| vec![height as usize, width as usize, channels];
        match &self.kind {
            FeatureKind::Numbers { dtype, shape } => (dtype.name(), shape.clone()),
            FeatureKind::Text => ("string", vec![1]),
            FeatureKind::Image { height, width } => ("image", picture(*height, *width, 3)),
            FeatureKind::Video { height, width } => ("video", picture(*height, *width, 3)),
            FeatureKind::Depth { height, width } => ("video", picture(*height, *width, 1)),
        }
    }

    /// What info.json says of the feature called `name`; `None` when it is none that can be written.
    pub(crate) fn of_json(name: &str, feature: &Json) -> Option<Self> {
        let shape: Vec<usize> =
            feature["shape"].as_array()?.iter().map(|side| side.as_u64().map(|side| side as usize)).collect::<Option<_>>()?;
        let size = || {
            let (width, height) = picture_size(feature)?;
            Some((u32::try_from(height).ok()?, u32::try_from(width).ok()?))
        };
        let is_depth = feature["info"]["is_depth_map"] == true;
        let kind = match (feature["dtype"].as_str()?, is_depth) {
            ("string", _) => FeatureKind::Text,
            ("video", true) => size().map(|(height, width)| FeatureKind::Depth { height, width })?,
            ("video", false) => size().map(|(height, width)| FeatureKind::Video { height, width })?,
            ("image", false) => size().map(|(height, width)| FeatureKind::Image { height, width })?,
            (name, _) => FeatureKind::Numbers { dtype: Dtype::of_name(name)?, shape },
        };
        Some(Self { name: name.to_owned(), kind, names: feature["names"].clone() })
    }
}

fn picture_names() -> Json {
    json!(["height", "width", "channels"])
}

impl DatasetSchema {
    /// Of features alone, at a whole number of rows a second.
    pub fn new(fps: u32, features: Vec<Feature>) -> Self {
        Self { fps: fps.into(), robot_type: None, features, side: Vec::new(), rig: BTreeMap::new() }
    }

    /// The cameras in the order of the features.
    pub(crate) fn pictures(&self) -> Vec<PictureFeature> {
        self.features.iter().filter_map(Feature::picture).collect()
    }

    /// What is wrong with it.
    pub(crate) fn fault(&self) -> Option<String> {
        if !(LEAST_HZ..=GREATEST_HZ).contains(&self.fps.hz()) {
            return Some(format!("the rate is {} frames a second, expected {LEAST_HZ} to {GREATEST_HZ}", self.fps));
        }
        let mut names: Vec<&str> = Vec::new();
        let product = |product: usize, side: &usize| product.checked_mul(*side);
        for feature in self.features.iter().chain(&self.side) {
            let Feature { name, kind, .. } = feature;
            if name.is_empty() || name.contains(['/', '\\', '\0']) || name.starts_with('.') {
                return Some(format!("feature {name:?}: its name makes no path"));
            }
            if DEFAULT_FEATURES.iter().any(|(own, _)| own == name) || name == "task" {
                return Some(format!("feature {name}: LeRobot gives every dataset one of this name"));
            }
            if names.contains(&name.as_str()) {
                return Some(format!("there are two features called {name}"));
            }
            names.push(name);
            if let FeatureKind::Numbers { shape, .. } = kind
                && (!(1..=5).contains(&shape.len()) || !shape.iter().try_fold(1, product).is_some_and(|n| (1..=MOST_VALUES).contains(&n)))
            {
                return Some(format!("feature {name} has shape {shape:?}, expected 1 to 5 dimensions and at most {MOST_VALUES} values"));
            }
            if let Some(PictureFeature { key, width, height, .. }) = feature.picture()
                && (width.min(height) == 0 || width.max(height) > LONGEST_SIDE)
            {
                return Some(format!("camera {key} is {width}x{height}, expected 1 to {LONGEST_SIDE} pixels a side"));
            }
        }
        let side = self.side.iter().find(|feature| !matches!(feature.kind, FeatureKind::Numbers { .. }));
        if let Some(feature) = side {
            return Some(format!("feature {}: the side table holds numbers only", feature.name));
        }
        None
    }

    /// The features and nothing else, for comparison.
    pub(crate) fn shapes(features: &[Feature]) -> Map<String, Json> {
        features
            .iter()
            .map(|feature| {
                let (dtype, shape) = feature.dtype_and_shape();
                (feature.name.clone(), json!({"dtype": dtype, "shape": shape, "names": feature.names}))
            })
            .collect()
    }
}
