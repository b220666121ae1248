//! Where a policy computes.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::kernels::Isa;

/// A processor that models run on. Answers are exact to LeRobot's on a CPU; on the others they were
/// never compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    #[default]
    Cpu,
    /// An NVIDIA GPU by its number, in a build with the feature `cuda`.
    Cuda(usize),
    /// An Apple GPU by its number, in a build with the feature `metal`.
    Metal(usize),
}

impl Device {
    /// # Errors
    /// When this build or this machine has no such device.
    pub(crate) fn open(self) -> candle_core::Result<candle_core::Device> {
        match self {
            Self::Cpu => Ok(candle_core::Device::Cpu),
            Self::Cuda(index) => candle_core::Device::new_cuda(index),
            Self::Metal(index) => candle_core::Device::new_metal(index),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Metal(index) => write!(f, "metal:{index}"),
        }
    }
}

/// The instruction set for which layers on `device` use the crate's own kernels; `None` where they
/// use candle's operations.
pub(crate) fn kernels_on(device: &candle_core::Device) -> Option<Isa> {
    if device.is_cpu() { Isa::chosen() } else { None }
}

/// Whether layers on `device` use the crate's own kernels.
pub(crate) fn has_kernels(device: &candle_core::Device) -> bool {
    kernels_on(device).is_some()
}

/// A name that is no device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("reading the device {0:?}: expected cpu, cuda, cuda:N, metal or metal:N")]
pub struct ParseDeviceError(String);

impl FromStr for Device {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseDeviceError(text.to_owned());
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, Some(index.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        match (kind, index) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            ("metal", index) => Ok(Self::Metal(index.unwrap_or(0))),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(3), Device::Metal(1)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for wrong in ["", "cpu:0", "cuda:", "cuda:x", "tpu", "cuda:1:2"] {
            assert!(wrong.parse::<Device>().is_err(), "{wrong}");
        }
    }
}
