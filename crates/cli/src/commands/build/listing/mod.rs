//! `wharf build context`: what of a directory a build would send or read, and which rule decided about a path.

mod entry;
mod reason;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value as Json, json};
use wharf_dockerfile::IgnoreFile;

use crate::commands::build::context::{DEPTH_LIMIT, is_ignore_file, named_ignore_file};
use crate::commands::build::listing::entry::{Entry, largest};
use crate::commands::build::listing::reason::Reason;
use crate::commands::build::source::Dockerfile;
use crate::error::{CliError, Result};
use crate::host_files;
use crate::session::Session;
use crate::units::human_size;

/// Most entries of one context that are counted.
const MAX_ENTRIES: usize = 5_000_000;

/// List the largest entries of a build context, or explain why a path is in it or not
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "each flag's help text is its documentation")]
pub struct ContextListArgs {
    /// Say which rule of which ignore file lets a path in or keeps it out
    #[arg(long, value_name = "PATH")]
    pub explain: Vec<String>,
    /// Dockerfile, whose own ignore file comes first
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Directory
    #[arg(value_name = "DIRECTORY", default_value = ".")]
    pub directory: PathBuf,
}

/// Runs `wharf build context`. No daemon is asked.
pub fn context_command(session: &mut Session, args: &ContextListArgs) -> Result<()> {
    let is_directory = host_files::metadata(&args.directory).is_ok_and(|found| found.is_dir());
    if !is_directory {
        return Err(CliError::usage(format!(
            "build context {}: it is no directory",
            args.directory.display()
        )));
    }
    let listing = Listing::read(args)?;
    let text = match (args.explain.as_slice(), args.json) {
        ([], false) => listing.text()?,
        ([], true) => pretty(&listing.json()?),
        (paths, as_json) => {
            let reasons = paths
                .iter()
                .map(|path| listing.explain(path))
                .collect::<Result<Vec<_>>>()?;
            if as_json {
                pretty(&reasons.iter().map(Reason::json).collect())
            } else {
                reasons.iter().map(Reason::text).collect()
            }
        }
    };
    session.output.text(&text)
}

fn pretty(value: &Json) -> String {
    format!("{value:#}\n")
}

/// A directory as a context.
struct Listing {
    root: PathBuf,
    /// The Dockerfile's path in it; empty where it has none.
    dockerfile: String,
    /// The ignore file, with its name where there is one.
    ignore: (Option<String>, IgnoreFile),
}

impl Listing {
    fn read(args: &ContextListArgs) -> Result<Self> {
        let dockerfile = match Dockerfile::find(&args.directory, args.file.as_deref()) {
            Ok(found) => found,
            // A context without a Dockerfile is listed all the same.
            Err(_) if args.file.is_none() => Dockerfile::Content {
                text: Vec::new(),
                ignore: None,
            },
            Err(error) => return Err(error),
        };
        Ok(Self {
            root: args.directory.clone(),
            ignore: named_ignore_file(&args.directory, &dockerfile)?,
            dockerfile: match dockerfile {
                Dockerfile::Inside(name) => name,
                Dockerfile::Content { .. } => String::new(),
            },
        })
    }

