use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<CameraAddress, String> {
    text.parse().map_err(|error: CameraAddressError| error.to_string())
}

#[test]
fn what_users_write_is_read() {
    let source = |text: &str| read(&format!("a={text}")).unwrap().source;
    assert_eq!(source("usb:200901010001"), SourceAddress::Usb("200901010001".into()));
    assert_eq!(source("path:pci-0000:00:14.0-usb-0:2:1.0"), SourceAddress::UsbPath("pci-0000:00:14.0-usb-0:2:1.0".into()));
    assert_eq!(source("/dev/video2"), SourceAddress::Device("/dev/video2".into()));
    assert_eq!(source("0"), SourceAddress::Device("/dev/video0".into()));
    assert_eq!(source(r"file:a\,b=c.mp4"), SourceAddress::File("a,b=c.mp4".into()));
    assert_eq!(source("http://me:pass@cam/v?x=1"), SourceAddress::Http("http://me:pass@cam/v?x=1".into()));
    assert_eq!(source("rtsp://cam:554/live"), SourceAddress::Rtsp("rtsp://cam:554/live".into()));
    let zmq = |host: &str, port| SourceAddress::Zmq { host: host.into(), port, camera: "head_camera".into() };
    assert_eq!(source("zmq://10.0.0.7:5557/head_camera"), zmq("10.0.0.7", 5557));
    assert_eq!(source("zmq://[::1]/head_camera"), zmq("::1", 5555));
    assert_eq!(
        (source("zmq"), source("pattern"), source("sim:/tmp/w")),
        (SourceAddress::LeKiwi, SourceAddress::Pattern, SourceAddress::Sim("/tmp/w".into()))
    );

    let all = "wrist=usb:1,640x480@30,MJPG,rotate=-90,capture=1280x720,crop=1:2:3:4,resize=yes,age=200,old=repeat,depth=200:3000,exposure=156,wb=auto,focus=0";
    let camera = read(all).unwrap();
    assert_eq!(
        (camera.name.as_str(), camera.size, camera.fps, camera.format),
        ("wrist", Some((640, 480)), Some(30), Some(PixelFormat::Mjpeg))
    );
    assert_eq!(
        (camera.rotation_deg, camera.capture, camera.crop),
        (Some(270), Some((1280, 720)), Some(Crop { x: 1, y: 2, width: 3, height: 4 }))
    );
    assert_eq!((camera.resize, camera.max_age_ms, camera.when_old), (true, Some(200), Some(WhenOld::Repeat)));
    assert_eq!(
        (camera.exposure, camera.white_balance, camera.focus),
        (Some(Control::Value(156)), Some(Control::Auto), Some(Control::Value(0)))
    );
    assert_eq!(camera.decode().depth_range_m, Some((0.2, 3.0)));

    let mut described: CameraDescription = toml::from_str("name = \"wrist\"\nwidth = 1\nheight = 2").unwrap();
    camera.describe(&mut described);
    assert_eq!((described.width, described.height, described.fps, described.rotation_deg), (640, 480, Some(30), 270));
    assert_eq!((described.format.as_deref(), described.max_age_ms, described.when_old), (Some("MJPG"), 200, WhenOld::Repeat));
    assert_eq!(CameraAddress { capture: None, ..camera }.capture_size(&described), (480, 640), "turned back");
    assert!(read("a=1").unwrap().warning().unwrap().contains("usb:SERIAL"));
    assert_eq!(read("a=usb:1").unwrap().warning(), None);
}

#[test]
fn a_camera_sees_distances_where_its_user_or_its_robot_says_so() {
    let described = |text: &str, known: &str| {
        let camera = read(text).unwrap();
        let mut described: CameraDescription = toml::from_str(&format!("name = \"a\"\nwidth = 4\nheight = 2\n{known}")).unwrap();
        camera.describe(&mut described);
        (described.depth, described.format, camera.decode().depth_range_m)
    };
    let z16 = || Some("Z16".to_owned());
    assert_eq!(described("a=usb:1,Z16", ""), (true, z16(), None));
    assert_eq!(described("a=usb:1,depth16", ""), (true, z16(), None));
    assert_eq!(described("a=usb:1,depth=yes", ""), (true, z16(), None));
    assert_eq!(described("a=usb:1,Y16,depth=yes", ""), (true, Some("Y16".to_owned()), None));
    assert_eq!(described("a=usb:1", "depth = true"), (true, z16(), None));
    assert_eq!(described("a=usb:1,Y16", "depth = true"), (true, Some("Y16".to_owned()), None));
    // What is grey stays grey.
    assert_eq!(described("a=usb:1,Y16", ""), (false, Some("Y16".to_owned()), None));
    assert_eq!(described("a=usb:1,GREY", ""), (false, Some("GREY".to_owned()), None));
    assert_eq!(described("a=usb:1,Z16,depth=200:3000", ""), (false, z16(), Some((0.2, 3.0))));
    assert_eq!(described("a=usb:1", ""), (false, None, None));
}

