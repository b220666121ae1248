//! What policies with cameras share.

mod keypoints;
mod resize;
mod resnet;
mod siglip;
mod transforms;

pub(crate) use keypoints::{KeypointEncoder, KeypointPlan};
pub(crate) use resize::{Padding, resize_with_padding};
pub(crate) use resnet::{Names, Norm, ResNet, ResNetPlan};
pub(crate) use siglip::{PatchPositions, SigLip, SigLipPlan};
pub(crate) use transforms::resize_and_crop;
