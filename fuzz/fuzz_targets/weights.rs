#![no_main]
//! The header of a safetensors file.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sinew_policy_fuzz::Subject;

static SUBJECT: LazyLock<Subject> = LazyLock::new(|| Subject::new("act/no_camera", "model.safetensors"));

fuzz_target!(|bytes: &[u8]| SUBJECT.open(bytes));
