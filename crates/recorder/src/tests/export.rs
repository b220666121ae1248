//! What is shown elsewhere.

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Value, json};

use super::model::{go_on, record};
use crate::{
    CameraForm, Conversion, DatasetReader, Output, PageOptions, ToolError, plan_convert, plan_rename_task, write_html, write_mcap,
    write_rrd,
};

/// The JSON of a block of the page.
fn block(page: &str, id: &str) -> Value {
    let (_, rest) = page.split_once(&format!("<script type=\"application/json\" id=\"{id}\">")).unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

/// The JSON that a file of the page hands to the function `call`.
fn handed(path: &Path, call: &str) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(text.strip_prefix(call).unwrap().strip_suffix(')').unwrap()).unwrap()
}

fn from_base64(text: &Value) -> Vec<u8> {
    let digits = text.as_str().unwrap().bytes().filter(|byte| *byte != b'=').map(|byte| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    });
    let digits: Vec<u8> = digits.collect();
    let groups = digits.chunks(4).flat_map(|group| {
        let bits = group.iter().fold(0u32, |bits, digit| bits << 6 | u32::from(*digit)) << (6 * (4 - group.len()));
        bits.to_be_bytes()[1..group.len()].to_vec()
    });
    groups.collect()
}

fn floats(text: &Value) -> Vec<f32> {
    from_base64(text).chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// The pictures of the mp4 file `bytes`.
fn pictures(folder: &Path, bytes: &[u8]) -> Vec<sinew_core::Image> {
    let path = folder.join("camera.mp4");
    std::fs::write(&path, bytes).unwrap();
    let mut video = crate::VideoReader::open(&path).unwrap();
    (0..video.frames()).map(|frame| video.frame_at(frame as f64 / 30.0).unwrap()).collect()
}

#[test]
fn a_page_holds_every_episode_and_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a <dataset>");
    record(&root, 0, &[3, 40]);
    let reader = DatasetReader::open(&root).unwrap();
    let path = folder.path().join("page.html");
    let units = [("shoulder.pos", "°")].map(|(name, unit)| (name.to_owned(), unit.to_owned())).into();
    // An episode that is named twice is there once.
    write_html(&reader, &[1, 0, 1], &PageOptions { units, ..PageOptions::default() }, &path, &mut go_on).unwrap();
    let page = std::fs::read_to_string(&path).unwrap();
    // The one address is the name of a kind of element.
    let addresses = page.replace("http://www.w3.org/2000/svg", "");
    assert!(
        !addresses.contains("http:") && !addresses.contains("https:") && !page.contains("<dataset>"),
        "nothing is fetched, text is no markup"
    );
    assert!(page.ends_with("</html>\n") && !folder.path().join("page_files").exists());
    let index = block(&page, "index");
    assert_eq!((&index["title"], &index["folder"], &index["fps"]), (&json!("a <dataset>"), &Value::Null, &json!(30)));
    assert_eq!(index["episodes"].as_array().unwrap().iter().map(|row| row[0].as_u64().unwrap()).collect::<Vec<_>>(), [1, 0]);
    let keys: Vec<&str> = index["tables"].as_array().unwrap().iter().map(|table| table["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["action", "observation.state", "sinew/sent", "sinew/lateness", "sinew/gate"]);
    for (number, rows) in [(0, 3), (1, 40)] {
        let data = block(&page, &format!("episode-{number}"));
        let sent = floats(&data["tables"][2]);
        let frame = super::frame(&super::robot(), number, 0);
        let mut expected = [0.0; 2];
        sinew_core::Units::of(&super::robot().action_channels()).to_dataset(&frame.sent, &mut expected);
        assert!(sent.len() == rows * 2 && sent.chunks_exact(2).all(|row| row == expected), "{sent:?}");
        for (camera, key) in ["observation.images.front", "observation.images.wrist"].into_iter().enumerate() {
            let shown = pictures(folder.path(), &from_base64(&data["cameras"][camera]["mp4"]));
            let stored: Vec<_> = reader.images(number, key, 0..rows as u64).unwrap().map(Result::unwrap).collect();
            assert!(shown.len() == rows && shown.iter().zip(&stored).all(|(a, b)| a.rgb[..] == b.rgb[..]), "the same video");
        }
    }
    assert!(matches!(write_html(&reader, &[0], &PageOptions::default(), &path, &mut go_on), Err(ToolError::Exists { .. })));
}

#[test]
fn a_large_page_lies_beside_its_files_and_leaves_none_when_it_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4, 5]);
    let reader = DatasetReader::open(&root).unwrap();
    let options = PageOptions { most_bytes: 1000, ..PageOptions::default() };
    let path = folder.path().join("page.html");
    write_html(&reader, &[0, 1, 2], &options, &path, &mut go_on).unwrap();
    let page = std::fs::read_to_string(&path).unwrap();
    assert_eq!(block(&page, "index")["folder"], "page_files");
    assert!(!page.contains("id=\"episode-"));
    for (number, rows) in [(0, 3), (1, 4), (2, 5)] {
        let files = folder.path().join(format!("page_files/{number:06}"));
        let data = handed(&files.join("data.js"), &format!("sinew.data({number},"));
        assert_eq!((floats(&data["tables"][0]).len(), &data["cameras"][1]), (rows * 2, &json!({"mp4": null})));
        assert_eq!(pictures(folder.path(), &std::fs::read(files.join("1.mp4")).unwrap()).len(), rows);
    }
    let other = folder.path().join("other.html");
    std::fs::create_dir(folder.path().join("other_files")).unwrap();
    assert!(matches!(write_html(&reader, &[0], &options, &other, &mut go_on), Err(ToolError::Exists { .. })));
    let third = folder.path().join("third.html");
    let mut stop = |step: crate::Step<'_>| if step.done > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    assert!(matches!(write_html(&reader, &[0, 1, 2], &options, &third, &mut stop), Err(ToolError::Stopped)));
    assert!(!third.exists() && !folder.path().join("third_files").exists());
}

