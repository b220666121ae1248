//! Arrays as they are in a message.

use std::fmt;

use half::f16;

/// The type of an array's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

impl Dtype {
    /// By numpy's name without the byte order, such as `f4`.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "b1" => Self::Bool,
            "u1" => Self::U8,
            "i1" => Self::I8,
            "u2" => Self::U16,
            "i2" => Self::I16,
            "u4" => Self::U32,
            "i4" => Self::I32,
            "u8" => Self::U64,
            "i8" => Self::I64,
            "f2" => Self::F16,
            "f4" => Self::F32,
            "f8" => Self::F64,
            _ => return None,
        })
    }

    /// Of an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// As numpy writes it, little-endian.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bool => "|b1",
            Self::U8 => "|u1",
            Self::I8 => "|i1",
            Self::U16 => "<u2",
            Self::I16 => "<i2",
            Self::U32 => "<u4",
            Self::I32 => "<i4",
            Self::U64 => "<u8",
            Self::I64 => "<i8",
            Self::F16 => "<f2",
            Self::F32 => "<f4",
            Self::F64 => "<f8",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::U32 => "uint32",
            Self::I32 => "int32",
            Self::U64 => "uint64",
            Self::I64 => "int64",
            Self::F16 => "float16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        })
    }
}

/// An array, row-major. `data` has as many bytes as dtype and shape say.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<'a> {
    pub dtype: Dtype,
    pub is_big_endian: bool,
    pub shape: Vec<usize>,
    pub data: &'a [u8],
}

/// Numbers with their shape, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Tensor<'_> {
    /// Its elements; whole numbers beyond 2^53 are rounded.
    pub fn to_f64(&self) -> Vec<f64> {
        macro_rules! read {
            ($kind:ty, $make:expr) => {{
                let make = $make;
                let (items, _) = self.data.as_chunks::<{ size_of::<$kind>() }>();
                let from = if self.is_big_endian { <$kind>::from_be_bytes } else { <$kind>::from_le_bytes };
                items.iter().map(|item| make(from(*item))).collect()
            }};
        }
        match self.dtype {
            Dtype::Bool => self.data.iter().map(|byte| f64::from(*byte != 0)).collect(),
            Dtype::U8 => self.data.iter().map(|byte| f64::from(*byte)).collect(),
            Dtype::I8 => self.data.iter().map(|byte| f64::from(byte.cast_signed())).collect(),
            Dtype::U16 => read!(u16, f64::from),
            Dtype::I16 => read!(i16, f64::from),
            Dtype::U32 => read!(u32, f64::from),
            Dtype::I32 => read!(i32, f64::from),
            Dtype::U64 => read!(u64, |value| value as f64),
            Dtype::I64 => read!(i64, |value| value as f64),
            Dtype::F16 => read!(f16, f64::from),
            Dtype::F32 => read!(f32, f64::from),
            Dtype::F64 => read!(f64, |value: f64| value),
        }
    }
}
