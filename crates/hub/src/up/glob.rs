//! Patterns of file names, with huggingface_hub's rules: those of Python's `fnmatch`, in which `*` takes slashes too, and
//! a folder's name with a slash at its end means all that is in it.

/// Whether `path` fits one of `patterns`.
pub(crate) fn fits_any(patterns: &[String], path: &str) -> bool {
    patterns.iter().any(|pattern| fits(pattern, path))
}

fn fits(pattern: &str, path: &str) -> bool {
    let mut pattern: Vec<char> = pattern.chars().collect();
    if pattern.last() == Some(&'/') {
        pattern.push('*');
    }
    let path: Vec<char> = path.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where the last `*` is, and how much it has taken: the only place to come back to.
    let mut star = None;
    while t < path.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => class(&pattern[p..], path[t]),
            Some(c) => (*c == path[t]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(step), _) => (p, t) = (p + step, t + 1),
            (None, Some((at, taken))) => {
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How long the class of characters at the begin of `pattern` is, if `c` is in it. An open bracket that is never closed
/// is a bracket.
fn class(pattern: &[char], c: char) -> Option<usize> {
    let is_negated = pattern.get(1) == Some(&'!');
    let first = if is_negated { 2 } else { 1 };
    let Some(end) = pattern.iter().skip(first + 1).position(|c| *c == ']').map(|at| at + first + 1) else {
        return (c == '[').then_some(1);
    };
    let mut members = &pattern[first..end];
    let mut is_in = false;
    while let [low, rest @ ..] = members {
        match rest {
            ['-', high, rest @ ..] => {
                is_in |= (*low..=*high).contains(&c);
                members = rest;
            }
            _ => {
                is_in |= *low == c;
                members = rest;
            }
        }
    }
    (is_in != is_negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python's `fnmatch.fnmatchcase` says.
    #[test]
    fn patterns_fit_as_in_python() {
        let cases = [
            ("*.json", "meta/info.json", true),
            ("*.json", "meta/info.jsonl", false),
            ("data/", "data/chunk-000/file-000.parquet", true),
            ("data/", "database", false),
            ("data", "data/x", false),
            ("file-00?.mp4", "file-007.mp4", true),
            ("file-00?.mp4", "file-00.mp4", false),
            ("[ab]*", "b/c", true),
            ("[!ab]*", "b/c", false),
            ("[a-c]1", "c1", true),
            ("[]]x", "]x", true),
            ("[x", "[x", true),
            ("*a*b*c", "xxaxxbxxbxxc", true),
            ("*a*b*c", "xxaxxbxxbxx", false),
            ("", "", true),
            ("*", "", true),
            ("?", "ü", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(fits(pattern, path), expected, "{pattern} {path}");
        }
    }
}
