use super::*;

fn camera(width: u32, height: u32, rotation_deg: u32) -> CameraDescription {
    let text = format!("name = \"a\"\nwidth = {width}\nheight = {height}\nrotation_deg = {rotation_deg}");
    toml::from_str(&text).unwrap()
}

/// An image whose pixels say where they are.
fn places(width: u32, height: u32) -> Vec<u8> {
    (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 7])).collect()
}

fn made(options: ShapeOptions, of: (u32, u32), camera: &CameraDescription) -> Vec<u8> {
    let mut shape = Shape::new(options, camera);
    shape.check(of.0, of.1).unwrap();
    let mut out = vec![0; (camera.width * camera.height * 3) as usize];
    shape.make(&places(of.0, of.1), of.0, of.1, &mut out);
    out
}

#[test]
fn an_image_is_turned_clockwise() {
    let (width, height) = (50, 33);
    let at = |rgb: &[u8], width: u32, x: u32, y: u32| {
        let at = ((y * width + x) * 3) as usize;
        (u32::from(rgb[at]), u32::from(rgb[at + 1]))
    };
    // Where the picture's top left corner and the pixel right of it go.
    for (degrees, size, corner, right) in [
        (0, (50, 33), (0, 0), (1, 0)),
        (90, (33, 50), (32, 0), (32, 1)),
        (180, (50, 33), (49, 32), (48, 32)),
        (270, (33, 50), (0, 49), (0, 48)),
    ] {
        let out = made(ShapeOptions::default(), (width, height), &camera(size.0, size.1, degrees));
        assert_eq!(at(&out, size.0, corner.0, corner.1), (0, 0), "{degrees}");
        assert_eq!(at(&out, size.0, right.0, right.1), (1, 0), "{degrees}");
        let mut all: Vec<_> = out.chunks(3).map(<[u8]>::to_vec).collect();
        all.sort();
        let mut expected: Vec<_> = places(width, height).chunks(3).map(<[u8]>::to_vec).collect();
        expected.sort();
        assert_eq!(all, expected, "every pixel is still there at {degrees}");
    }
}

#[test]
fn a_part_is_cut_out_before_turning() {
    let crop = Some(Crop { x: 10, y: 5, width: 4, height: 2 });
    let out = made(ShapeOptions { crop, resize: false }, (50, 33), &camera(2, 4, 90));
    assert_eq!(out[..6], [10, 6, 7, 10, 5, 7]);
    assert_eq!(out[18..], [13, 6, 7, 13, 5, 7]);
}

#[test]
fn another_size_is_an_error_that_says_both() {
    let said =
        |options, camera: &CameraDescription, (width, height)| Shape::new(options, camera).check(width, height).unwrap_err().to_string();
    assert_eq!(
        said(ShapeOptions::default(), &camera(640, 480, 0), (1280, 720)),
        "expected pictures of 640 by 480 pixels, found 1280 by 720"
    );
    let turned = said(ShapeOptions::default(), &camera(480, 640, 90), (480, 640));
    assert_eq!(turned, "expected pictures of 640 by 480 pixels before they are turned by 90 degrees, found 480 by 640");
    for crop in [(0, 0, 641, 480), (1, 0, 640, 480), (0, 0, 0, 480), (u32::MAX, 0, 2, 2)] {
        let crop = Crop { x: crop.0, y: crop.1, width: crop.2, height: crop.3 };
        let said = said(ShapeOptions { crop: Some(crop), resize: true }, &camera(640, 480, 0), (640, 480));
        assert!(said.contains(&crop.to_string()) && said.contains("640 by 480"), "{said}");
    }
    Shape::new(ShapeOptions { crop: None, resize: true }, &camera(640, 480, 0)).check(1280, 720).unwrap();
}

