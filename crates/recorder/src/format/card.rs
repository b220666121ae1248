//! The dataset card: what the Hub shows of a dataset, and what tells `datasets.load_dataset` which tables
//! are its rows. Without it all tables of the folder are taken for rows, and differ in their columns.

/// Where it is. One that is there is its owner's, and stays.
pub(crate) const CARD: &str = "README.md";

/// The same for every dataset, so that no edit makes it wrong. The head is that of LeRobot 0.6.1's cards.
pub(crate) const TEXT: &str = "\
---
task_categories:
- robotics
tags:
- LeRobot
configs:
- config_name: default
  data_files: data/*/*.parquet
---

A robot dataset in the format of [LeRobot](https://github.com/huggingface/lerobot).

- `meta/info.json` says which robot it is of, its rate, its features, and how many episodes it has.
- `data` holds the rows, `videos` the pictures, `meta` the episodes, tasks and statistics.
- `sinew`, where it is there, holds a row for each row: how late it was, what was really sent to the robot.
";

/// Whether a card is the one that every dataset gets, so that nobody's words are lost when it is replaced.
pub fn is_plain_card(card: &str) -> bool {
    card == TEXT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_card_names_the_tables_of_rows() {
        let head = TEXT.strip_prefix("---\n").and_then(|text| text.split_once("\n---\n")).unwrap().0;
        assert!(head.ends_with("configs:\n- config_name: default\n  data_files: data/*/*.parquet"));
        assert!(TEXT.lines().all(|line| line.is_ascii() && line.trim_end() == line));
    }
}
