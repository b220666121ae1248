#![cfg(feature = "datasets")]
