//! The fault matrix: every trouble in every phase, whoever acts, on a modelled and on a simulated arm, in this process
//! and in processes of their own.

pub mod actors;
pub mod arm;
pub mod local;
pub mod model;
pub mod process;
pub mod script;
pub mod table;
pub mod trouble;
