//! What is shown elsewhere.

use super::model::{go_on, record};
use crate::{DatasetReader, PageOptions, ToolError, write_html, write_mcap, write_rrd};

#[test]
fn a_page_holds_every_episode_and_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a <dataset>");
    record(&root, 0, &[3, 40]);
    let reader = DatasetReader::open(&root).unwrap();
    let path = folder.path().join("page.html");
    write_html(&reader, &[0, 1], &PageOptions { images: 5, ..PageOptions::default() }, &path, &mut go_on).unwrap();
    let page = std::fs::read_to_string(&path).unwrap();
    assert_eq!(page.matches("<section").count(), 2);
    // Two cameras with 3 and 5 images, two features of two numbers each.
    assert_eq!((page.matches("data:image/jpeg;base64,/9j/").count(), page.matches("<polyline").count()), (16, 8));
    assert!(!page.contains("http") && page.contains("a &lt;dataset&gt;") && !page.contains("NaN"));
    assert!(matches!(write_html(&reader, &[0], &PageOptions::default(), &path, &mut go_on), Err(ToolError::NotEmpty { .. })));
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
    let json = |message: &mcap::Message<'_>| serde_json::from_slice::<serde_json::Value>(&message.data).unwrap();
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