#[test]
fn images_that_are_no_video_are_on_the_page_and_text_is_no_markup() {
    let folder = tempfile::tempdir().unwrap();
    let [root, images] = ["dataset", "images"].map(|name| folder.path().join(name));
    record(&root, 0, &[7]);
    let form = Conversion { version: None, cameras: Some(CameraForm::Images) };
    plan_convert(&root, &form).unwrap().run(&Output::Folder(images.clone()), &mut go_on).unwrap();
    let hostile = "</script><img src=x onerror=alert(1)>";
    plan_rename_task(&images, "Push the cube", hostile).unwrap().run(&Output::InPlace, &mut go_on).unwrap();
    let reader = DatasetReader::open(&images).unwrap();
    let path = folder.path().join("page.html");
    write_html(&reader, &[0], &PageOptions { images: 3, image_width: 16, ..PageOptions::default() }, &path, &mut go_on).unwrap();
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(!page.contains("<img") && !page.contains(hostile));
    assert_eq!(block(&page, "index")["texts"][0], hostile);
    let camera = &block(&page, "episode-0")["cameras"][0];
    // Rows 0, 3 and 6.
    assert_eq!((camera["every"].as_u64(), camera["jpegs"].as_array().unwrap().len()), (Some(3), 3));
    assert_eq!(image::load_from_memory(&from_base64(&camera["jpegs"][0])).unwrap().width(), 16);
    // A camera that can't be decoded leaves the rest, and the page says why.
    let video = root.join("videos/observation.images.wrist/chunk-000/file-000.mp4");
    std::fs::write(&video, b"no video").unwrap();
    let path = folder.path().join("broken.html");
    write_html(&DatasetReader::open(&root).unwrap(), &[0], &PageOptions::default(), &path, &mut go_on).unwrap();
    let data = block(&std::fs::read_to_string(&path).unwrap(), "episode-0");
    assert!(data["cameras"][0]["mp4"].is_string() && data["cameras"][1]["why"].as_str().unwrap().contains("file-000.mp4"), "{data}");
}

