//! What openh264 can be told and its safe interface can't tell it.

#![allow(unsafe_code, reason = "the safe interface leaves these options out")]

use std::ffi::c_int;

use openh264::encoder::Encoder;
use openh264_sys2::{ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, PRO_HIGH, SEncParamExt};

/// Makes an encoder that has encoded a picture begin anew with arithmetic coding (CABAC).
///
/// It does not check the room that it writes to, so it is given twice the bytes of a raw picture: without
/// "load balancing", which is for several slices, openh264 makes room for so much.
///
/// # Errors
/// The encoder's number for what went wrong.
pub(crate) fn use_cabac(encoder: &mut Encoder) -> Result<(), c_int> {
    change(encoder, |settings| {
        settings.iEntropyCodingModeFlag = 1;
        settings.bUseLoadBalancing = false;
        // What is of another profile begins anew.
        settings.sSpatialLayers[0].uiProfileIdc = PRO_HIGH;
    })
}

/// Sets the quantizer, 0 to 51, of the pictures from now on, in an encoder without rate control that has
/// encoded a picture.
///
/// # Errors
/// The encoder's number for what went wrong.
pub(crate) fn set_quantizer(encoder: &mut Encoder, quantizer: u8) -> Result<(), c_int> {
    change(encoder, |settings| settings.sSpatialLayers[0].iDLayerQp = c_int::from(quantizer))
}

fn change(encoder: &mut Encoder, change: impl FnOnce(&mut SEncParamExt)) -> Result<(), c_int> {
    let mut settings = Box::<SEncParamExt>::default();
    // SAFETY: the option is filled in whole as the type that it is of, and nothing is set.
    let answer = unsafe { encoder.raw_api().get_option(ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, (&raw mut *settings).cast()) };
    if answer != 0 {
        return Err(answer);
    }
    change(&mut settings);
    // SAFETY: the option is read as the type that it is of; the picture's size is as the safe interface has it.
    match unsafe { encoder.raw_api().set_option(ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, (&raw mut *settings).cast()) } {
        0 => Ok(()),
        error => Err(error),
    }
}
