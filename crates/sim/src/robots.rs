//! The robot models of `robots/`, built in, and others from a folder.
//!
//! ```
//! let so101 = sinew_sim::robots::get("so101")?;
//! assert_eq!(so101.description.parts.len(), 6);
//! # Ok::<(), sinew_sim::RobotModelError>(())
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use sinew_core::{DescriptionError, RobotDescription};
use thiserror::Error;

use crate::error::meant;
use crate::mesh::{Mesh, MeshError};

/// More than any robot.toml or mesh needs.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A robot model that cannot be had.
#[derive(Debug, Error)]
pub enum RobotModelError {
    #[error("looking for the robot {wanted}: neither built in ({built_in}) nor a folder with a robot.toml{}", meant(wanted, list()))]
    Unknown { wanted: String, built_in: String },
    #[error("looking for the robot {wanted}: that is a file, expected the folder that it is in: {folder}")]
    File { wanted: String, folder: String },
    #[error(transparent)]
    Description(#[from] DescriptionError),
    #[error("reading {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("reading the robot {robot}: mesh {mesh} is not beside its robot.toml")]
    MissingMesh { robot: String, mesh: String },
    #[error("reading the robot {robot}: mesh {mesh}")]
    Mesh {
        robot: String,
        mesh: String,
        #[source]
        source: MeshError,
    },
}

/// A description together with the meshes that it names.
#[derive(Clone, Debug)]
pub struct RobotModel {
    pub description: RobotDescription,
    /// By the name that robot.toml uses.
    pub meshes: BTreeMap<String, Mesh>,
}

struct BuiltIn {
    name: &'static str,
    toml: &'static str,
    meshes: &'static [(&'static str, &'static [u8])],
}

macro_rules! built_in {
    ($name:literal, [$($mesh:literal),* $(,)?]) => {
        BuiltIn {
            name: $name,
            toml: include_str!(concat!("../../../robots/", $name, "/robot.toml")),
            meshes: &[$(($mesh, include_bytes!(concat!("../../../robots/", $name, "/", $mesh)))),*],
        }
    };
}

/// Of those of one LeRobot class, the one that its name alone means comes first.
const BUILT_IN: &[BuiltIn] = &[
    built_in!(
        "so101",
        [
            "meshes/base_motor.stl",
            "meshes/base_printed.stl",
            "meshes/gripper_motor.stl",
            "meshes/gripper_printed.stl",
            "meshes/lower_arm_motor.stl",
            "meshes/lower_arm_printed.stl",
            "meshes/moving_jaw_printed.stl",
            "meshes/shoulder_motor.stl",
            "meshes/shoulder_printed.stl",
            "meshes/upper_arm_motor.stl",
            "meshes/upper_arm_printed.stl",
            "meshes/wrist_motor.stl",
            "meshes/wrist_printed.stl",
        ]
    ),
    built_in!("bi_openarm", []),
    built_in!("bi_openarm_mini", []),
    built_in!("bi_so", []),
    built_in!("bi_so_leader", []),
    built_in!("example", []),
    built_in!("hope_jr_arm", []),
    built_in!("hope_jr_hand", []),
    built_in!("koch", []),
    built_in!("koch_leader", []),
    built_in!("lekiwi", []),
    built_in!("omx", []),
    built_in!("omx_leader", []),
    built_in!("openarm", []),
    built_in!("openarm_left", []),
    built_in!("openarm_mini", []),
    built_in!("openarm_mini_left", []),
    built_in!("reachy_mini", []),
    built_in!("so100", []),
    built_in!("so101_leader", []),
];

/// The names of the built-in robots.
pub fn list() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|robot| robot.name)
}

/// The text of the built-in robot called `name`, for others that include it.
fn text_of(name: &str) -> Option<String> {
    BUILT_IN.iter().find(|robot| robot.name == name).map(|robot| robot.toml.to_owned())
}

