//! Caches of other machines and for them: `--cache-from` and `--cache-to`.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::commands::build::outputs::unpack_answer;
use crate::error::{CliError, Result};
use crate::host_files;
use crate::http::Request;
use crate::options::csv;
use crate::session::Session;

/// Where cached steps come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheSources {
    /// Images that hold a cache.
    pub images: Vec<String>,
    /// Directories of this machine, as the daemon is told of them.
    pub directories: Vec<Json>,
}

/// Where cached steps go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheTargets {
    /// Whether the image holds them.
    pub inline: bool,
    /// Directories.
    pub directories: Vec<CacheTarget>,
}

/// A directory for cached steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTarget {
    path: String,
    /// `min`: steps of the result; `max`: all steps.
    mode: String,
    tag: String,
    /// Whether a cache that cannot be written is no failure of the build.
    ignores_error: bool,
}

/// Reads `--cache-from` values: names of images, or `type=local,src=DIRECTORY[,tag=TAG][,digest=DIGEST]`.
pub fn sources(values: &[String]) -> Result<CacheSources> {
    let mut sources = CacheSources::default();
    for value in values {
        if !value.contains('=') {
            sources.images.extend(value.split(',').map(str::to_owned));
            continue;
        }
        let fields = Fields::parse("--cache-from", value)?;
        match fields.kind()? {
            "local" => {
                let path = host_files::canonical(Path::new(fields.needed("src")?))?;
                sources.directories.push(json!({
                    "directory": path.to_string_lossy(),
                    "tag": fields.get("tag").unwrap_or_default(),
                    "digest": fields.get("digest").unwrap_or_default(),
                }));
                fields.only(&["type", "src", "tag", "digest"])?;
            }
            "inline" => {
                sources.images.push(fields.needed("ref")?.to_owned());
                fields.only(&["type", "ref"])?;
            }
            _ => return Err(fields.unsupported()),
        }
    }
    Ok(sources)
}

/// Reads `--cache-to` values: `type=inline`, or `type=local,dest=DIRECTORY[,mode=min|max][,tag=TAG]`.
pub fn targets(values: &[String]) -> Result<CacheTargets> {
    let mut targets = CacheTargets::default();
    for value in values {
        let fields = Fields::parse("--cache-to", value)?;
        match fields.kind()? {
            "inline" => {
                targets.inline = true;
                fields.only(&["type"])?;
            }
            "local" => {
                let mode = fields.get("mode").unwrap_or("min");
                if !matches!(mode, "min" | "max") {
                    return Err(CliError::usage(format!(
                        "invalid --cache-to {value:?}: mode {mode:?} is neither min nor max"
                    )));
                }
                targets.directories.push(CacheTarget {
                    path: fields.needed("dest")?.to_owned(),
                    mode: mode.to_owned(),
                    tag: fields.get("tag").unwrap_or("latest").to_owned(),
                    ignores_error: match fields.get("ignore-error") {
                        None | Some("false" | "0") => false,
                        Some("true" | "1") => true,
                        Some(other) => {
                            return Err(CliError::usage(format!(
                                "invalid --cache-to {value:?}: ignore-error {other:?} is neither true nor false"
                            )));
                        }
                    },
                });
                fields.only(&["type", "dest", "mode", "tag", "ignore-error"])?;
            }
            _ => return Err(fields.unsupported()),
        }
    }
    Ok(targets)
}

/// `KEY=VALUE,…` of a flag.
struct Fields<'a> {
    flag: &'static str,
    text: &'a str,
    pairs: Vec<(String, String)>,
}

impl<'a> Fields<'a> {
    fn parse(flag: &'static str, text: &'a str) -> Result<Self> {
        let pair = |field: &String| match field.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(CliError::usage(format!(
                "invalid {flag} {text:?}: {field:?} is no KEY=VALUE"
            ))),
        };
        let pairs = csv::fields(text)?.iter().map(pair).collect::<Result<_>>()?;
        Ok(Self { flag, text, pairs })
    }

    fn get(&self, key: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str())
    }

    fn needed(&self, key: &str) -> Result<&str> {
        self.get(key)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| {
                CliError::usage(format!(
                    "invalid {} {:?}: it needs {key}=…",
                    self.flag, self.text
                ))
            })
    }

    fn kind(&self) -> Result<&str> {
        self.needed("type")
    }

    /// Refuses keys that would be passed over.
    fn only(&self, known: &[&str]) -> Result<()> {
        match self
            .pairs
            .iter()
            .find(|(key, _)| !known.contains(&key.as_str()))
        {
            Some((key, _)) => Err(CliError::usage(format!(
                "invalid {} {:?}: {key} is not supported (known: {})",
                self.flag,
                self.text,
                known.join(", ")
            ))),
            None => Ok(()),
        }
    }

    fn unsupported(&self) -> CliError {
        CliError::usage(format!(
            "{} {} is not supported yet: use type=inline or type=local",
            self.flag, self.text
        ))
    }
}

impl CacheTarget {
    /// Brings what a build used to its directory.
    pub async fn write(&self, session: &mut Session, build: &str) -> Result<()> {
        let request = Request::get("/wharf/build/cache")
            .query("build", build)
            .query("mode", &self.mode)
            .query("tag", &self.tag);
        match unpack_answer(session, request, Path::new(&self.path)).await {
            Err(error) if self.ignores_error => {
                let problem = error.report().unwrap_or_default();
                let path = &self.path;
                session.output.talk(&format!(
                    "warning: no cache was written to {path}: {problem}"
                ));
                Ok(())
            }
            written => written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{sources, targets};

    fn values(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn caches_are_read() {
        let read = sources(&values(&["a,b:1", "type=local,src=.,tag=x"])).unwrap();
        assert_eq!(read.images, ["a", "b:1"]);
        assert_eq!(read.directories[0]["tag"], "x");
        let local = "type=local,dest=d,mode=max,ignore-error=true";
        let read = targets(&values(&["type=inline", local])).unwrap();
        assert!(read.inline && read.directories[0].ignores_error);
        assert_eq!(read.directories[0].mode, "max");
    }

    #[test]
    fn what_is_not_there_is_refused() {
        for (value, text) in [
            ("type=registry,ref=a", "not supported yet"),
            ("type=gha", "not supported yet"),
            ("type=local", "it needs"),
            ("type=local,dest=d,mode=all", "neither min nor max"),
            ("type=local,dest=d,ignore-error=x", "neither true nor false"),
            (
                "type=local,dest=d,compression=zstd",
                "compression is not supported",
            ),
            ("local", "no KEY=VALUE"),
            ("dest=d", "it needs type"),
        ] {
            let error = targets(&values(&[value])).unwrap_err().to_string();
            assert!(error.contains(text), "{value}: {error}");
        }
        assert!(sources(&values(&["type=registry,ref=a"])).is_err());
    }
}
