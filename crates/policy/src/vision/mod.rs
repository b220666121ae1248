//! What policies with cameras share.

#![allow(dead_code, unused_imports, reason = "the families that use all of it are on their way")]

mod resize;
mod resnet;
mod siglip;

pub(crate) use resize::{Padding, resize_with_padding};
pub(crate) use resnet::{Names, Norm, ResNet, ResNetPlan};
pub(crate) use siglip::{PatchPositions, SigLip, SigLipPlan};
