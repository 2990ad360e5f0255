//! How an `--output` is written: `type=TYPE[,dest=PATH][,KEY=VALUE…]`, a directory, or `-`.

use super::{BuildOutput, Target};
use crate::error::{CliError, Result};
use crate::options::csv;
use crate::options::misc::go_boolean;

/// Attributes that ask for what is done anyway, or for nothing: any other value of theirs is refused.
const IDLE: [(&str, bool); 8] = [
    ("unpack", true),
    ("store", true),
    ("buildinfo", false),
    ("push-by-digest", false),
    ("name-canonical", false),
    ("force-compression", false),
    ("platform-split", false),
    ("oci-artifact", false),
];

/// The fields of one value, as they are met.
#[derive(Default)]
struct Fields {
    kind: String,
    destination: Option<String>,
    names: Vec<String>,
    rewrites_timestamps: bool,
    pushes: Option<bool>,
    is_tar: Option<bool>,
}

impl BuildOutput {
    /// Reads a value.
    ///
    /// # Errors
    /// Types and attributes that are not there, a place that is missing or makes no sense.
    pub fn parse(value: &str) -> Result<Self> {
        let wrong = |what: &str| CliError::usage(format!("invalid --output {value:?}: {what}"));
        let fields = csv::fields(value)?;
        if let [field] = fields.as_slice()
            && field == value
            && !field.starts_with("type=")
        {
            return Ok(Self::of(match value {
                "-" => Target::Tar(value.to_owned()),
                directory => Target::Local(directory.to_owned()),
            }));
        }
        let mut read = Fields::default();
        for field in &fields {
            read.take(field).map_err(|what| wrong(&what))?;
        }
        read.output().map_err(|what| wrong(&what))
    }

    fn of(target: Target) -> Self {
        Self {
            target,
            names: Vec::new(),
            rewrites_timestamps: false,
        }
    }
}

impl Fields {
    fn take(&mut self, field: &str) -> std::result::Result<(), String> {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("{field:?} is no KEY=VALUE"))?;
        let key = key.trim().to_lowercase();
        let truth = || go_boolean(value).map_err(|what| format!("{key}: {what}"));
        match key.as_str() {
            "type" => value.clone_into(&mut self.kind),
            "dest" => self.destination = Some(value.to_owned()),
            "name" => self.names.extend(value.split(',').map(str::to_owned)),
            "rewrite-timestamp" => self.rewrites_timestamps = value.is_empty() || truth()?,
            "push" => self.pushes = Some(value.is_empty() || truth()?),
            "tar" => self.is_tar = Some(truth()?),
            key => match IDLE.iter().find(|(known, _)| *known == key) {
                Some((_, idle)) if truth()? == *idle => {}
                Some((_, idle)) => {
                    return Err(format!("{key} is not supported but as {key}={idle}"));
                }
                None => return Err(format!("{field:?} is not supported")),
            },
        }
        Ok(())
    }

    fn output(self) -> std::result::Result<BuildOutput, String> {
        let kind = self.kind.as_str();
        let destination = self.destination;
        let is_archive = matches!(kind, "oci" | "docker");
        if self.pushes == Some(true) && !matches!(kind, "image" | "registry") {
            return Err("only type=image can be pushed".to_owned());
        }
        if self.is_tar.is_some() && !is_archive {
            return Err(format!("type={kind} has no tar"));
        }
        let target = match kind {
            "image" | "registry" if destination.is_some() => {
                return Err(format!("type={kind} has no dest"));
            }
            "image" | "registry" => Target::Image {
                push: kind == "registry" || self.pushes == Some(true),
            },
            "cacheonly" => Target::Nothing,
            "oci" | "docker" if self.is_tar == Some(false) => {
                Target::Layout(directory(kind, destination)?)
            }
            // Without a place docker's type means the daemon's own images.
            "docker" if destination.is_none() => Target::Image { push: false },
            "oci" | "docker" => Target::Archive(destination.unwrap_or("-".to_owned())),
            "tar" => Target::Tar(destination.unwrap_or("-".to_owned())),
            "local" => Target::Local(directory(kind, destination)?),
            "" => return Err("type is required for output".to_owned()),
            other => {
                return Err(format!(
                    "type={other} is not supported: use image, registry, docker, oci, tar, local or cacheonly"
                ));
            }
        };
        let is_image = matches!(kind, "image" | "registry" | "oci" | "docker");
        if !is_image && (self.rewrites_timestamps || !self.names.is_empty()) {
            return Err(format!(
                "type={kind} has neither name nor rewrite-timestamp"
            ));
        }
        Ok(BuildOutput {
            target,
            names: self.names,
            rewrites_timestamps: self.rewrites_timestamps,
        })
    }
}