#[test]
fn a_recording_for_rerun_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4]);
    let reader = DatasetReader::open(&root).unwrap();
    let path = folder.path().join("dataset.rrd");
    write_rrd(&reader, &[1, 0], &path, &mut go_on).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() > 10_000);
    let other = folder.path().join("other.rrd");
    assert!(write_rrd(&reader, &[2], &other, &mut go_on).is_err());
    assert!(!other.exists());
}

#[test]
fn values_of_one_name_are_all_in_mcap() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3]);
    let path = root.join("meta/info.json");
    let mut info: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    info["features"]["action"]["names"] = serde_json::json!({"motors": ["gripper", "gripper"]});
    std::fs::write(&path, info.to_string()).unwrap();
    let reader = DatasetReader::open(&root).unwrap();
    let path = folder.path().join("dataset.mcap");
    write_mcap(&reader, &[0], &path, &mut go_on).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let rows = reader.rows(0, 0..3).unwrap();
    let (values, _) = crate::format::arrays::numbers(rows.column_by_name("action").unwrap()).unwrap();
    let messages = mcap::MessageStream::new(&bytes).unwrap().map(Result::unwrap).filter(|message| message.channel.topic == "action");
    for (row, message) in messages.enumerate() {
        let json: Value = serde_json::from_slice(&message.data).unwrap();
        assert_eq!(json, serde_json::json!({"gripper_0": values[row * 2], "gripper_1": values[row * 2 + 1]}));
        let schema = String::from_utf8(message.channel.schema.as_ref().unwrap().data.to_vec()).unwrap();
        assert!(schema.contains("gripper_0") && schema.contains("gripper_1"), "{schema}");
    }
}

#[test]
fn a_recording_in_mcap_holds_every_row() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4]);
    let reader = DatasetReader::open(&root).unwrap();
    let path = folder.path().join("new/dataset.mcap");
    write_mcap(&reader, &[1, 0], &path, &mut go_on).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let messages: Vec<mcap::Message<'_>> = mcap::MessageStream::new(&bytes).unwrap().map(Result::unwrap).collect();
    let of = |topic: &str| messages.iter().filter(|message| message.channel.topic == topic).collect::<Vec<_>>();
    let json = |message: &mcap::Message<'_>| serde_json::from_slice::<Value>(&message.data).unwrap();
    let begins: Vec<(u64, u64)> = of("episode").iter().map(|m| (json(m)["episode_index"].as_u64().unwrap(), m.log_time)).collect();
    assert_eq!(begins, [(1, 0), (0, 4 * 1_000_000_000 / 30)]);
    let rows = reader.rows(1, 0..4).unwrap();
    let (values, width) = crate::format::arrays::numbers(rows.column_by_name("action").unwrap()).unwrap();
    let actions = of("action");
    assert_eq!((actions.len(), width), (7, 2));
    let robot = super::robot();
    for (row, message) in actions[..4].iter().enumerate() {
        let numbers: Vec<f64> = robot.action_names().iter().map(|name| json(message)[name].as_f64().unwrap()).collect();
        assert_eq!(numbers, values[row * 2..row * 2 + 2]);
    }
    for camera in ["observation.images.front", "observation.images.wrist"] {
        let images = of(camera);
        assert_eq!(images.len(), 7);
        assert_eq!(images[0].channel.schema.as_ref().unwrap().name, "sensor_msgs/msg/CompressedImage");
        for image in images {
            let jpeg = image.data.windows(2).position(|bytes| bytes == [0xff, 0xd8]).unwrap();
            assert_eq!(image.data[jpeg - 4..jpeg], ((image.data.len() - jpeg) as u32).to_le_bytes());
            assert!(image::load_from_memory(&image.data[jpeg..]).is_ok());
        }
    }
    let other = folder.path().join("other.mcap");
    assert!(write_mcap(&reader, &[2], &other, &mut go_on).is_err() && !other.exists());
}