/// The robot that `wanted` names: a built-in one by its name, or by LeRobot's names of its types and class,
/// or a folder that holds a robot.toml and its meshes. Robots that it includes are folders beside that one,
/// or built in. One whose robot.toml has no simulation section has no meshes, and can't be simulated.
///
/// # Errors
/// When there is no such robot, or its files cannot be used.
pub fn get(wanted: &str) -> Result<RobotModel, RobotModelError> {
    let read = |robot: &'static BuiltIn| Ok((robot, RobotDescription::from_toml_with(robot.name, robot.toml, &text_of)?));
    let found = match BUILT_IN.iter().find(|robot| robot.name == wanted) {
        Some(robot) => Some(read(robot)?),
        None => {
            let built_in = BUILT_IN.iter().map(read).collect::<Result<Vec<_>, DescriptionError>>()?;
            // Robots of one class are told apart by their types.
            let is_type = |(_, description): &&(_, RobotDescription)| description.lerobot.types.iter().any(|name| name == wanted);
            let is_class = |(_, description): &&(_, RobotDescription)| description.lerobot.class == wanted;
            built_in.iter().find(is_type).or_else(|| built_in.iter().find(is_class)).cloned()
        }
    };
    if let Some((robot, description)) = found {
        let find = |mesh: &str| robot.meshes.iter().find(|(name, _)| *name == mesh).map(|(_, bytes)| bytes.to_vec());
        return with_meshes(description, |mesh| Ok(find(mesh)));
    }
    let folder = Path::new(wanted);
    if folder.is_file() && folder.file_name().is_some_and(|name| name == "robot.toml") {
        let folder = folder.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return Err(RobotModelError::File { wanted: wanted.to_owned(), folder: folder.display().to_string() });
    }
    if !folder.join("robot.toml").is_file() {
        return Err(RobotModelError::Unknown { wanted: wanted.to_owned(), built_in: list().collect::<Vec<_>>().join(", ") });
    }
    from_folder(folder)
}

/// The file of a mesh that the robot of `description`, which [`get`] found by `wanted`, names; `None` when it names no such one, or
/// the file has gone.
pub fn mesh_file(wanted: &str, description: &RobotDescription, mesh: &str) -> Option<Vec<u8>> {
    let mut visuals = description.simulation.iter().flat_map(|simulation| &simulation.links).flat_map(|link| &link.visuals);
    visuals.find(|visual| visual.mesh == mesh)?;
    if let Some(robot) = BUILT_IN.iter().find(|robot| robot.name == description.name) {
        return robot.meshes.iter().find(|(name, _)| *name == mesh).map(|(_, bytes)| bytes.to_vec());
    }
    let path = Path::new(wanted).join(mesh);
    let is_good = stays_inside(mesh) && fs::metadata(&path).is_ok_and(|file| file.len() <= MAX_FILE_BYTES);
    if is_good { fs::read(path).ok() } else { None }
}

fn from_folder(folder: &Path) -> Result<RobotModel, RobotModelError> {
    let path = folder.join("robot.toml");
    let text = read_text(&path)?;
    let beside = folder.join("..");
    // A neighbour that is there but can't be read is an error of its own, not one that is not there.
    let unread = RefCell::new(None);
    let find = |name: &str| {
        let path = beside.join(name).join("robot.toml");
        if stays_inside(name) && Path::new(name).components().count() == 1 && path.is_file() {
            return read_text(&path).map_err(|error| unread.replace(Some(error))).ok();
        }
        text_of(name)
    };
    let description = RobotDescription::from_toml_with(&path.display().to_string(), &text, &find);
    if let Some(error) = unread.take() {
        return Err(error);
    }
    with_meshes(description?, |mesh| {
        let path = folder.join(mesh);
        if stays_inside(mesh) && path.is_file() { read(&path).map(Some) } else { Ok(None) }
    })
}

