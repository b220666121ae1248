#![no_main]
//! A tokenizer.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sinew_policy_fuzz::Subject;

static SUBJECT: LazyLock<Subject> = LazyLock::new(|| Subject::new("pi0/two_cameras", "tokenizer.json"));

fuzz_target!(|bytes: &[u8]| SUBJECT.open(bytes));
