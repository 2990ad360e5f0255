//! COPY and ADD (spec llb §7.4).

use wharf_dockerfile::Location;
use wharf_dockerfile::instruction::Copy;
use wharf_image::{HistoryEntry, Reference};

use super::{Lowering, StageState};
use crate::BuildError;
use crate::chmod::ModeChange;
use crate::config;
use crate::history;
use crate::old_graph::{CopyAction, CopySource, FileAction, FileOp, Input, Op, Owner, Source};

/// Name of a file whose address ends in none.
const UNNAMED: &str = "__unnamed__";

/// What all sources of one instruction share.
struct Common {
    destination: String,
    owner: Option<Owner>,
    mode: Option<String>,
}

impl Lowering<'_, '_> {
    pub(super) fn copy(
        &mut self,
        stage: usize,
        copy: &Copy,
        is_add: bool,
        state: &mut StageState,
        at: &Location,
    ) -> Result<Option<HistoryEntry>, BuildError> {
        let keyword = if is_add { "ADD" } else { "COPY" };
        self.check_flags(copy, keyword, at)?;
        let mut expanded = Vec::with_capacity(copy.sources.len());
        for source in &copy.sources {
            expanded.push(self.expand(source, state, at)?);
        }
        let written = self.expand(&copy.destination, state, at)?;
        let common = Common {
            destination: destination(state.cwd(), &written),
            owner: self
                .expand_option(&copy.chown, state, at)?
                .map(|owner| Owner::parse(&owner)),
            mode: self.mode(copy, state, at)?,
        };
        if expanded.len() + copy.heredocs.len() > 1 && !common.destination.ends_with('/') {
            let message = format!(
                "When using {keyword} with more than one source file, the destination must be a directory and end with a /"
            );
            return Err(self.mistake(at, message));
        }
        let created_by = created_by(keyword, copy, &common, &expanded, &written);
        let mut inputs = vec![state.output];
        let mut actions = Vec::new();
        for path in &expanded {
            actions.push(self.source(stage, copy, is_add, path, &common, &mut inputs, at)?);
        }
        for file in &copy.heredocs {
            let content = if file.expand {
                self.inline(&file.content, state, at)?
            } else {
                file.content.clone()
            };
            let source = CopySource::Inline {
                name: file.name.clone(),
                content,
            };
            actions.push(common.action(source));
        }
        state.output = Input::Vertex(self.graph.add(Op::File(FileOp { actions }), inputs));
        Ok(Some(history::entry(created_by, false)))
    }

    fn check_flags(&self, copy: &Copy, keyword: &str, at: &Location) -> Result<(), BuildError> {
        for (is_used, flag) in [
            (copy.link, "--link"),
            (copy.parents, "--parents"),
            (!copy.exclude.is_empty(), "--exclude"),
            (copy.keep_git_dir.is_some(), "--keep-git-dir"),
            (copy.checksum.is_some(), "--checksum"),
        ] {
            if is_used {
                return Err(self.unsupported(at, &format!("{keyword} {flag}")));
            }
        }
        Ok(())
    }

    fn expand_option(
        &self,
        text: &Option<String>,
        state: &StageState,
        at: &Location,
    ) -> Result<Option<String>, BuildError> {
        let expanded = text
            .as_ref()
            .map(|text| self.expand(text, state, at))
            .transpose()?;
        Ok(expanded.filter(|text| !text.is_empty()))
    }

    fn mode(
        &self,
        copy: &Copy,
        state: &StageState,
        at: &Location,
    ) -> Result<Option<String>, BuildError> {
        let mode = self.expand_option(&copy.chmod, state, at)?;
        if let Some(mode) = &mode {
            ModeChange::parse(mode).map_err(|error| self.mistake(at, error))?;
        }
        Ok(mode)
    }

