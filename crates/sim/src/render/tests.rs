//! Pictures against what geometry says they must show.

use nalgebra::{Isometry3, Point3, Rotation3, Translation3, UnitQuaternion, Vector3};
use sinew_core::Image;

use super::{Camera, Decal, Instance, Renderer};
use crate::mesh::Mesh;
use crate::robots;
use crate::scene::{Look, rest_pose};

const RED: [f32; 3] = [0.8, 0.0, 0.0];
const BLUE: [f32; 3] = [0.0, 0.0, 0.8];

/// A camera at `eye` that looks at `target`, its picture's top towards `up`.
fn camera(eye: [f32; 3], target: [f32; 3], up: Vector3<f32>) -> Camera {
    let (eye, target) = (Point3::from(eye), Point3::from(target));
    // A camera's own z points backwards.
    let world_from_camera = Isometry3::face_towards(&eye, &(eye + (eye - target)), &up);
    Camera { world_from_camera, vertical_field_of_view_rad: 0.7 }
}

fn from_above(height_m: f32) -> Camera {
    camera([0.2, 0.0, height_m], [0.2, 0.0, 0.0], Vector3::y())
}

fn pixel(image: &Image, x: usize, y: usize) -> [u8; 3] {
    let at = (y * image.width as usize + x) * 3;
    [image.rgb[at], image.rgb[at + 1], image.rgb[at + 2]]
}

/// Where a place of the world is in the picture, by the textbook.
fn project(camera: &Camera, image: &Image, point: [f32; 3]) -> (f64, f64) {
    let p = camera.world_from_camera.cast::<f64>().inverse_transform_point(&Point3::from(point).cast());
    let focal = 0.5 * f64::from(image.height) / (0.5 * f64::from(camera.vertical_field_of_view_rad)).tan();
    (0.5 * f64::from(image.width) + focal * p.x / -p.z, 0.5 * f64::from(image.height) - focal * p.y / -p.z)
}

fn is_red([r, g, b]: [u8; 3]) -> bool {
    r > 60 && g < 20 && b < 20
}

fn draw(renderer: &mut Renderer, look: &Look, instances: &[Instance], decals: &[Decal], camera: &Camera, size: (u32, u32)) -> Image {
    let mut image = Image::black(size.0, size.1);
    renderer.stage(look, instances, decals).draw(camera, size, &mut image.rgb);
    image
}

#[test]
fn a_cubes_outline_is_where_its_corners_project_to() {
    let mut renderer = Renderer::new();
    let mesh = renderer.add_mesh(Mesh::cuboid(Vector3::new(0.03, 0.02, 0.04)));
    let turn = Rotation3::from_euler_angles(0.3, -0.5, 0.9);
    let world_from_mesh = Isometry3::from_parts(Translation3::new(0.22, -0.03, 0.11), turn.into());
    for eye in [[0.8, 0.1, 0.5], [0.1, -0.6, 0.3], [0.3, 0.1, 0.6]] {
        let camera = camera(eye, [0.2, 0.0, 0.05], Vector3::z());
        let instance = Instance { mesh, world_from_mesh, color: RED };
        let image = draw(&mut renderer, &Look::default(), &[instance], &[], &camera, (160, 120));
        let (mut found, mut expected) = ([f64::MAX, f64::MIN, f64::MAX, f64::MIN], [f64::MAX, f64::MIN, f64::MAX, f64::MIN]);
        let grow = |bounds: &mut [f64; 4], x0: f64, x1: f64, y0: f64, y1: f64| {
            *bounds = [bounds[0].min(x0), bounds[1].max(x1), bounds[2].min(y0), bounds[3].max(y1)];
        };
        for y in 0..120 {
            for x in 0..160 {
                if is_red(pixel(&image, x, y)) {
                    grow(&mut found, x as f64, x as f64 + 1.0, y as f64, y as f64 + 1.0);
                }
            }
        }
        for corner in 0..8 {
            let side = |bit: i32, half: f32| if corner >> bit & 1 == 0 { half } else { -half };
            let at = world_from_mesh * Point3::new(side(0, 0.03), side(1, 0.02), side(2, 0.04));
            let (x, y) = project(&camera, &image, at.into());
            grow(&mut expected, x, x, y, y);
        }
        for (found, expected) in found.iter().zip(expected) {
            // A corner that covers little of its pixel is not counted as red.
            assert!((found - expected).abs() < 1.6, "eye {eye:?}: outline {found:.2}, corners say {expected:.2}");
        }
    }
}

