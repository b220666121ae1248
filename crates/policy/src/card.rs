//! What a model card states of its licence: the YAML between two lines of dashes before its text, as huggingface_hub's
//! `repocard.py` finds it.

use std::io::Read as _;
use std::path::Path;

use saphyr_parser::{Event, Parser, ScalarStyle};

/// The longest part of a card that is read, in bytes; what the Hub takes of metadata ends long before.
const MAX_BYTES: u64 = 256 << 10;

/// What a card states of its licence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CardLicence {
    pub licences: Vec<String>,
    /// The name and the link that it gives of a licence that the Hub has no name for.
    pub more: Vec<String>,
}

impl CardLicence {
    /// Of `dir/README.md`; nothing where there is none. `None` where there is one that can't be read or understood, so that
    /// nobody knows what it states.
    pub fn of(dir: &Path) -> Option<Self> {
        let path = dir.join("README.md");
        let mut text = Vec::new();
        match std::fs::metadata(&path) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound && path.symlink_metadata().is_err() => return Some(Self::default()),
            // Opening a pipe would wait for whoever writes to it.
            found => found.ok().filter(std::fs::Metadata::is_file)?,
        };
        std::fs::File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut text).ok()?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let mut rest = text.split_inclusive(['\n', '\r']);
        if rest.next().is_none_or(|line| line.trim_end() != "---") {
            return Some(Self::default());
        }
        let mut head = String::new();
        loop {
            match rest.next()? {
                line if line.trim_end() == "---" => break,
                line => head.push_str(line),
            }
        }
        let mut stated = Self::default();
        for (key, values) in entries(&head)? {
            match key.as_str() {
                "license" => stated.licences.extend(values?),
                "license_name" | "license_link" => stated.more.extend(values?),
                // It brings keys from elsewhere, perhaps one of those above.
                "<<" => return None,
                _ => {}
            }
        }
        Some(stated)
    }
}