    /// Returns why something is sent whatever the ignore file says.
    fn always(&self, path: &str) -> Option<&'static str> {
        if path == self.dockerfile {
            Some(
                "the Dockerfile is sent in any case; COPY does not see it where a rule leaves it out",
            )
        } else if is_ignore_file(path) {
            Some(
                "the ignore file is sent in any case; COPY does not see it where a rule leaves it out",
            )
        } else {
            None
        }
    }

    fn decide(&self, path: &str) -> Result<wharf_dockerfile::Decision<'_>> {
        let decided = self.ignore.1.decide(path);
        decided.map_err(|error| CliError::usage(error.to_string()))
    }

    fn explain(&self, asked: &str) -> Result<Reason> {
        let path = self.inside(asked)?;
        let decision = self.decide(&path)?;
        let (name, _) = &self.ignore;
        let rule = decision
            .pattern
            .zip(name.as_ref())
            .map(|(pattern, name)| (name.clone(), pattern.line, pattern.text.clone()));
        let always = self.always(&path).filter(|_| decision.is_ignored);
        Ok(Reason {
            is_sent: !decision.is_ignored || always.is_some(),
            exists: host_files::link_metadata(&self.root.join(&path)).is_ok(),
            rule,
            always,
            path,
        })
    }

    /// Returns a path relative to the context.
    fn inside(&self, asked: &str) -> Result<String> {
        let path = Path::new(asked);
        let outside = || {
            CliError::usage(format!(
                "{asked} is outside of the build context {}",
                self.root.display()
            ))
        };
        let relative = if path.is_absolute() {
            let root = host_files::canonical(&self.root)?;
            path.strip_prefix(&root).map_err(|_| outside())?.to_owned()
        } else {
            path.to_owned()
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in relative.to_str().ok_or_else(outside)?.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop().ok_or_else(outside)?),
                part => parts.push(part),
            }
        }
        Ok(parts.join("/"))
    }

    /// Reads what would be sent; directories that nothing of can be sent are not read.
    fn walk(&self) -> Result<Entry> {
        let mut root = Entry {
            is_directory: true,
            ..Entry::default()
        };
        let mut count = 0;
        self.fill(&mut root, 0, &mut count)?;
        Ok(root)
    }

    fn fill(&self, directory: &mut Entry, depth: usize, count: &mut usize) -> Result<()> {
        let path = self.root.join(&directory.path);
        if depth > DEPTH_LIMIT {
            return Err(CliError::usage(format!(
                "{} is more than {DEPTH_LIMIT} directories deep",
                path.display()
            )));
        }
        for found in host_files::entries(&path)? {
            let name = found.file_name().to_string_lossy().into_owned();
            let mut entry = Entry {
                path: if directory.path.is_empty() {
                    name
                } else {
                    format!("{}/{name}", directory.path)
                },
                is_directory: found.file_type().is_ok_and(|kind| kind.is_dir()),
                ..Entry::default()
            };
            let is_out = self.decide(&entry.path)?.is_ignored && self.always(&entry.path).is_none();
            if entry.is_directory {
                let skips = self.ignore.1.can_skip_directory(&entry.path);
                let holds_dockerfile = self.dockerfile.starts_with(&format!("{}/", entry.path));
                if is_out && skips.unwrap_or(false) && !holds_dockerfile {
                    continue;
                }
                self.fill(&mut entry, depth + 1, count)?;
                if is_out && entry.files == 0 {
                    continue;
                }
            } else if is_out {
                continue;
            } else {
                *count += 1;
                if *count > MAX_ENTRIES {
                    return Err(CliError::usage(format!(
                        "{} holds more than {MAX_ENTRIES} files that would be sent",
                        self.root.display()
                    )));
                }
                entry.files = 1;
                let metadata = host_files::link_metadata(&found.path());
                entry.bytes = metadata.map_or(0, |metadata| metadata.len());
            }
            directory.bytes += entry.bytes;
            directory.files += entry.files;
            directory.children.push(entry);
        }
        Ok(())
    }

    fn text(&self) -> Result<String> {
        let root = self.walk()?;
        let mut rows = vec![["SIZE".to_owned(), "FILES".to_owned(), "ENTRY".to_owned()]];
        for entry in largest(&root) {
            rows.push(entry.row());
        }
        let ignore = match &self.ignore.0 {
            Some(name) => format!("total, ignore file {name}"),
            None => "total, no ignore file".to_owned(),
        };
        rows.push([
            human_size(root.bytes as f64),
            root.files.to_string(),
            ignore,
        ]);
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths = [width(0), width(1)];
        let lines = rows.iter().map(|[size, files, entry]| {
            format!("{size:<0$}   {files:<1$}   {entry}\n", widths[0], widths[1])
        });
        Ok(lines.collect())
    }

    fn json(&self) -> Result<Json> {
        let root = self.walk()?;
        let entries: Vec<Json> = largest(&root)
            .iter()
            .map(|entry| {
                json!({
                    "path": entry.path, "bytes": entry.bytes, "files": entry.files,
                    "directory": entry.is_directory,
                })
            })
            .collect();
        Ok(json!({
            "directory": self.root.display().to_string(),
            "ignore_file": self.ignore.0,
            "bytes": root.bytes,
            "files": root.files,
            "entries": entries,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::{ContextListArgs, Listing};
    use crate::host_files;

    fn listing(files: &[(&str, usize)], ignore: &[(&str, &str)]) -> (tempfile::TempDir, Listing) {
        let directory = tempfile::tempdir().unwrap();
        for (path, size) in files {
            let path = directory.path().join(path);
            host_files::create_directories(path.parent().unwrap()).unwrap();
            host_files::write(&path, &vec![b'x'; *size]).unwrap();
        }
        for (name, text) in ignore {
            host_files::write(&directory.path().join(name), text.as_bytes()).unwrap();
        }
        let args = ContextListArgs {
            explain: Vec::new(),
            file: None,
            json: false,
            directory: directory.path().to_owned(),
        };
        let listing = Listing::read(&args).unwrap();
        (directory, listing)
    }

    #[test]
    fn the_largest_entries_are_listed() {
        let files = [
            ("Dockerfile", 10),
            ("web/node_modules/a/x.js", 4000),
            ("web/node_modules/b/x.js", 3000),
            ("web/node_modules/c/x.js", 3000),
            ("web/index.html", 50),
            ("data.bin", 9000),
            ("skipped/huge", 100_000),
            ("skipped/kept", 5),
        ];
        let (_directory, listing) =
            listing(&files, &[(".dockerignore", "skipped\n!skipped/kept\n")]);
        insta::assert_snapshot!(listing.text().unwrap(), @"
        SIZE      FILES   ENTRY
        10kB      3       web/node_modules/
        9kB       1       data.bin
        50B       1       web/index.html
        22B       1       .dockerignore
        10B       1       Dockerfile
        5B        1       skipped/kept
        19.09kB   8       total, ignore file .dockerignore
        ");
        let json = listing.json().unwrap();
        assert_eq!(json["entries"][0]["path"], "web/node_modules");
        assert_eq!((&json["files"], &json["bytes"]), (&8.into(), &19087.into()));
    }

    #[test]
    fn reasons_name_file_line_and_rule() {
        let files = [
            ("Dockerfile", 10),
            ("a.md", 1),
            ("README.md", 1),
            ("src/a.c", 1),
        ];
        let ignore = [
            (".containerignore", "# docs\n*.md\n!README.md\nDockerfile\n"),
            (".dockerignore", "src\n"),
        ];
        let (_directory, listing) = listing(&files, &ignore);
        let told: String = ["a.md", "./README.md", "src/a.c", "Dockerfile", "no.md"]
            .iter()
            .map(|path| listing.explain(path).unwrap().text())
            .collect();
        insta::assert_snapshot!(told, @"
        a.md: left out: line 2 of .containerignore: *.md
        README.md: in the context: line 3 of .containerignore: !README.md
        src/a.c: in the context: no rule names it
        Dockerfile: in the context: line 4 of .containerignore: Dockerfile (the Dockerfile is sent in any case; COPY does not see it where a rule leaves it out)
        no.md: left out: line 2 of .containerignore: *.md (there is no such file)
        ");
        let json = listing.explain("a.md").unwrap().json();
        assert_eq!(
            (&json["sent"], &json["rule"]["line"]),
            (&false.into(), &2.into())
        );
        assert!(listing.explain("../x").is_err());
    }
}