#[test]
fn edges_are_smooth_so_that_brightness_follows_area() {
    let mut renderer = Renderer::new();
    let mesh = renderer.add_mesh(Mesh::cuboid(Vector3::new(0.05, 0.05, 0.0005)));
    let look = Look { table_color: [0.0; 3], light_share: 0.0, ..Look::default() };
    let camera = from_above(0.5);
    let mut last = None;
    for step in 0..5 {
        // A board that turns: its outline never meets the pixels' grid in the same way twice.
        let turn = UnitQuaternion::from_axis_angle(&Vector3::z_axis(), 0.1 + 0.13 * step as f32);
        let world_from_mesh = Isometry3::from_parts(Translation3::new(0.2, 0.0, 0.001), turn);
        let image = draw(&mut renderer, &look, &[Instance { mesh, world_from_mesh, color: RED }], &[], &camera, (96, 96));
        let full = f64::from(pixel(&image, 48, 48)[0]);
        let covered: f64 = (0..96 * 96).map(|i| f64::from(image.rgb[3 * i]) / full).sum();
        let focal = 48.0 / 0.35f64.tan();
        let expected = (0.1 * focal / 0.4985).powi(2);
        assert!((covered / expected - 1.0).abs() < 0.01, "{covered} pixels, expected {expected}");
        let partly = (0..96 * 96).filter(|i| (0.2..0.8).contains(&(f64::from(image.rgb[3 * i]) / full))).count() as f64;
        // Two samples either way: about half of the outline's pixels are neither empty nor full.
        assert!(partly > expected.sqrt(), "{partly} pixels are partly covered");
        assert!(last.replace(image.rgb.clone()) != Some(image.rgb), "it turned");
    }
}

#[test]
fn what_is_nearer_covers_what_is_farther_whichever_comes_first() {
    let mut renderer = Renderer::new();
    let mesh = renderer.add_mesh(Mesh::cuboid(Vector3::new(0.04, 0.04, 0.01)));
    let low = Instance { mesh, world_from_mesh: Isometry3::translation(0.2, 0.0, 0.02), color: RED };
    let high = Instance { mesh, world_from_mesh: Isometry3::translation(0.2, 0.0, 0.08), color: BLUE };
    let camera = from_above(0.5);
    let one = draw(&mut renderer, &Look::default(), &[low, high], &[], &camera, (64, 64));
    let other = draw(&mut renderer, &Look::default(), &[high, low], &[], &camera, (64, 64));
    let [r, g, b] = pixel(&one, 32, 32);
    assert!(b > 100 && r < 20 && g < 20, "{:?}", [r, g, b]);
    assert_eq!(one, other);
}

#[test]
fn shadows_fall_away_from_the_light() {
    let mut renderer = Renderer::new();
    let mesh = renderer.add_mesh(Mesh::cuboid(Vector3::new(0.02, 0.02, 0.05)));
    let tower = Instance { mesh, world_from_mesh: Isometry3::translation(0.2, 0.0, 0.05), color: RED };
    let camera = camera([0.2, -0.01, 0.9], [0.2, 0.0, 0.0], Vector3::y());
    let brightness = |image: &Image, x: f32, y: f32| {
        let (u, v) = project(&camera, image, [x, y, 0.0]);
        pixel(image, u as usize, v as usize)[1]
    };
    for (light_x, light_y) in [(0.6, 0.0), (-0.6, 0.0), (0.0, 0.6), (0.0, -0.6)] {
        let look = Look { light_direction: [light_x, light_y, 0.8], ..Look::default() };
        let image = draw(&mut renderer, &look, &[tower], &[], &camera, (128, 128));
        let bare = draw(&mut renderer, &look, &[], &[], &camera, (128, 128));
        // The tower is 0.1 m high: its shadow ends 0.075 m behind it.
        for (reach, shaded) in [(0.05, true), (0.12, false), (-0.05, false)] {
            let place = (0.2 - light_x / 0.6 * reach, -light_y / 0.6 * reach);
            let (with, without) = (brightness(&image, place.0, place.1), brightness(&bare, place.0, place.1));
            if shaded {
                assert!(f32::from(with) < 0.8 * f32::from(without), "light {light_x} {light_y}: {with} of {without} in the shadow");
            } else {
                assert_eq!(with, without, "light {light_x} {light_y}: shadow {reach} m from the tower");
            }
        }
    }
}

