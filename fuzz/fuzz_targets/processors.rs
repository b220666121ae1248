#![no_main]
//! A pipeline of processor steps.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sinew_policy_fuzz::Subject;

static SUBJECT: LazyLock<Subject> = LazyLock::new(|| Subject::new("pi05/two_cameras", "policy_preprocessor.json"));

fuzz_target!(|bytes: &[u8]| SUBJECT.open(bytes));
