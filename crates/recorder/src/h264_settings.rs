//! What openh264 can be told and its safe interface can't tell it.

#![allow(unsafe_code, reason = "the safe interface leaves these options out")]

use std::ffi::c_int;

use openh264::encoder::Encoder;
use openh264_sys2::{ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, SEncParamExt};

/// Sets the quantizer, 0 to 51, of the pictures from now on, in an encoder without rate control that has
/// encoded a picture.
///
/// # Errors
/// The encoder's number for what went wrong.
pub(crate) fn set_quantizer(encoder: &mut Encoder, quantizer: u8) -> Result<(), c_int> {
    let mut settings = Box::<SEncParamExt>::default();
    // SAFETY: the option is filled in whole as the type that it is of, and nothing is set.
    match unsafe { encoder.raw_api().get_option(ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, (&raw mut *settings).cast()) } {
        0 => settings.sSpatialLayers[0].iDLayerQp = c_int::from(quantizer),
        error => return Err(error),
    }
    // SAFETY: the option is read as the type that it is of; all but the quantizer is as the safe interface has it.
    match unsafe { encoder.raw_api().set_option(ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, (&raw mut *settings).cast()) } {
        0 => Ok(()),
        error => Err(error),
    }
}
