//! What openh264 can be told and its safe interface can't tell it.

#![allow(unsafe_code, reason = "the safe interface leaves these options out")]

use std::ffi::c_int;

use openh264::encoder::Encoder;
use openh264_sys2::{ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, PRO_HIGH, SEncParamExt};

/// The settings of an encoder that has encoded a picture.
pub(crate) struct Settings(Box<SEncParamExt>);

impl Settings {
    /// # Errors
    /// The encoder's number for what went wrong.
    pub(crate) fn of(encoder: &mut Encoder) -> Result<Self, c_int> {
        let mut settings = Box::<SEncParamExt>::default();
        // SAFETY: the option is filled in whole as the type that it is of, and nothing is set.
        let answer = unsafe { encoder.raw_api().get_option(ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, (&raw mut *settings).cast()) };
        if answer == 0 { Ok(Self(settings)) } else { Err(answer) }
    }

    /// Arithmetic coding, which is of the high profile. An encoder that has begun without it begins anew.
    pub(crate) fn use_cabac(&mut self) {
        self.0.iEntropyCodingModeFlag = 1;
        self.0.sSpatialLayers[0].uiProfileIdc = PRO_HIGH;
    }

    /// Of the pictures from now on, 0 to 51.
    pub(crate) fn set_quantizer(&mut self, quantizer: u8) {
        self.0.sSpatialLayers[0].iDLayerQp = c_int::from(quantizer);
    }

    /// # Errors
    /// The encoder's number for what went wrong.
    pub(crate) fn apply(&mut self, encoder: &mut Encoder) -> Result<(), c_int> {
        // SAFETY: the option is read as the type that it is of; the picture's size is the one that the
        // safe interface has set.
        let answer = unsafe { encoder.raw_api().set_option(ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, (&raw mut *self.0).cast()) };
        if answer == 0 { Ok(()) } else { Err(answer) }
    }
}
