//! The guide in `docs`, an mdBook: its links and anchors lead somewhere, every page is in its table of contents, and what it lists of
//! robot.toml and of LeRobot's programs is all there is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a check stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The console scripts of LeRobot 0.6.1, from its entry_points.txt.
const LEROBOT_SCRIPTS: [&str; 18] = [
    "lerobot-annotate",
    "lerobot-calibrate",
    "lerobot-dataset-viz",
    "lerobot-edit-dataset",
    "lerobot-eval",
    "lerobot-find-cameras",
    "lerobot-find-joint-limits",
    "lerobot-find-port",
    "lerobot-imgtransform-viz",
    "lerobot-info",
    "lerobot-record",
    "lerobot-replay",
    "lerobot-rollout",
    "lerobot-setup-can",
    "lerobot-setup-motors",
    "lerobot-teleoperate",
    "lerobot-train",
    "lerobot-train-tokenizer",
];

/// What robot.toml is read into: the heading of its table in the guide, and the type.
const TABLES: [(&str, &str); 24] = [
    ("Top level", "RobotDescription"),
    ("lerobot", "LeRobotNames"),
    ("stop", "Stop"),
    ("feedback", "Feedback"),
    ("bus", "Bus"),
    ("part", "Part"),
    ("part.motor", "Motor"),
    ("part.limits", "Limits"),
    ("Pose", "Pose"),
    ("base", "Base"),
    ("base.linear and base.angular", "BaseLimits"),
    ("base.wheel", "BaseWheel"),
    ("sensor", "Sensor"),
    ("tool", "Tool"),
    ("tool.workspace", "Workspace"),
    ("camera", "CameraDescription"),
    ("include", "Include"),
    ("simulation", "Simulation"),
    ("simulation.link", "Link"),
    ("simulation.link.collider", "Collider"),
    ("simulation.link.visual", "Visual"),
    ("simulation.motor", "MotorModel"),
    ("simulation.camera", "SimulatedCamera"),
    ("included", "Included"),
];

fn root() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).ancestors().nth(2).unwrap().to_owned()
}

fn docs() -> PathBuf {
    root().join("docs")
}

/// Every page below `docs`, by its path from there, with its text.
fn pages() -> BTreeMap<PathBuf, String> {
    fn walk(docs: &Path, folder: &Path, pages: &mut BTreeMap<PathBuf, String>) {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                walk(docs, &path, pages);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                pages.insert(path.strip_prefix(docs).unwrap().to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut pages = BTreeMap::new();
    walk(&docs(), &docs(), &mut pages);
    assert!(pages.contains_key(Path::new("SUMMARY.md")), "{:?}", pages.keys());
    pages
}

/// The text without fenced blocks and without what stands between backticks.
fn prose(text: &str) -> Vec<String> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push(line.split('`').step_by(2).collect());
        }
    }
    lines
}

/// The targets of links and images.
fn links(text: &str) -> Vec<String> {
    let of_line = |line: String| line.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect::<Vec<_>>();
    prose(text).into_iter().flat_map(of_line).collect()
}

/// What headings can be linked to by, as mdBook and GitHub make it.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        } else if !is_code && line.starts_with('#') {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            anchors.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    anchors
}

/// `link` of the page `from`, as a path from `docs`, which may lead out of it.
fn resolved(from: &Path, link: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in from.parent().unwrap().join(link).components() {
        if part == Component::ParentDir && path.file_name().is_some() {
            path.pop();
        } else {
            path.push(part);
        }
    }
    path
}

fn fail_on(faults: Vec<String>, rule: &str) {
    assert!(faults.is_empty(), "{rule}\n  {}", faults.join("\n  "));
}

#[test]
fn every_link_and_anchor_of_the_guide_leads_somewhere() {
    let pages = pages();
    let mut faults = Vec::new();
    for (page, text) in &pages {
        for link in links(text).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { resolved(page, file) };
            if target.starts_with("..") {
                faults.push(format!("{}: {link} is outside of docs, where the book has nothing", page.display()));
            } else if !docs().join(&target).is_file() {
                faults.push(format!("{}: {link} is not there", page.display()));
            } else if !anchor.is_empty() && !pages.get(&target).is_some_and(|text| anchors(text).contains(anchor)) {
                faults.push(format!("{}: {link}: there is no such heading", page.display()));
            }
        }
    }
    fail_on(faults, "links of the guide are relative, to pages of docs and to headings that are there");
}