fn directory(kind: &str, destination: Option<String>) -> std::result::Result<String, String> {
    match destination {
        None => Err(format!("dest is required for {kind} exporter")),
        Some(path) if path == "-" => Err(format!("dest cannot be stdout for {kind} exporter")),
        Some(path) => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<BuildOutput, String> {
        BuildOutput::parse(text).map_err(|error| error.to_string())
    }

    #[test]
    fn targets() {
        let text = |text: &str| text.to_owned();
        for (value, target) in [
            ("out", Target::Local(text("out"))),
            ("a=b", Target::Local(text("a=b"))),
            ("-", Target::Tar(text("-"))),
            ("type=tar", Target::Tar(text("-"))),
            ("type=local,dest=x", Target::Local(text("x"))),
            ("type=local,\"dest=a,b\"", Target::Local(text("a,b"))),
            ("type=oci,dest=x.tar", Target::Archive(text("x.tar"))),
            ("type=oci", Target::Archive(text("-"))),
            ("type=oci,tar=false,dest=x", Target::Layout(text("x"))),
            ("type=docker", Target::Image { push: false }),
            ("type=docker,tar=true,dest=-", Target::Archive(text("-"))),
            ("type=registry", Target::Image { push: true }),
            ("type=image,push=true", Target::Image { push: true }),
            (
                "type=image,push=false,unpack=true",
                Target::Image { push: false },
            ),
            ("type=cacheonly", Target::Nothing),
        ] {
            assert_eq!(parse(value).unwrap(), BuildOutput::of(target), "{value}");
        }
    }

    #[test]
    fn attributes() {
        let read = parse("type=image,\"name=a,b:1\",rewrite-timestamp=true").unwrap();
        assert_eq!(read.names, ["a", "b:1"]);
        assert!(read.rewrites_timestamps);
        let read = parse("type=oci,dest=x,Name=a,rewrite-timestamp=1").unwrap();
        assert_eq!(read.target, Target::Archive("x".to_owned()));
        assert_eq!(read.names, ["a"]);
        assert!(read.rewrites_timestamps);
    }

    #[test]
    fn what_is_not_there_is_refused() {
        for (value, part) in [
            ("type=local", "dest is required for local exporter"),
            (
                "type=oci,tar=false,dest=-",
                "dest cannot be stdout for oci exporter",
            ),
            ("type=other,name=x", "type=other is not supported"),
            ("dest=x,name=y", "type is required for output"),
            ("type=image,dest=x", "type=image has no dest"),
            ("type=tar,tar=false", "type=tar has no tar"),
            ("type=oci,dest=x,push=true", "only type=image can be pushed"),
            (
                "type=image,push=often",
                "push: \"often\" is neither true nor false",
            ),
            (
                "type=oci,compression=zstd",
                "\"compression=zstd\" is not supported",
            ),
            (
                "type=image,annotation.a=b",
                "\"annotation.a=b\" is not supported",
            ),
            (
                "type=image,push-by-digest=true",
                "push-by-digest is not supported but as push-by-digest=false",
            ),
            ("type=tar,name=x", "type=tar has neither name nor"),
            ("type=image,x", "\"x\" is no KEY=VALUE"),
        ] {
            let error = parse(value).unwrap_err();
            assert!(error.contains(part), "{value}: {error}");
        }
    }
}
