//! Build contexts: the main one, and those that `--build-context` names (spec llb §7.2).

use std::collections::BTreeMap;

use wharf_dockerfile::Location;
use wharf_image::Platform;
use wharf_llb::{Edge, Op, SourceOp};

use super::mistakes::may_have_any_name;
use super::names::{internal, named};
use super::{Lowering, StageState, Use, no_image};
use crate::context::MAIN_CONTEXT;
use crate::{BaseImage, BuildError};

/// Prefix of an image in a directory.
pub(crate) const OCI_LAYOUT: &str = "oci-layout://";

/// What `--build-context` makes a name stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NamedContext {
    /// A directory that the request brings, under the same name.
    Local,
    /// An image: `docker-image://NAME`.
    Image(String),
    /// An image in a directory: `oci-layout://PATH@sha256:…`.
    OciLayout(String),
    /// An address whose content is a file.
    Http(String),
    /// A repository.
    Git(String),
    /// A stage of the same Dockerfile: `target:NAME`.
    Stage(String),
}

/// What a name led to.
pub(super) enum Resolved {
    /// An image.
    Image(BaseImage, Edge),
    /// Files without a config.
    Files(Option<Edge>),
    /// Another name of a stage.
    Stage(usize),
    /// Something that nothing is known of, where the file has mistakes.
    Unknown,
}

impl NamedContext {
    /// Reads the value of `--build-context NAME=VALUE`.
    pub fn parse(value: &str) -> Self {
        let image = value.strip_prefix("docker-image://");
        let layout = value.strip_prefix(OCI_LAYOUT);
        match (image, layout, value.strip_prefix("target:")) {
            (Some(name), _, _) => Self::Image(name.to_owned()),
            (_, Some(path), _) => Self::OciLayout(path.to_owned()),
            (_, _, Some(stage)) => Self::Stage(stage.to_owned()),
            _ if wharf_dockerfile::parse_git_url(value).is_ok_and(|url| !url.could_be_local) => {
                Self::Git(value.to_owned())
            }
            _ if value.starts_with("http://") || value.starts_with("https://") => {
                Self::Http(value.to_owned())
            }
            _ => Self::Local,
        }
    }
}

impl Lowering<'_, '_> {
    /// Returns the files of a build context; `path` is what is taken of it.
    pub(super) fn context(&mut self, name: &str, path: &str) -> Edge {
        let taken = self.met.entry(name.to_owned()).or_default();
        taken.insert(path.trim_start_matches('/').to_owned());
        let mut attributes = BTreeMap::new();
        let is_main = name == MAIN_CONTEXT;
        let hint = if is_main {
            name.to_owned()
        } else {
            format!("{MAIN_CONTEXT}:{name}")
        };
        attributes.insert("local.sharedkeyhint".to_owned(), hint);
        if let Some(paths) = self.paths.get(name)
            && !paths.is_empty()
            && !paths.contains("")
        {
            let list = serde_json::json!(paths).to_string();
            attributes.insert("local.followpaths".to_owned(), list);
        }
        let source = SourceOp {
            identifier: format!("local://{name}"),
            attributes,
        };
        let metadata = if is_main {
            internal("load build context")
        } else {
            named(format!("[context {name}] load from client"))
        };
        let vertex = self
            .graph
            .add(Op::Source(source), Vec::new(), None, metadata);
        Edge { vertex, output: 0 }
    }