#[test]
fn every_page_is_in_the_table_of_contents_once() {
    let pages = pages();
    let listed = links(&pages[Path::new("SUMMARY.md")]);
    let names: BTreeSet<PathBuf> = listed.iter().map(PathBuf::from).collect();
    assert_eq!(names.len(), listed.len(), "a page is listed twice: {listed:?}");
    let missing = pages.keys().filter(|page| **page != Path::new("SUMMARY.md") && !names.contains(*page));
    fail_on(missing.map(|page| page.display().to_string()).collect(), "every page is in docs/SUMMARY.md");
}

#[test]
fn the_guide_names_only_files_that_exist() {
    let folders = ["crates/", "docs/", "robots/", "policies/", "scripts/", "benches/"];
    let mut faults = Vec::new();
    for (page, text) in pages().into_iter().filter(|(page, _)| !page.starts_with("decisions")) {
        // Odd parts of a line split at backticks are code.
        for name in text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if is_plain && folders.iter().any(|folder| name.starts_with(folder)) && !root().join(name).exists() {
                faults.push(format!("{}: {name}", page.display()));
            }
        }
    }
    fail_on(faults, "pages name files that exist");
}

#[test]
fn each_program_of_lerobot_has_a_row() {
    let text = fs::read_to_string(docs().join("from-lerobot.md")).unwrap();
    let missing = LEROBOT_SCRIPTS.iter().filter(|script| !text.contains(&format!("| `{script}` |")));
    fail_on(missing.map(ToString::to_string).collect(), "docs/from-lerobot.md has a row for each of LeRobot's programs");
}

/// A field of a type: its key, what it holds and what it is where it is not given.
type Row = [String; 3];

/// The types of robot.toml that are written as tables, and the words that others may be.
#[derive(Default)]
struct Types {
    tables: BTreeMap<String, Vec<Row>>,
    words: BTreeMap<String, Vec<String>>,
    /// Which of the words it is where nothing is said.
    usual: BTreeMap<String, String>,
}

/// The value of `key = "..."`, or of `key` alone, in an attribute.
fn attribute<'a>(attributes: &'a str, key: &str) -> Option<&'a str> {
    let rest = attributes.split(&format!("{key} = \"")).nth(1)?;
    rest.split('"').next()
}

fn snake_case(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.extend(c.to_lowercase());
    }
    words
}

/// What the function `name` of a source returns.
fn returned(source: &str, name: &str) -> String {
    let body = source.split(&format!("fn {name}() -> ")).nth(1).unwrap_or_else(|| panic!("no function {name}"));
    format!("`{}`", body.lines().nth(1).unwrap().trim())
}

/// How a value is written, in words.
fn held(of: &str) -> String {
    let inner = |outer: &str| of.strip_prefix(outer).and_then(|rest| rest.strip_suffix('>'));
    let list = |element: &str, count: Option<&str>| {
        let words = match (element, count) {
            ("f64" | "f32", Some(count)) => return format!("{count} numbers"),
            ("String", Some(count)) => return format!("{count} texts"),
            ("String", _) => "texts",
            _ => "tables",
        };
        format!("list of {words}")
    };
    if let Some(inner) = inner("Option<") {
        return held(inner);
    }
    if let Some(element) = inner("Vec<") {
        return list(element, None);
    }
    if let Some((element, count)) = of.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).and_then(|both| both.split_once("; ")) {
        return list(element, Some(count));
    }
    match of {
        "f64" | "f32" => "number",
        "u32" | "u16" => "whole number",
        "String" => "text",
        "bool" => "true or false",
        of if of.starts_with("BTreeMap<") => "table",
        // A word of a few, or a table of its own.
        of => return of.rsplit("::").next().unwrap().to_owned(),
    }
    .to_owned()
}

impl Types {
    /// Reads those that serde reads.
    fn read(&mut self, source: &str) {
        let (mut attributes, mut name, mut is_words) = (String::new(), None::<String>, false);
        for line in source.split("#[cfg(test)]").next().unwrap().lines() {
            let code = line.trim();
            if code.starts_with("#[") {
                attributes.push_str(code);
                continue;
            }
            if code.starts_with("//") {
                continue;
            }
            let declared = code.strip_prefix("pub ").unwrap_or(code).strip_suffix(" {");
            let of = |kind: &str| declared.and_then(|declared| declared.strip_prefix(kind)).map(str::to_owned);
            if let Some(found) = of("struct ").or_else(|| of("enum ")) {
                is_words = of("enum ").is_some();
                // Shapes are a table of one of a few, told in words.
                name = attributes.contains("Deserialize").then_some(found).filter(|name| name != "Shape" && name != "Includes");
            } else if line == "}" {
                name = None;
            } else if let Some(name) = &name {
                if is_words {
                    self.word(name, code, &attributes);
                } else if let Some((field, of)) = code.strip_prefix("pub ").unwrap_or(code).trim_end_matches(',').split_once(": ") {
                    let key = attribute(&attributes, "rename").unwrap_or(field).to_owned();
                    let without = match attribute(&attributes, "default") {
                        Some(function) => returned(source, function),
                        None if attributes.contains("default") => "optional".to_owned(),
                        None => "required".to_owned(),
                    };
                    self.tables.entry(name.clone()).or_default().push([key, of.to_owned(), without]);
                }
            }
            attributes.clear();
        }
    }

