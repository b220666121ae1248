//! Between nalgebra's double precision, which the project speaks, and the physics engine's single.

use nalgebra::{Isometry3, Quaternion, Translation3, UnitQuaternion, Vector3};
use rapier3d::math::{Pose, Rotation, Vector};

pub(crate) fn vector(v: &Vector3<f64>) -> Vector {
    Vector::new(v.x as f32, v.y as f32, v.z as f32)
}

pub(crate) fn vector3(v: Vector) -> Vector3<f64> {
    Vector3::new(f64::from(v.x), f64::from(v.y), f64::from(v.z))
}

pub(crate) fn pose(p: &Isometry3<f64>) -> Pose {
    let q = &p.rotation;
    Pose::from_parts(vector(&p.translation.vector), Rotation::from_xyzw(q.i as f32, q.j as f32, q.k as f32, q.w as f32).normalize())
}

pub(crate) fn isometry(p: &Pose) -> Isometry3<f64> {
    let q = p.rotation;
    Isometry3::from_parts(
        Translation3::from(vector3(p.translation)),
        UnitQuaternion::from_quaternion(Quaternion::new(f64::from(q.w), f64::from(q.x), f64::from(q.y), f64::from(q.z))),
    )
}