#[test]
fn things_shade_other_things() {
    let mut renderer = Renderer::new();
    let cube = renderer.add_mesh(Mesh::cuboid(Vector3::new(0.02, 0.02, 0.02)));
    let board = renderer.add_mesh(Mesh::cuboid(Vector3::new(0.04, 0.04, 0.002)));
    let cube = Instance { mesh: cube, world_from_mesh: Isometry3::translation(0.2, 0.0, 0.02), color: RED };
    // Up towards the light, so that it does not hide the cube.
    let board = Instance { mesh: board, world_from_mesh: Isometry3::translation(0.32, 0.0, 0.14), color: BLUE };
    let look = Look { light_direction: [0.7, 0.0, 0.7], ..Look::default() };
    let camera = from_above(0.6);
    let lit = draw(&mut renderer, &look, &[cube], &[], &camera, (64, 64));
    let shaded = draw(&mut renderer, &look, &[cube, board], &[], &camera, (64, 64));
    let (lit, shaded) = (pixel(&lit, 32, 32), pixel(&shaded, 32, 32));
    assert!(is_red(lit) && is_red(shaded));
    assert!(f32::from(shaded[0]) < 0.85 * f32::from(lit[0]), "{shaded:?} under the board, {lit:?} without");
}

#[test]
fn a_decal_is_a_disc_of_its_radius() {
    let mut renderer = Renderer::new();
    let decal = Decal { center_m: [0.22, 0.03], radius_m: 0.05, color: RED };
    let camera = from_above(0.5);
    let image = draw(&mut renderer, &Look::default(), &[], &[decal], &camera, (100, 100));
    let red = (0..100 * 100).filter(|i| is_red(pixel(&image, i % 100, i / 100))).count() as f64;
    let focal = 50.0 / 0.35f64.tan();
    let expected = std::f64::consts::PI * (0.05 * focal / 0.5).powi(2);
    assert!((red / expected - 1.0).abs() < 0.05, "{red} pixels, expected {expected}");
    let (x, y) = project(&camera, &image, [0.22, 0.03, 0.0]);
    assert!(is_red(pixel(&image, x as usize, y as usize)));
}

/// A long board that passes under the camera and far behind it: the picture is board below the
/// horizon's row and nothing above it.
#[test]
fn what_reaches_behind_the_camera_is_cut_off_and_not_torn() {
    let mut renderer = Renderer::new();
    let mesh = renderer.add_mesh(Mesh::cuboid(Vector3::new(50.0, 30.0, 0.01)));
    let look = Look { table_color: BLUE, background_color: BLUE, ..Look::default() };
    let board = Instance { mesh, world_from_mesh: Isometry3::identity(), color: RED };
    for eye_z in [0.02, 0.1, 0.4] {
        let camera = camera([0.1, 0.2, eye_z], [0.9, 0.3, eye_z - 0.1], Vector3::z());
        let image = draw(&mut renderer, &look, &[board], &[], &camera, (96, 72));
        let far = project(&camera, &image, [45.0, 0.2 + 44.9 / 8.0, 0.01]).1;
        for x in 0..96 {
            for y in 0..72 {
                let red = is_red(pixel(&image, x, y));
                if (y as f64) > far + 1.5 {
                    assert!(red, "eye {eye_z}: pixel {x}, {y} lies below the horizon {far:.1}");
                } else if (y as f64) < far - 2.5 {
                    assert!(!red, "eye {eye_z}: pixel {x}, {y} lies above the horizon {far:.1}");
                }
            }
        }
    }
}

fn so101(renderer: &mut Renderer, position_rad: &[f64]) -> Vec<Instance> {
    let model = robots::get("so101").unwrap();
    let mut poses = vec![Isometry3::identity()];
    poses.extend(model.description.base_from_parts(position_rad));
    let links = &model.description.simulation.as_ref().unwrap().links;
    let visuals = links.iter().zip(poses).flat_map(|(link, pose)| link.visuals.iter().map(move |visual| (visual, pose)));
    visuals
        .map(|(visual, pose)| Instance {
            mesh: renderer.add_mesh(model.meshes[&visual.mesh].clone()),
            world_from_mesh: pose.cast(),
            color: visual.color,
        })
        .collect()
}

