#![no_main]
//! A PEFT adapter's configuration.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sinew_policy_fuzz::Subject;

static SUBJECT: LazyLock<Subject> = LazyLock::new(|| Subject::new("act/adapter", "adapter_config.json"));

fuzz_target!(|bytes: &[u8]| SUBJECT.open(bytes));
