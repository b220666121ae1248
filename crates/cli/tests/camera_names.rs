//! A policy whose cameras have other names or sizes than the robot's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use common::{Desk, contains_all, demo_policy};

/// The demonstration policy, which wants `front` and `wrist`, with other names in all of its files.
fn renamed(desk: &Desk) -> String {
    let folder = desk.policy("other");
    for file in ["config.json", "policy_preprocessor.json", "policy_postprocessor.json"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        std::fs::write(folder.join(file), text.replace("images.front", "images.top").replace("images.wrist", "images.hand")).unwrap();
    }
    for entry in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.to_string_lossy().contains("normalizer") {
            // Names of one length would do; these are in the header alone, which is written anew.
            let bytes = std::fs::read(&entry).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let views: Vec<_> = file
                .iter()
                .map(|(name, view)| (name.replace("images.front", "images.top").replace("images.wrist", "images.hand"), view))
                .collect();
            let out = folder.join("new");
            safetensors::serialize_to_file(views, None, &out).unwrap();
            std::fs::rename(out, &entry).unwrap();
        }
    }
    "./other".to_owned()
}

#[test]
fn cameras_are_renamed_and_sized_wherever_a_policy_runs() {
    let desk = Desk::new();
    let policy = renamed(&desk);
    let check = ["policy", "check", &policy, "--robot", "so101"];
    let refused = desk.run(&check);
    assert_eq!(refused.status.code(), Some(1));
    contains_all(&String::from_utf8(refused.stdout).unwrap(), &["observation.images.top", "no such camera", "doesn't fit"]);
    let names = ["--rename", "front=top", "--rename", "wrist=observation.images.hand"];
    contains_all(
        &desk.ok(&[&check[..], &names].concat()),
        &["a 128x96 image of the camera front", "a 128x96 image of the camera wrist", "fits the robot so101"],
    );
    // Seen the same, it answers the same as under its own names.
    let eval = |policy: &[&str]| {
        let text = desk
            .ok(&[&["eval", "--episodes", "1", "--task", "reach", "--json", "--force", "--contact-sheet", "sheet.png"], policy].concat());
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        line
    };
    let own = demo_policy();
    assert_eq!(eval(&[&["--policy", &policy][..], &names].concat()), eval(&["--policy", own.to_str().unwrap()]));

    // Sizes.
    let own = ["policy", "check", "--robot", "so101"];
    let small = desk.run(&[&own[..], &["--camera-size", "64x48"]].concat());
    assert_eq!(small.status.code(), Some(1));
    contains_all(&String::from_utf8(small.stdout).unwrap(), &["a 64x48 image", "doesn't fit"]);
    let one = desk.run(&[&own[..], &["--camera-size", "wrist=64x48"]].concat());
    contains_all(&String::from_utf8(one.stdout).unwrap(), &["a 64x48 image", "a 128x96 image"]);
    desk.ok(&[&own[..], &["--camera-size", "wrist=128x96", "--camera-size", "front=128x96"]].concat());
    let rollout = ["rollout", "--pace", "fast", "--episodes", "1", "--no-record", "--no-rerun", "--camera-size", "160x120"];
    contains_all(&desk.error(&rollout), &["a 160x120 image"]);
    contains_all(&desk.error(&["eval", "--episodes", "1", "--camera-size", "160x120"]), &["a 160x120 image"]);
}

#[test]
fn images_of_a_file_are_resized_and_renamed() {
    use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
    let desk = Desk::new();
    let policy = renamed(&desk);
    let state: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let write = |name: &str, [height, width]: [usize; 2], value: u8| {
        let image = vec![value; height * width * 3];
        let image = || TensorView::new(Dtype::U8, vec![height, width, 3], &image).unwrap();
        let state = TensorView::new(Dtype::F32, vec![6], &state).unwrap();
        let tensors = [("observation.state", state), ("observation.images.front", image()), ("observation.images.wrist", image())];
        serialize_to_file(tensors, None, &desk.path(name)).unwrap();
    };
    write("large.safetensors", [192, 256], 90);
    write("fitting.safetensors", [96, 128], 90);
    let own = demo_policy();
    let own = own.to_str().unwrap();
    let infer = |policy: &str, inputs: &str, options: &[&str]| {
        desk.ok(&[&["policy", "infer", policy, "--inputs", inputs, "--out", "out.safetensors"], options].concat());
        std::fs::read(desk.path("out.safetensors")).unwrap()
    };
    let expected = infer(own, "fitting.safetensors", &[]);
    assert_eq!(infer(own, "large.safetensors", &["--camera-size", "128x96"]), expected);
    assert_eq!(
        infer(own, "large.safetensors", &["--camera-size", "front=128x96", "--camera-size", "observation.images.wrist=128x96"]),
        expected
    );
    assert_eq!(infer(&policy, "fitting.safetensors", &["--rename", "front=top", "--rename", "wrist=hand"]), expected);
    let large = ["policy", "infer", own, "--inputs", "large.safetensors", "--out", "out.safetensors"];
    contains_all(&desk.error(&large), &["256x192 image"]);
    contains_all(
        &desk.error(&[&large[..], &["--camera-size", "side=128x96"]].concat()),
        &["none of the camera side", "observation.images.front"],
    );
    contains_all(
        &desk.error(&[&large[..], &["--rename", "side=front"]].concat()),
        &["no image of the camera side", "observation.images.front"],
    );
    let twice = desk.misused(&[&large[..], &["--camera-size", "128x96", "--camera-size", "front=64x48"]].concat());
    contains_all(&twice, &["observation.images.front two sizes"]);
}

#[test]
fn names_and_sizes_that_make_no_sense_are_refused() {
    let desk = Desk::new();
    let check = ["policy", "check", "--robot", "so101"];
    for (options, code, why) in [
        (&["--rename", "front"][..], 2, "expected CAMERA=KEY"),
        (&["--rename", "=front"], 2, "expected CAMERA=KEY"),
        (&["--rename", "top=side"], 1, "no camera side"),
        (&["--rename", "a=front", "--rename", "b=front"], 1, "expected each key once"),
        (&["--rename", "a=front", "--rename", "a=wrist"], 1, "expected each camera once"),
        (&["--camera-size", "128"], 2, "expected [CAMERA=]WIDTHxHEIGHT"),
        (&["--camera-size", "=128x96"], 2, "expected [CAMERA=]WIDTHxHEIGHT"),
        (&["--camera-size", "0x96"], 2, "1 to 4096"),
        (&["--camera-size", "99999x96"], 2, "1 to 4096"),
        (&["--camera-size", "side=128x96"], 2, "has no camera side"),
        (&["--camera-size", "128x96", "--camera-size", "front=64x48"], 2, "two sizes"),
    ] {
        let output = desk.run(&[&check[..], options].concat());
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{options:?}: {said}");
        contains_all(&said, &[why]);
    }
    let alone = desk.run(&["policy", "check", "--camera-size", "128x96"]);
    assert_eq!(alone.status.code(), Some(2), "{alone:?}");
    contains_all(&String::from_utf8(alone.stderr).unwrap(), &["expected --robot"]);
}