#[test]
fn a_picture_of_another_size_keeps_its_brightness_and_places() {
    for (from, to) in [((64, 48), (32, 24)), ((64, 48), (20, 31)), ((33, 21), (100, 64)), ((5, 5), (1, 1)), ((1, 1), (7, 3))] {
        let resize = ShapeOptions { crop: None, resize: true };
        let out = made(resize, from, &camera(to.0, to.1, 0));
        assert!(out.chunks(3).all(|pixel| pixel[2] == 7), "a plain channel stays plain");
        for (i, pixel) in out.chunks(3).enumerate() {
            let scale = |to_at: u32, from: u32, to: u32| {
                ((f64::from(to_at) + 0.5) * f64::from(from) / f64::from(to) - 0.5).clamp(0.0, f64::from(from - 1))
            };
            let (x, y) = (i as u32 % to.0, i as u32 / to.0);
            let (expected_x, expected_y) = (scale(x, from.0, to.0), scale(y, from.1, to.1));
            // At an edge a mean lies further inside.
            let edge = |at: u32, to: u32| if at == 0 || at + 1 == to { 2.5 } else { 1.0 };
            assert!((f64::from(pixel[0]) - expected_x).abs() <= edge(x, to.0), "{from:?} to {to:?}: {x} {y}: {pixel:?}");
            assert!((f64::from(pixel[1]) - expected_y).abs() <= edge(y, to.1), "{from:?} to {to:?}: {x} {y}: {pixel:?}");
        }
    }
}

#[test]
fn distances_are_moved_and_never_mixed() {
    let made = |options, (width, height): (u32, u32), camera: &CameraDescription, mm: &[u16]| {
        let mut shape = Shape::new(options, camera);
        shape.check(width, height).unwrap();
        let mut out = vec![0; camera.image_bytes()];
        shape.make(&mm.iter().flat_map(|mm| mm.to_le_bytes()).collect::<Vec<_>>(), width, height, &mut out);
        out.chunks(2).map(|mm| u16::from_le_bytes([mm[0], mm[1]])).collect::<Vec<u16>>()
    };
    let depth = |width, height, rotation_deg| CameraDescription { depth: true, ..camera(width, height, rotation_deg) };
    let plain = ShapeOptions::default();
    let six = [300, 4000, 0, 1000, 2, 65_535];
    assert_eq!(made(plain, (3, 2), &depth(3, 2, 0), &six), six);
    assert_eq!(made(plain, (3, 2), &depth(2, 3, 90), &six), [1000, 300, 2, 4000, 65_535, 0]);
    assert_eq!(made(plain, (3, 2), &depth(3, 2, 180), &six), [65_535, 2, 1000, 0, 4000, 300]);
    assert_eq!(made(plain, (3, 2), &depth(2, 3, 270), &six), [0, 65_535, 4000, 2, 300, 1000]);
    let crop = Some(Crop { x: 1, y: 0, width: 2, height: 2 });
    assert_eq!(made(ShapeOptions { crop, resize: false }, (3, 2), &depth(2, 2, 0), &six), [4000, 0, 2, 65_535]);
    let resize = ShapeOptions { crop: None, resize: true };
    assert_eq!(made(resize, (3, 2), &depth(6, 2, 0), &six), [300, 300, 4000, 4000, 0, 0, 1000, 1000, 2, 2, 65_535, 65_535]);
    // At any size what comes out was there before.
    let scene: Vec<u16> = (0..64 * 48).map(|at| at % 977 * 10).collect();
    for to in [(32, 24), (20, 31), (100, 64), (1, 1), (64, 48)] {
        let out = made(resize, (64, 48), &depth(to.0, to.1, 0), &scene);
        for (at, mm) in out.iter().enumerate() {
            let place = |at: u32, from: u32, to: u32| ((f64::from(at) + 0.5) * f64::from(from) / f64::from(to)) as usize;
            let (x, y) = (place(at as u32 % to.0, 64, to.0), place(at as u32 / to.0, 48, to.1));
            assert_eq!(*mm, scene[y * 64 + x], "{at} of {to:?}");
        }
    }
}
