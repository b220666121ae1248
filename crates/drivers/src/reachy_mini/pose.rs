//! The head's pose as the daemon has it, and as the description's channels do.

use std::f64::consts::PI;

/// A homogeneous matrix, row by row.
pub(super) type Matrix = [[f64; 4]; 4];

/// How far a matrix may be from a rotation.
const SKEW: f64 = 1e-2;
/// No head is so many metres away from its foot.
const FURTHEST: f64 = 10.0;

/// The matrix of x, y, z (m) and the angles about z, then y, then x (rad), given as roll, pitch, yaw: `Rz·Ry·Rx`, as in
/// `create_head_pose` of the package `reachy_mini`.
pub(super) fn matrix([x, y, z, roll, pitch, yaw]: [f64; 6]) -> Matrix {
    let [(sr, cr), (sp, cp), (sy, cy)] = [roll.sin_cos(), pitch.sin_cos(), yaw.sin_cos()];
    [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr, x],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr, y],
        [-sp, cp * sr, cp * cr, z],
        [0.0, 0.0, 0.0, 1.0],
    ]
}

/// x, y, z, roll, pitch, yaw of a matrix; `None` where it is no pose.
pub(super) fn coordinates(m: &Matrix) -> Option<[f64; 6]> {
    let is_rotation = (0..3).all(|i| {
        (0..3).all(|j| {
            let dot: f64 = (0..3).map(|k| m[k][i] * m[k][j]).sum();
            (dot - f64::from(u8::from(i == j))).abs() < SKEW
        })
    });
    let determinant = m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
    let all = [m[0][3], m[1][3], m[2][3], m[2][1].atan2(m[2][2]), (-m[2][0]).clamp(-1.0, 1.0).asin(), m[1][0].atan2(m[0][0])];
    (is_rotation && determinant > 0.0 && all.iter().all(|value| value.abs() <= FURTHEST)).then_some(all)
}

/// A pose that was said in a frame which is turned by `yaw` about z, in the one that isn't.
pub(super) fn turned_by(yaw: f64, [x, y, z, roll, pitch, own]: [f64; 6]) -> [f64; 6] {
    let (s, c) = yaw.sin_cos();
    // Within a turn, so that a step over its seam is no jump.
    let turned = (own + yaw + PI).rem_euclid(2.0 * PI) - PI;
    [c * x - s * y, s * x + c * y, z, roll, pitch, turned]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pose_comes_back(pose in prop::array::uniform6(-1.4_f64..1.4), yaw in -2.7_f64..2.7) {
            let back = coordinates(&matrix(pose)).unwrap();
            let there_and_back = turned_by(-yaw, turned_by(yaw, pose));
            // Turning the frame is a rotation about z before everything else.
            let mut rotated = matrix(pose);
            let about_z = matrix([0.0, 0.0, 0.0, 0.0, 0.0, yaw]);
            for (row, about) in rotated.iter_mut().zip(about_z) {
                *row = std::array::from_fn(|j| (0..4).map(|k| about[k] * matrix(pose)[k][j]).sum());
            }
            let rotated = coordinates(&rotated).unwrap();
            for i in 0..6 {
                prop_assert!((back[i] - pose[i]).abs() < 1e-9);
                prop_assert!((there_and_back[i] - pose[i]).abs() < 1e-9);
                let apart = (rotated[i] - turned_by(yaw, pose)[i]).abs();
                prop_assert!(apart < 1e-9 || (apart - 2.0 * PI).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn what_is_no_rotation_is_no_pose() {
        let mut mirrored = matrix([0.0; 6]);
        mirrored[0][0] = -1.0;
        let mut stretched = matrix([0.0; 6]);
        stretched[1][1] = 1.1;
        let mut unknown = matrix([0.0; 6]);
        unknown[2][3] = f64::NAN;
        for bad in [mirrored, stretched, unknown, [[0.0; 4]; 4], [[f64::INFINITY; 4]; 4]] {
            assert_eq!(coordinates(&bad), None);
        }
    }
}