/// The entries of a mapping in YAML, by their keys; of each the text or the list of texts, `None` where it is anything else. `None`
/// where the whole is no mapping.
fn entries(yaml: &str) -> Option<Vec<(String, Option<Vec<String>>)>> {
    let events = Parser::new_from_str(yaml).map(|event| event.map(|(event, _)| event)).collect::<Result<Vec<_>, _>>().ok()?;
    let mut events = events.iter().skip_while(|event| matches!(event, Event::StreamStart | Event::DocumentStart(_)));
    match events.next()? {
        Event::MappingStart(..) => {}
        // There is nothing but perhaps comments.
        Event::StreamEnd => return Some(Vec::new()),
        Event::Scalar(text, ScalarStyle::Plain, ..) if is_null(text) => return Some(Vec::new()),
        _ => return None,
    }
    let mut entries = Vec::new();
    loop {
        let key = match events.next()? {
            Event::MappingEnd => break,
            Event::Scalar(key, ..) => key.to_string(),
            _ => return None,
        };
        let (mut values, mut is_plain, mut depth) = (Vec::new(), true, 0);
        loop {
            match events.next()? {
                Event::Scalar(text, style, ..) => {
                    let text = text.trim();
                    let is_nothing = text.is_empty() || (*style == ScalarStyle::Plain && is_null(text));
                    if !is_nothing {
                        values.push(text.to_owned());
                    }
                }
                Event::SequenceStart(..) => {
                    is_plain &= depth == 0;
                    depth += 1;
                }
                Event::MappingStart(..) => {
                    is_plain = false;
                    depth += 1;
                }
                Event::SequenceEnd | Event::MappingEnd => depth -= 1,
                // Aliases are not looked up, so none can swell.
                _ => is_plain = false,
            }
            if depth == 0 {
                break;
            }
        }
        entries.push((key, is_plain.then_some(values)));
    }
    // A second document would state more.
    events.all(|event| matches!(event, Event::DocumentEnd | Event::StreamEnd)).then_some(entries)
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn licences(text: &str) -> Option<Vec<String>> {
        CardLicence::parse(text).map(|stated| stated.licences)
    }

    #[test]
    fn the_licence_is_what_a_reader_of_yaml_finds() {
        for one in [
            "---\ntags: [a]\nlicense: apache-2.0\n---\n# x",
            "---\nlicense:\n  apache-2.0\n---\n",
            "---\n\"license\": apache-2.0\n---\n",
            "---\n'license' : 'apache-2.0'\n---\n",
            "---\n{license: apache-2.0, tags: [a, {b: c}]}\n---\n",
            "\n \n---\nlicense: >-\n  apache-2.0\n---\n",
            "---\nlicense: !!str apache-2.0 # it is\n---",
            "---\nlicense: &it apache-2.0\nother: *it\n---\n",
            "---\nlicense: \"apache\\u002d2.0\"\n---\n",
            "\u{feff}---  \r\nlicense: apache-2.0\r\n---\r\n",
            "---\rlicense: apache-2.0\r---\r",
            "---\n? license\n: apache-2.0\n---\n",
        ] {
            assert_eq!(licences(one), Some(vec!["apache-2.0".into()]), "{one:?}");
        }
        let both = Some(vec!["mit".into(), "cc-by-nc-4.0".into()]);
        for list in [
            "---\nlicense:\n- mit\n- 'cc-by-nc-4.0'\ntags: [a]\n---\n",
            "---\nlicense: [mit, \"cc-by-nc-4.0\"] # both\n---\n",
            "---\nlicense: [mit,\n  cc-by-nc-4.0]\n---\n",
            "---\nlicense: mit\nlicense: cc-by-nc-4.0\n---\n",
        ] {
            assert_eq!(licences(list), both, "{list:?}");
        }
        let other = CardLicence::parse("---\nlicense: other\nlicense_name: research-nc\nlicense_link: LICENSE.md\n---\n");
        assert_eq!(other, Some(CardLicence { licences: vec!["other".into()], more: vec!["research-nc".into(), "LICENSE.md".into()] }));
    }

    #[test]
    fn a_card_that_states_nothing_is_none_that_is_not_understood() {
        for none in [
            "",
            "# x",
            "license: mit\n",
            "---\n---\n",
            "---\n# nothing\n---\n",
            "---\ntags: [a]\n---\nlicense: mit\n",
            "---\nlicense:\ntags:\n- a\n---\n",
            "---\nlicense: null\n---\n",
            "---\nlicense_name: mit\nmodel-index: [{results: [{metrics: [1]}]}]\n---\n",
        ] {
            assert_eq!(licences(none), Some(Vec::new()), "{none:?}");
        }
        for odd in [
            "---\nlicense: mit\n",
            "---\nlicense: mit\ntags: [a\n---\n",
            "---\n- license: mit\n---\n",
            "---\nmit\n---\n",
            "---\nlicense: mit\nlicense_name: {a: b}\n---\n",
            "---\nbase: &b {license: mit}\nlicense: *b\n---\n",
            "---\nbase: &b {license: cc-by-nc-4.0}\n<<: *b\n---\n",
            "---\nlicense: mit\n...\nlicense: x\n---\n",
            "---\nlicense: [[mit]]\n---\n",
            "---\n\tlicense: mit\n\t x\n---\n",
        ] {
            assert_eq!(licences(odd), None, "{odd:?}");
        }
        // However deep, it ends.
        assert_eq!(licences(&format!("---\nlicense: {}\n---\n", "[".repeat(100_000))), None);
    }

    #[test]
    fn a_card_that_cannot_be_read_is_not_understood() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(CardLicence::of(folder.path()), Some(CardLicence::default()));
        std::fs::create_dir(folder.path().join("README.md")).unwrap();
        assert_eq!(CardLicence::of(folder.path()), None);
    }
}
