//! As much of SPDX licence expressions as manifests on crates.io use.

/// Whether the terms of `expression` can be met with licences of which `is_allowed` says yes.
/// `A/B` is the old way to write `A OR B`.
pub fn is_met(expression: &str, is_allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words: Vec<&str> = spaced.split_whitespace().collect();
    words.reverse();
    let met = any_of(&mut words, is_allowed)?;
    if words.is_empty() { Ok(met) } else { Err(format!("{expression}: trailing {words:?}")) }
}

fn any_of(words: &mut Vec<&str>, is_allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let mut met = all_of(words, is_allowed)?;
    while words.pop_if(|word| *word == "OR").is_some() {
        met |= all_of(words, is_allowed)?;
    }
    Ok(met)
}

fn all_of(words: &mut Vec<&str>, is_allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let mut met = one(words, is_allowed)?;
    while words.pop_if(|word| *word == "AND").is_some() {
        met &= one(words, is_allowed)?;
    }
    Ok(met)
}

fn one(words: &mut Vec<&str>, is_allowed: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    match words.pop() {
        Some("(") => {
            let met = any_of(words, is_allowed)?;
            if words.pop() == Some(")") { Ok(met) } else { Err("a parenthesis is not closed".into()) }
        }
        Some(name) if !["AND", "OR", "WITH", ")"].contains(&name) => {
            let exception = words.pop_if(|word| *word == "WITH").and_then(|_| words.pop());
            Ok(exception.map_or_else(|| is_allowed(name), |exception| is_allowed(&format!("{name} WITH {exception}"))))
        }
        other => Err(format!("expected a licence, found {other:?}")),
    }
}

#[test]
fn expressions_are_met_as_spdx_says() {
    let allowed = |name: &str| ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].contains(&name);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("ISC AND (GPL-3.0 OR MIT)", true),
        ("(GPL-3.0 OR MIT) AND LGPL-2.1", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
    ] {
        assert_eq!(is_met(expression, &allowed), Ok(expected), "{expression}");
    }
    for nonsense in ["", "MIT OR", "(MIT", "MIT ISC", "AND MIT"] {
        assert!(is_met(nonsense, &allowed).is_err(), "{nonsense}");
    }
}
