//! `wharf-vectors [--verbose] DIR…`: runs every vector file below the directories (or the files given) and
//! prints a line an area and a total; fails if any vector fails.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command's output"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use wharf_vectors::{AreaReport, Document, find_documents, judge};

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_verbose = arguments.iter().any(|argument| argument == "--verbose");
    arguments.retain(|argument| argument != "--verbose");
    if arguments.is_empty() {
        eprintln!("usage: wharf-vectors [--verbose] DIR…");
        return ExitCode::from(2);
    }
    match run(&arguments, is_verbose) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(directories: &[String], is_verbose: bool) -> Result<bool, String> {
    let mut areas: BTreeMap<String, AreaReport> = BTreeMap::new();
    let mut files = Vec::new();
    for directory in directories {
        files.append(&mut find_documents(Path::new(directory))?);
    }
    if files.is_empty() {
        return Err(format!("no vector files in {}", directories.join(", ")));
    }
    for file in files {
        let report = judge(&Document::read(&file)?);
        match areas.get_mut(&report.area) {
            Some(known) => known.add(report),
            None => {
                areas.insert(report.area.clone(), report);
            }
        }
    }
    let mut total = AreaReport {
        area: "total".to_owned(),
        ..AreaReport::default()
    };
    for report in areas.into_values() {
        println!("{report}");
        if is_verbose && !report.failures.is_empty() {
            println!("{}", report.details());
        } else {
            let headlines = report
                .failures
                .iter()
                .filter_map(|failure| failure.lines().next());
            headlines.take(3).for_each(|line| println!("  {line}"));
        }
        total.add(AreaReport {
            skipped: None,
            ..report
        });
    }
    println!("{total}");
    Ok(total.failed == 0)
}
