#![no_main]
//! A policy's configuration.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sinew_policy_fuzz::Subject;

static SUBJECT: LazyLock<Subject> = LazyLock::new(|| Subject::new("act/two_cameras_vae", "config.json"));

fuzz_target!(|bytes: &[u8]| SUBJECT.open(bytes));
