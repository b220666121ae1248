//! What verbs say, in the words of the interface: who asks over it has typed no option.

/// Options, and the fields that stand for them.
const FIELDS: [(&str, &str); 11] = [
    ("--episode-time", "episode_s"),
    ("--reset-time", "reset_s"),
    ("--seconds", "seconds"),
    ("--episodes", "episodes"),
    ("--episode", "episode"),
    ("--seed", "seed"),
    ("--task", "task"),
    ("--policy", "policy"),
    ("--strategy", "strategy"),
    ("--instruction", "instruction"),
    ("--teleop", "leader"),
];

/// Advice that is another here.
const ADVICE: [(&str, &str); 3] = [
    ("--resume offers to keep an episode that was not finished", "the next recording into it takes in an episode that was not finished"),
    (
        "; choose another name, or give --replace (with `sinew record`, --publish-replace) to put this dataset in the place of that one",
        "; choose another name",
    ),
    ("; --resume offers to keep it", "; the next recording into it takes it in"),
];

/// `text` without options of the command line.
pub fn of_the_api(text: &str) -> String {
    let text = ADVICE.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours));
    let mut words = Vec::new();
    let mut all = text.split(' ').peekable();
    while let Some(word) = all.next() {
        let bare = word.trim_matches(|c: char| "'\"`,;:.()".contains(c));
        match FIELDS.iter().find(|(option, _)| *option == bare) {
            Some((option, field)) => {
                // `'--seconds <S>'`
                if let Some(value) = all.next_if(|next| next.starts_with('<')) {
                    let rest = value.split_once('>').map_or("", |(_, rest)| rest);
                    words.push(format!("{}{rest}", word.replace(option, field)));
                } else {
                    words.push(word.replace(option, field));
                }
            }
            None => words.push(word.to_owned()),
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_fields() {
        for (said, expected) in [
            ("invalid value '-1' for '--seconds <S>': expected a number", "invalid value '-1' for 'seconds': expected a number"),
            ("--strategy dagger records; expected --teleop TELEOPERATOR", "strategy dagger records; expected leader TELEOPERATOR"),
            ("nothing of that, and a -- between", "nothing of that, and a -- between"),
            ("--policy-keys stays", "--policy-keys stays"),
        ] {
            assert_eq!(of_the_api(said), expected);
        }
    }
}