/// Whether `name` leads nowhere but further down.
fn stays_inside(name: &str) -> bool {
    Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

fn read_text(path: &Path) -> Result<String, RobotModelError> {
    let bad = |e| RobotModelError::Read { path: path.to_owned(), source: io::Error::new(io::ErrorKind::InvalidData, e) };
    String::from_utf8(read(path)?).map_err(bad)
}

fn with_meshes(
    description: RobotDescription,
    bytes_of: impl Fn(&str) -> Result<Option<Vec<u8>>, RobotModelError>,
) -> Result<RobotModel, RobotModelError> {
    let robot = &description.name;
    let mut meshes = BTreeMap::new();
    for visual in description.simulation.iter().flat_map(|simulation| &simulation.links).flat_map(|link| &link.visuals) {
        let name = &visual.mesh;
        let bytes = bytes_of(name)?.ok_or_else(|| RobotModelError::MissingMesh { robot: robot.clone(), mesh: name.clone() })?;
        let mesh = Mesh::from_stl(&bytes).map_err(|source| RobotModelError::Mesh { robot: robot.clone(), mesh: name.clone(), source })?;
        meshes.insert(name.clone(), mesh);
    }
    Ok(RobotModel { description, meshes })
}

fn read(path: &Path) -> Result<Vec<u8>, RobotModelError> {
    let failed = |source| RobotModelError::Read { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > MAX_FILE_BYTES {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, format!("{length} bytes, expected at most {MAX_FILE_BYTES}"))));
    }
    fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use nalgebra::Point3;
    use sinew_core::Shape;

    use super::*;

    fn robots_folder() -> PathBuf {
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../robots")
    }

    #[test]
    fn every_robot_of_the_folder_is_built_in_and_loads_alike() {
        let mut found: Vec<String> = fs::read_dir(robots_folder())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        found.sort();
        let mut known: Vec<&str> = list().collect();
        known.sort_unstable();
        assert_eq!(found, known);
        for name in found {
            let built_in = get(&name).unwrap();
            assert_eq!(built_in.description.name, name, "the folder's name is the robot's");
            let from_folder = get(robots_folder().join(&name).to_str().unwrap()).unwrap();
            assert_eq!(built_in.description, from_folder.description);
            assert_eq!(built_in.meshes, from_folder.meshes);
            assert!(built_in.description.simulation.is_some() || name != "so101");
            // No mesh lies there unused.
            let files = fs::read_dir(robots_folder().join(&name).join("meshes")).map_or(0, Iterator::count);
            assert_eq!(files, built_in.meshes.len());
        }
    }

    #[test]
    fn names_that_lerobot_uses_are_known() {
        let names = [
            ("so101", "so101"),
            ("so101_follower", "so101"),
            ("so_follower", "so101"),
            ("so100_follower", "so100"),
            ("so100_leader", "so101_leader"),
            ("so_leader", "so101_leader"),
            ("openarm_follower", "openarm"),
            ("openarm_mini", "openarm_mini"),
            ("omx_follower", "omx"),
        ];
        for (name, expected) in names {
            assert_eq!(get(name).unwrap().description.name, expected);
        }
        let error = get("so102").unwrap_err().to_string();
        assert!(error.contains("so102") && error.contains("so101"), "{error}");
    }

    #[test]
    fn a_mesh_outside_the_folder_is_refused() {
        let folder = std::env::temp_dir().join(format!("sinew-robots-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let text = BUILT_IN[0].toml.replace("meshes/base_printed.stl", "../base_printed.stl");
        fs::write(folder.join("robot.toml"), text).unwrap();
        fs::write(folder.join("../base_printed.stl"), b"there").unwrap();
        let error = get(folder.to_str().unwrap()).unwrap_err();
        fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(error, RobotModelError::MissingMesh { ref mesh, .. } if mesh == "../base_printed.stl"), "{error}");
    }

    #[test]
    fn a_robot_toml_is_wanted_by_its_folder() {
        let folder = robots_folder().join("example");
        let file = folder.join("robot.toml");
        let error = get(file.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.ends_with(&format!("that is a file, expected the folder that it is in: {}", folder.display())), "{error}");
    }

    /// Points of a mesh's surface, at most a millimetre apart.
    fn surface(mesh: &Mesh) -> Vec<Point3<f32>> {
        let mut points = Vec::new();
        for triangle in &mesh.triangles {
            let [a, b, c] = triangle.map(|v| mesh.positions_m[v as usize]);
            let steps = (((b - a).norm().max((c - a).norm()) / 0.001).ceil() as usize).max(1);
            for i in 0..=steps {
                for j in 0..=steps - i {
                    points.push(a + (b - a) * (i as f32 / steps as f32) + (c - a) * (j as f32 / steps as f32));
                }
            }
        }
        points
    }

    /// The pads are the colliders that grip best. Their broad inner face follows the printed finger.
    #[test]
    fn finger_pads_lie_on_the_fingers() {
        let model = get("so101").unwrap();
        let mut pads = 0;
        for link in &model.description.simulation.as_ref().unwrap().links {
            for collider in link.colliders.iter().filter(|collider| collider.friction > 0.9) {
                let Shape::Box { half_extents_m: [x, y, z] } = collider.shape else { panic!("{}: a pad that is no box", link.name) };
                let printed = link.visuals.iter().find(|visual| visual.mesh.contains("printed")).unwrap();
                let surface = surface(&model.meshes[&printed.mesh]);
                let off = |side: f64| {
                    let face = [
                        [side * x, 0.0, 0.0],
                        [side * x, y * 0.8, 0.0],
                        [side * x, y * -0.8, 0.0],
                        [side * x, 0.0, z * 0.8],
                        [side * x, 0.0, z * -0.8],
                    ];
                    let distance = |at: [f64; 3]| {
                        let at = (collider.pose.to_isometry() * Point3::from(at)).cast::<f32>();
                        surface.iter().map(|p| (p - at).norm()).fold(f32::MAX, f32::min)
                    };
                    face.map(distance).into_iter().fold(0.0, f32::max)
                };
                let off = off(1.0).min(off(-1.0));
                assert!(off < 0.0025, "{}: the pad at {:?} is {off} m off the finger", link.name, collider.pose.translation_m);
                pads += 1;
            }
        }
        assert_eq!(pads, 4);
    }
}