/// The description's camera `name`, the arm being at `position_rad`.
fn so101_camera(name: &str, position_rad: &[f64]) -> Camera {
    let robot = robots::get("so101").unwrap().description;
    let simulation = robot.simulation.as_ref().unwrap();
    let camera = simulation.cameras.iter().find(|camera| camera.name == name).unwrap();
    let link = simulation.links.iter().position(|link| link.name == camera.link);
    let base_from_link = link.map_or_else(Isometry3::identity, |i| robot.base_from_parts(position_rad)[i - 1]);
    Camera {
        world_from_camera: (base_from_link * camera.link_from_camera.to_isometry()).cast(),
        vertical_field_of_view_rad: camera.vertical_field_of_view_rad as f32,
    }
}

#[test]
fn the_same_scene_gives_the_same_bytes_whatever_was_drawn_before() {
    let position = [0.4, 0.2, -0.3, 1.3, 0.2, 0.7];
    let decal = Decal { center_m: [0.25, 0.1], radius_m: 0.04, color: RED };
    let camera = so101_camera("front", &position);
    let mut used = Renderer::new();
    let mut fresh = Renderer::new();
    let instances = so101(&mut used, &position);
    assert_eq!(instances, so101(&mut fresh, &position));
    let other_look = Look { light_direction: [-0.5, 0.6, 0.4], exposure: 0.7, ..Look::default() };
    let first = draw(&mut used, &Look::default(), &instances, &[decal], &camera, (128, 96));
    draw(&mut used, &other_look, &instances[3..], &[], &camera, (64, 80));
    draw(&mut used, &other_look, &instances[..5], &[decal, decal], &so101_camera("wrist", &position), (128, 96));
    let again = draw(&mut used, &Look::default(), &instances, &[decal], &camera, (128, 96));
    assert_eq!(first, again);
    assert_eq!(first, draw(&mut fresh, &Look::default(), &instances, &[decal], &camera, (128, 96)));
    assert!(first.rgb.iter().any(|v| *v != first.rgb[0]));
}

/// The wrist camera shows both finger tips and what is between them, until the tips are 6 cm apart.
#[test]
fn the_wrist_camera_sees_the_finger_tips() {
    let robot = robots::get("so101").unwrap().description;
    let image = Image::black(128, 96);
    for gripper_rad in [-0.1, 0.25, 0.6] {
        let position = [0.0, 0.0, 0.0, 0.0, 0.0, gripper_rad];
        let links = robot.base_from_parts(&position);
        let camera = so101_camera("wrist", &position);
        for (link, tip) in [(4, [-0.008, 0.0, -0.1]), (5, [-0.012, -0.078, 0.019])] {
            let at = links[link] * Point3::from(tip);
            let (x, y) = project(&camera, &image, at.cast::<f32>().into());
            assert!((0.0..128.0).contains(&x) && (0.0..96.0).contains(&y), "gripper {gripper_rad}: link {link}'s tip at {x:.0}, {y:.0}");
        }
    }
}

/// A 3 cm cube anywhere before the arm is 7 pixels wide or more, and the resting arm hides none.
#[test]
fn the_front_camera_sees_the_workspace_past_the_resting_arm() {
    let robot = robots::get("so101").unwrap().description;
    let mut renderer = Renderer::new();
    let arm = so101(&mut renderer, &rest_pose(&robot));
    let camera = so101_camera("front", &rest_pose(&robot));
    let mesh = renderer.add_mesh(Mesh::cuboid(Vector3::repeat(0.015)));
    for x in [0.18, 0.25, 0.32, 0.38] {
        for y in [-0.18, -0.09, 0.0, 0.09, 0.18] {
            let cube = Instance { mesh, world_from_mesh: Isometry3::translation(x, y, 0.015), color: RED };
            let count = |image: &Image| (0..128 * 96).filter(|i| is_red(pixel(image, i % 128, i / 128))).count();
            let alone = draw(&mut renderer, &Look::default(), &[cube], &[], &camera, (128, 96));
            let mut all = arm.clone();
            all.push(cube);
            let with_arm = draw(&mut renderer, &Look::default(), &all, &[], &camera, (128, 96));
            assert!(count(&alone) >= 49, "cube at {x}, {y}: {} pixels", count(&alone));
            assert_eq!(count(&alone), count(&with_arm), "cube at {x}, {y}: hidden by the arm");
        }
    }
}

#[test]
fn an_empty_image_is_no_fault() {
    let mut renderer = Renderer::new();
    for size in [(0, 0), (0, 8), (8, 0), (1, 1)] {
        let image = draw(&mut renderer, &Look::default(), &[], &[], &from_above(0.5), size);
        assert_eq!(image.rgb.len(), size.0 as usize * size.1 as usize * 3);
    }
}