    fn word(&mut self, name: &str, code: &str, attributes: &str) {
        let Some(variant) = code.strip_suffix(',').filter(|variant| variant.chars().all(char::is_alphanumeric)) else { return };
        let word = attribute(attributes, "rename").map_or_else(|| snake_case(variant), str::to_owned);
        if attributes.contains("#[default]") {
            self.usual.insert(name.to_owned(), word.clone());
        }
        self.words.entry(name.to_owned()).or_default().push(word);
    }

    /// The cells of the table of `name`, as the guide has them, without the last, which is for people.
    fn rows(&self, name: &str) -> Vec<String> {
        let rows = self.tables.get(name).unwrap_or_else(|| panic!("no type {name}"));
        rows.iter()
            .map(|[key, of, without]| {
                let held = held(of);
                let is_optional = of.starts_with("Option<");
                let (what, usual) = match self.words.get(&held) {
                    Some(words) => (format!("`{}`", words.join("`, `")), self.usual.get(&held).map(|word| format!("`{word}`"))),
                    None if self.tables.contains_key(&held) || held == "Shape" => ("table".to_owned(), None),
                    None if held == "true or false" => (held, Some("`false`".to_owned())),
                    None if held == "whole number" => (held, Some("`0`".to_owned())),
                    None => (held, None),
                };
                let without = match (without.as_str(), usual) {
                    ("optional", Some(usual)) if !is_optional => usual,
                    (without, _) => without.to_owned(),
                };
                format!("| `{key}` | {what} | {without} |")
            })
            .collect()
    }
}

/// The rows of the table below the heading `heading` of `page`.
fn table<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let below = page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("there is no heading {heading}"));
    below.lines().take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `")).collect()
}

#[test]
fn the_reference_of_robot_toml_has_every_key_of_its_types() {
    let folder = root().join("crates/core/src");
    let mut types = Types::default();
    for file in ["description/mod.rs", "description/file.rs", "description/part.rs", "description/base.rs", "description/simulation.rs"] {
        types.read(&fs::read_to_string(folder.join(file)).unwrap());
    }
    types.read(&fs::read_to_string(folder.join("units.rs")).unwrap());
    let unlisted: Vec<_> = types.tables.keys().filter(|name| !TABLES.iter().any(|(_, known)| known == name)).cloned().collect();
    fail_on(unlisted, "a type that robot.toml is read into has a table in docs/robot-toml.md");
    let page = fs::read_to_string(docs().join("robot-toml.md")).unwrap();
    let mut faults = Vec::new();
    for (heading, name) in TABLES {
        let (found, expected) = (table(&page, heading), types.rows(name));
        for row in &expected {
            if !found.iter().any(|line| line.starts_with(row.as_str())) {
                faults.push(format!("{heading} lacks: {row} what it means |"));
            }
        }
        let is_known = |line: &str| expected.iter().any(|row| line.starts_with(row.as_str()));
        faults.extend(found.iter().filter(|line| !is_known(line)).map(|line| format!("{heading} has a row too many: {line}")));
    }
    fail_on(faults, "docs/robot-toml.md has a row for each key of robot.toml, with what it holds and whether it is needed");
}

#[test]
fn the_reference_of_robot_toml_has_every_key_of_the_robots() {
    fn keys(value: &toml::Value, found: &mut BTreeSet<String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    found.insert(key.clone());
                    // The names of registers and of buses are no keys of ours.
                    if key != "registers" && !(key == "bus" && value.is_table()) {
                        keys(value, found);
                    }
                }
            }
            toml::Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    for folder in fs::read_dir(root().join("robots")).unwrap().map(|entry| entry.unwrap().path()) {
        if let Ok(text) = fs::read_to_string(folder.join("robot.toml")) {
            keys(&toml::Value::Table(text.parse().unwrap()), &mut found);
        }
    }
    assert!(found.len() > 50, "{found:?}");
    let page = fs::read_to_string(docs().join("robot-toml.md")).unwrap();
    let missing = found.into_iter().filter(|key| !page.contains(&format!("`{key}`")));
    fail_on(missing.collect(), "docs/robot-toml.md has every key of robots/*/robot.toml");
}