    /// Expands the content of a here-document; quotes in it are plain characters.
    fn inline(
        &self,
        content: &str,
        state: &StageState,
        at: &Location,
    ) -> Result<String, BuildError> {
        let mut expander = self.expander.clone();
        expander.skip_process_quotes = true;
        expander
            .expand_word(content, &state.env)
            .map_err(|error| self.mistake(at, error.to_string()))
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "each is one part of the instruction"
    )]
    fn source(
        &mut self,
        stage: usize,
        copy: &Copy,
        is_add: bool,
        path: &str,
        common: &Common,
        inputs: &mut Vec<Input>,
        at: &Location,
    ) -> Result<FileAction, BuildError> {
        if is_add && is_git(path) {
            return Err(self.unsupported(at, "ADD of a git repository"));
        }
        if is_add && (path.starts_with("http://") || path.starts_with("https://")) {
            let file_name = url_file_name(path);
            let source = Source::Http {
                url: path.to_owned(),
                file_name: file_name.clone(),
            };
            let input = place(
                inputs,
                Input::Vertex(self.graph.add(Op::Source(source), Vec::new())),
            );
            let action = common.copy(CopySource::Input {
                input,
                path: file_name,
            });
            return Ok(FileAction::Copy(CopyAction {
                unpack: copy.unpack == Some(true),
                ..action
            }));
        }
        let files = match &copy.from {
            Some(from) => self.from(stage, from, at)?,
            None => Input::Vertex(self.graph.add(Op::Source(Source::Local), Vec::new())),
        };
        let input = place(inputs, files);
        let action = common.copy(CopySource::Input {
            input,
            path: path.to_owned(),
        });
        Ok(FileAction::Copy(CopyAction {
            keep_owner: copy.from.is_some(),
            unpack: is_add && copy.unpack != Some(false),
            ..action
        }))
    }

    /// Returns the files that `--from` names: those of an earlier stage or of an image.
    fn from(&mut self, stage: usize, from: &str, at: &Location) -> Result<Input, BuildError> {
        if from.contains('$') {
            let message = "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround";
            return Err(self.mistake(at, message));
        }
        if let Some(index) = self.earlier_stage(stage, from) {
            self.require(index)?;
            let output = self.done.get(&index).map(|(_, state)| state.output);
            return output.ok_or_else(|| {
                self.mistake(at, format!("circular dependency detected on stage: {from}"))
            });
        }
        match self.later_stage(stage, from) {
            Some(later) if later == stage => {
                return Err(
                    self.mistake(at, format!("circular dependency detected on stage: {from}"))
                );
            }
            Some(_) => {
                return Err(self.mistake(
                    at,
                    format!("stage {from} stands below the stage that copies from it; move it up"),
                ));
            }
            None => {}
        }
        if from == "scratch" {
            return Ok(Input::Scratch);
        }
        if let Err(error) = Reference::parse(from) {
            return Err(self.mistake(at, format!("failed to parse stage name {from:?}: {error}")));
        }
        let platform = self.input.platform.clone();
        let image = (self.find_base)(from, &platform)?;
        Ok(self.image_source(&image))
    }
}

impl Common {
    fn action(&self, source: CopySource) -> FileAction {
        FileAction::Copy(self.copy(source))
    }

    fn copy(&self, source: CopySource) -> CopyAction {
        CopyAction {
            source,
            destination: self.destination.clone(),
            owner: self.owner.clone(),
            mode: self.mode.clone(),
            keep_owner: false,
            follow_symlink: true,
            unpack: false,
        }
    }
}

/// Adds an input unless it is there, and returns its place.
fn place(inputs: &mut Vec<Input>, input: Input) -> usize {
    // Place 0 is the tree that is changed.
    match inputs.iter().skip(1).position(|other| *other == input) {
        Some(index) => index + 1,
        None => {
            inputs.push(input);
            inputs.len() - 1
        }
    }
}

/// Returns an absolute destination; `.` and a `/` at the end mean a directory.
fn destination(cwd: &str, written: &str) -> String {
    let is_dir = written.ends_with('/') || written == "." || written.ends_with("/.");
    let mut path = config::join_workdir(cwd, written);
    if is_dir && path != "/" {
        path.push('/');
    }
    path
}

fn created_by(
    keyword: &str,
    copy: &Copy,
    common: &Common,
    sources: &[String],
    destination: &str,
) -> String {
    let mut text = keyword.to_owned();
    if let Some(owner) = &common.owner {
        let group = owner
            .group
            .as_ref()
            .map(|group| format!(":{group}"))
            .unwrap_or_default();
        text.push_str(&format!(" --chown={}{group}", owner.user));
    }
    if let Some(mode) = &common.mode {
        text.push_str(&format!(" --chmod={mode}"));
    }
    for source in sources {
        text.push_str(&format!(" {source}"));
    }
    for file in &copy.heredocs {
        text.push_str(&format!(" <<{}", file.name));
    }
    format!("{text} {destination} # buildkit")
}

fn is_git(source: &str) -> bool {
    let path = source.split(['#', '?']).next().unwrap_or_default();
    source.starts_with("git@")
        || source.starts_with("git://")
        || source.starts_with("ssh://")
        || ((source.starts_with("http://") || source.starts_with("https://"))
            && path.ends_with(".git"))
}

fn url_file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let after_scheme = path.split_once("://").map_or(path, |(_, rest)| rest);
    match after_scheme
        .split_once('/')
        .and_then(|(_, path)| path.rsplit('/').next())
    {
        Some(name) if !name.is_empty() && name != "." && name != ".." => name.to_owned(),
        _ => UNNAMED.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{destination, is_git, url_file_name};

    #[test]
    fn destinations() {
        for (cwd, written, expected) in [
            ("/w", ".", "/w/"),
            ("/", ".", "/"),
            ("/w", "a", "/w/a"),
            ("/w", "a/", "/w/a/"),
            ("/w", "/a/.", "/a/"),
            ("/w", "../a", "/a"),
            ("/w", "", "/w"),
        ] {
            assert_eq!(destination(cwd, written), expected, "{cwd} {written}");
        }
    }

    #[test]
    fn addresses() {
        for (url, name) in [
            ("https://e.com/a/b.tgz?x#y", "b.tgz"),
            ("https://e.com/", "__unnamed__"),
            ("https://e.com", "__unnamed__"),
            ("https://e.com/a/..", "__unnamed__"),
        ] {
            assert_eq!(url_file_name(url), name, "{url}");
        }
        assert!(is_git("https://github.com/a/b.git#main"));
        assert!(is_git("git@github.com:a/b"));
        assert!(!is_git("https://e.com/x.tgz"));
    }
}
