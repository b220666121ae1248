#![no_main]
//! A tokenizer.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sinew_policy_fuzz::Subject;

static SUBJECT: LazyLock<Subject> = LazyLock::new(|| {
    // The tokenizers crate panics here and there, which is caught; libFuzzer's own hook would end it all
    // before that.
    std::panic::set_hook(Box::new(|_| {}));
    Subject::new("pi0/two_cameras", "tokenizer.json")
});

fuzz_target!(|bytes: &[u8]| SUBJECT.open(bytes));