    /// Returns an image; none where it is not to be had and the file has mistakes that are to be told first.
    pub(super) fn find(
        &mut self,
        name: &str,
        platform: &Platform,
    ) -> Result<Option<BaseImage>, BuildError> {
        match (self.find_base)(name, platform) {
            Ok(image) => Ok(Some(image)),
            Err(BuildError::Host(_)) if self.input.is_partial => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Looks a name up among the named contexts.
    pub(super) fn named_context(
        &mut self,
        name: &str,
        platform: &Platform,
        at: &Location,
    ) -> Result<Option<Resolved>, BuildError> {
        let found = self
            .input
            .contexts
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(known, context)| (known.clone(), context.clone()));
        let Some((known, context)) = found else {
            return Ok(None);
        };
        let shown = |what: &str| named(format!("[context {known}] {what}"));
        let resolved = match &context {
            NamedContext::Local => Resolved::Files(Some(self.context(&known, "/"))),
            NamedContext::Image(image) => {
                let found = self.find(image, platform);
                let found = found.map_err(|error| no_image(self.input, image, at, error))?;
                let Some(base) = found else {
                    return Ok(Some(Resolved::Unknown));
                };
                let metadata = shown(image);
                let edge = self.image_vertex(image, &base, platform, metadata);
                Resolved::Image(base, edge)
            }
            NamedContext::OciLayout(layout) => {
                let Some(base) = self.find(&format!("{OCI_LAYOUT}{layout}"), platform)? else {
                    return Ok(Some(Resolved::Unknown));
                };
                let edge = self.layout_vertex(layout, &base, platform, shown("load from client"));
                Resolved::Image(base, edge)
            }
            NamedContext::Http(url) => {
                let metadata = shown(url);
                Resolved::Files(Some(self.http_vertex(url, None, metadata).0))
            }
            NamedContext::Git(url) => {
                let metadata = shown(url);
                let edge = self.git_vertex(url, (None, None), metadata, at)?;
                Resolved::Files(Some(edge))
            }
            NamedContext::Stage(stage)
                if self.stage_named(stage).is_none()
                    && may_have_any_name(&self.input.dockerfile.stages) =>
            {
                Resolved::Unknown
            }
            NamedContext::Stage(stage) => {
                let index = self.stage_named(stage).ok_or_else(|| {
                    self.mistake(
                        at,
                        format!("build context {known}: there is no stage named {stage}"),
                    )
                })?;
                Resolved::Stage(index)
            }
        };
        Ok(Some(resolved))
    }

    /// Returns the files that `from` of COPY or RUN --mount names, which is no stage; `path` is what is taken.
    pub(super) fn files_of(
        &mut self,
        from: &str,
        path: &str,
        state: &StageState,
        at: &Location,
    ) -> Result<Option<Edge>, BuildError> {
        let local = self
            .input
            .contexts
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(from));
        if let Some((known, NamedContext::Local)) = local {
            let known = known.clone();
            return Ok(Some(self.context(&known, path)));
        }
        let platform = state.platform.clone();
        match self.named_context(from, &platform, at)? {
            Some(Resolved::Image(_, edge)) => return Ok(Some(edge)),
            Some(Resolved::Files(files)) => return Ok(files),
            Some(Resolved::Stage(index)) => return self.stage_output(index, from, at),
            Some(Resolved::Unknown) => return Ok(None),
            None => {}
        }
        if from == super::froms::SCRATCH {
            return Ok(None);
        }
        self.check_reference(from, at)?;
        let platform = self.input.platform.clone();
        let found = self.find(from, &platform);
        let Some(base) = found.map_err(|error| no_image(self.input, from, at, error))? else {
            return Ok(None);
        };
        let name = super::bases::canonical(from, &base);
        let name = format!("FROM {name}");
        let edge = self.image_vertex(from, &base, &platform, named(name.clone()));
        let user = self.open.last().copied().unwrap_or_default();
        self.uses.push((user, Use::Image(edge.vertex, name)));
        Ok(Some(edge))
    }
}

#[cfg(test)]
mod tests {
    use super::NamedContext;

    #[test]
    fn values() {
        for (value, expected) in [
            ("../lib", NamedContext::Local),
            (
                "docker-image://alpine",
                NamedContext::Image("alpine".to_owned()),
            ),
            (
                "https://e.com/a.tgz",
                NamedContext::Http("https://e.com/a.tgz".to_owned()),
            ),
            (
                "https://e.com/a.git#x",
                NamedContext::Git("https://e.com/a.git#x".to_owned()),
            ),
            ("target:a", NamedContext::Stage("a".to_owned())),
            (
                "oci-layout://d@sha256:1",
                NamedContext::OciLayout("d@sha256:1".to_owned()),
            ),
        ] {
            assert_eq!(NamedContext::parse(value), expected, "{value}");
        }
    }
}