#[test]
fn what_is_wrong_says_what_was_expected() {
    for (text, expected) in [
        ("usb:1", "NAME=SOURCE"),
        ("=usb:1", "a name of letters"),
        ("a/b=usb:1", "a name of letters"),
        ("a=", "usb:SERIAL, path:PORT, /dev/videoN"),
        ("a=camera", "found \"camera\""),
        ("a=usb:", "usb:SERIAL"),
        ("a=https://x/", "encrypted"),
        ("a=http://", "http://[USER"),
        ("a=rtsp:x", "rtsp://["),
        ("a=zmq://host", "zmq://HOST[:PORT]/NAME"),
        ("a=usb:1,640x480@", "WxH@FPS"),
        ("a=usb:1,640x0", "WxH@FPS"),
        ("a=usb:1,h265", "mjpeg, yuyv"),
        ("a=usb:1,rotate=45", "0, 90, 180 or 270"),
        ("a=usb:1,crop=1:2:3", "X:Y:W:H"),
        ("a=usb:1,crop=1:2:3:0", "X:Y:W:H"),
        ("a=usb:1,crop=1:2:3:4:5", "X:Y:W:H"),
        ("a=usb:1,age=0", "milliseconds"),
        ("a=usb:1,age=60001", "1 to 60000 milliseconds"),
        ("a=pattern,exposure=156", "exposure is for cameras of this machine, and pattern is none of them"),
        ("a=http://cam/v,MJPG", "a format is for cameras of this machine"),
        ("a=file:x.mp4,focus=auto", "focus is for"),
        ("a=sim:/tmp/w,depth=1:2", "depth is for"),
        ("a=rtsp://cam/live,capture=640x480", "capture is for sources that are asked for a size"),
        ("a=zmq,crop=1:2:3:4", "crop is for all but a LeKiwi's cameras"),
        ("a=usb:1,old=never", "stop or repeat"),
        ("a=usb:1,depth=3:2", "NEAR:FAR"),
        ("a=usb:1,depth=no", "yes, or NEAR:FAR"),
        ("a=usb:1,MJPG,depth=yes", "distances come in Z16 or Y16, and MJPG is neither"),
        ("a=http://cam/v,depth=yes", "depth is for"),
        ("a=usb:1,wb=warm", "auto or a whole number"),
        ("a=usb:1,speed=3", "rotate, crop"),
        ("a=usb:1,rotate=90,rotate=90", "twice"),
        ("a=usb:1,mjpeg,yuyv", "twice"),
        ("a=usb:1,", "WxH@FPS"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(expected) && error.contains(&format!("{text:?}")), "{text}: {error}");
    }
}

fn any_source() -> impl Strategy<Value = SourceAddress> {
    let text = "[ -~]{1,20}";
    prop_oneof![
        text.prop_map(SourceAddress::Usb),
        text.prop_map(SourceAddress::UsbPath),
        text.prop_map(|rest| SourceAddress::Device(format!("/dev/{rest}"))),
        text.prop_map(SourceAddress::File),
        text.prop_map(SourceAddress::Sim),
        "[a-z,/?=]{0,9}".prop_map(|path| SourceAddress::Http(format!("http://cam:81/{path}"))),
        "[a-z,/?=]{1,9}".prop_map(|path| SourceAddress::Rtsp(format!("rtsp://{path}"))),
        ("[a-z.]{1,9}|::1", 1..=u16::MAX, r"[a-z_,\\]{1,9}").prop_map(|(host, port, camera)| SourceAddress::Zmq { host, port, camera }),
        Just(SourceAddress::LeKiwi),
        Just(SourceAddress::Pattern),
    ]
}

fn any_control() -> impl Strategy<Value = Option<Control>> {
    prop::option::of(prop_oneof![Just(Control::Auto), any::<i32>().prop_map(Control::Value)])
}

prop_compose! {
    fn any_camera()(
        name in "[a-z_][a-z0-9_.-]{0,9}",
        source in any_source(),
        size in prop::option::of(((1_u32..=8192, 1_u32..=8192), prop::option::of(1_u32..=1000))),
        format in prop::option::of(prop::sample::select(FORMATS.map(|(_, format)| format).to_vec())),
        rotation_deg in prop::option::of(prop::sample::select(vec![0_u32, 90, 180, 270])),
        capture in prop::option::of((1_u32..=8192, 1_u32..=8192)),
        crop in prop::option::of((any::<u32>(), any::<u32>(), 1..=u32::MAX, 1..=u32::MAX)),
        resize: bool,
        max_age_ms in prop::option::of(1..=MOST_AGE_MS),
        repeats in prop::option::of(any::<bool>()),
        (near, more, is_kept) in (0_u32..9000, prop::option::of(1_u32..9000), any::<bool>()),
        exposure in any_control(),
        (white_balance, focus) in (any_control(), any_control()),
    ) -> CameraAddress {
        let camera = CameraAddress {
            name, source,
            size: size.map(|(size, _)| size),
            fps: size.and_then(|(_, fps)| fps),
            format, rotation_deg, capture,
            crop: crop.map(|(x, y, width, height)| Crop { x, y, width, height }),
            resize, max_age_ms,
            when_old: repeats.map(|repeats| if repeats { WhenOld::Repeat } else { WhenOld::Stop }),
            depth: more.map(|more| if is_kept { DepthUse::Kept } else { DepthUse::Greys(near, near + more) }),
            exposure, white_balance, focus,
        };
        match camera.misfit() {
            Some(_) => {
                let format = camera.format.filter(|_| camera.depth != Some(DepthUse::Kept));
                CameraAddress { source: SourceAddress::Usb("1".to_owned()), format, ..camera }
            }
            None => camera,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(camera in any_camera()) {
        prop_assert_eq!(read(&camera.to_string()), Ok(camera));
    }

    #[test]
    fn whatever_is_written_is_no_panic(text in "[ -~]{0,12}=?([ -~]{0,20},){0,3}[^a]{0,9}") {
        let _ = read(&text);
    }
}
