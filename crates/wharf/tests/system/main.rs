//! Whole-system tests: the real daemon in its own root and socket, driven by real clients, as root.
//!
//! Each test has its own data root, bridge and firewall table, so all run at the same time. A test
//! that cannot run here prints `SKIP` and why; `scripts/test` counts those lines.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, says what it measured, and prepares and looks at files itself"
)]

mod addresses;
mod archives;
mod arguments;
mod build;
mod calls;
mod clients;
mod commands;
mod compare;
mod completions;
mod compose;
mod conformance;
mod connections;
mod containers;
mod contexts;
mod corners;
mod create_fields;
mod cut_starts;
mod daemon;
mod default_bridge;
mod endpoints;
mod errors;
mod git;
mod harness;
mod helpers;
mod hostile;
mod images;
mod killing;
mod leftovers;
mod lifecycle;
mod load;
mod logs;
mod manifests;
mod names;
mod networks;
mod networks_killed;
mod options;
mod peer;
mod platforms;
mod ports;
mod random;
mod raw;
mod registry;
mod removal;
mod solver;
mod sources;
mod story;
mod survival;
mod traces;
mod vectors;
mod volumes;
mod web;
