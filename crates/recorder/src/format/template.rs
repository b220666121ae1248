//! The path templates of info.json, which are Python format strings such as
//! `data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet`.

use std::path::{Component, Path};

/// Fills in `template`; `Err` says why it names no file of the dataset.
pub(crate) fn fill(template: &str, numbers: &[(&str, u64)], key: Option<&str>) -> Result<String, String> {
    let mut path = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        path.push_str(before);
        let (field, after) = after.split_once('}').ok_or_else(|| format!("the path template {template:?} has no end of a field"))?;
        let (name, format) = field.split_once(':').unwrap_or((field, ""));
        match (numbers.iter().find(|(known, _)| *known == name), key) {
            (Some((_, number)), _) => {
                let width = format.strip_suffix('d').unwrap_or(format).trim_start_matches('0');
                let width: usize = if width.is_empty() { 0 } else { width.parse().unwrap_or(usize::MAX) };
                if width > 20 {
                    return Err(format!("the path template {template:?} has the format {format:?}, expected one such as 03d"));
                }
                path.push_str(&format!("{number:0width$}"));
            }
            (None, Some(key)) if matches!(name, "video_key" | "image_key") => path.push_str(key),
            _ => return Err(format!("the path template {template:?} has the unknown field {name:?}")),
        }
        rest = after;
    }
    path.push_str(rest);
    if Path::new(&path).components().all(|part| matches!(part, Component::Normal(_)))
        && !path.contains(char::is_control)
        && !path.is_empty()
    {
        Ok(path)
    } else {
        Err(format!("the path {path:?} leads out of the dataset, or has characters that no file name should have"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_of_each_version_are_filled() {
        let v3 = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4";
        let numbers = [("chunk_index", 2), ("file_index", 1000)];
        assert_eq!(fill(v3, &numbers, Some("observation.images.top")).unwrap(), "videos/observation.images.top/chunk-002/file-1000.mp4");
        let v2 = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet";
        assert_eq!(fill(v2, &[("episode_chunk", 0), ("episode_index", 7)], None).unwrap(), "data/chunk-000/episode_000007.parquet");
    }

    #[test]
    fn templates_that_lead_out_or_ask_too_much_are_refused() {
        let numbers = [("file_index", 1)];
        for template in
            ["../{file_index}", "/etc/{file_index}", "a/../../b", "{file_index", "{other}", "{file_index:0999999999d}", "", "{video_key}"]
        {
            assert!(fill(template, &numbers, None).is_err(), "{template}");
        }
        assert!(fill("videos/{video_key}/a.mp4", &numbers, Some("../../up")).is_err());
        assert!(fill("videos/{video_key}/a.mp4", &numbers, Some("\u{1b}]0;front")).is_err());
    }
}
