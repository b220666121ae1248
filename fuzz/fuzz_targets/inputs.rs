#![no_main]
//! A file of inputs.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sinew_policy::Inputs;
use sinew_policy_fuzz::Subject;

static SUBJECT: LazyLock<Subject> = LazyLock::new(|| Subject::new("act/no_camera", "inputs.safetensors"));

fuzz_target!(|bytes: &[u8]| drop(Inputs::read(SUBJECT.write(bytes))));
