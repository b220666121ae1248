//! What is shown elsewhere.

use super::model::{go_on, record};
use crate::{DatasetReader, PageOptions, ToolError, write_html, write_rrd};

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
