//! COPY and ADD (spec llb §7.4).

use wharf_dockerfile::Location;
use wharf_dockerfile::instruction::Copy;
use wharf_image::{Glob, HistoryEntry};
use wharf_llb::{
    Account, Chown, CopyAction, Edge, FileAction, FileActionKind, FileInput, FileOp, MergeOp,
    Metadata, Op,
};

use super::mistakes::may_have_any_name;
use super::names::named;
use super::sources::{is_address, is_git};
use super::{Lowering, StageState};
use crate::BuildError;
use crate::chmod::ModeChange;
use crate::config;
use crate::context::MAIN_CONTEXT;
use crate::history;

/// Mode of a here-document.
const INLINE_MODE: u32 = 0o644;
/// Where `--parents` cuts a path.
const PIVOT: &str = "/./";

/// Where an instruction stands.
pub(super) struct Place<'a> {
    /// The stage's number.
    pub stage: usize,
    /// Where the instruction is written.
    pub at: &'a Location,
    /// Its text as it is shown.
    pub text: &'a str,
}

/// One instruction, expanded.
struct Expanded<'a> {
    copy: &'a Copy,
    keyword: &'static str,
    is_add: bool,
    sources: Vec<String>,
    /// Absolute.
    destination: String,
    chown: Option<String>,
    chmod: Option<String>,
    checksum: Option<String>,
    exclude: Vec<String>,
}

/// Actions under way, each going on from the one before.
struct Actions {
    list: Vec<FileAction>,
    inputs: Vec<Edge>,
    has_base: bool,
}

impl Lowering<'_, '_> {
    pub(super) fn copy(
        &mut self,
        copy: &Copy,
        is_add: bool,
        state: &mut StageState,
        place: &Place<'_>,
    ) -> Result<Option<HistoryEntry>, BuildError> {
        let written = self.expand(&copy.destination, state, place.at);
        let written = self.mistakes.keep(written)?.unwrap_or_default();
        let expanded = self.expanded(copy, is_add, &written, state, place.at)?;
        let name = state.names.next(place.text);
        let base = state.output.filter(|_| !copy.link);
        let mut actions = Actions {
            list: Vec::new(),
            inputs: base.into_iter().collect(),
            has_base: base.is_some(),
        };
        let template = expanded.template(base.is_some());
        for source in &expanded.sources {
            let added = self.source(
                source,
                &expanded,
                &template,
                &mut actions,
                (state, place, &name),
            );
            self.mistakes.keep(added)?;
        }
        for file in &copy.heredocs {
            let content = if file.expand {
                self.inline(&file.content, state, place.at)?
            } else {
                file.content.clone()
            };
            let edge = self.inline_file(&file.name, INLINE_MODE, content);
            let action = CopyAction {
                source: config::clean_absolute(&file.name),
                ..template.clone()
            };
            actions.add(Some(edge), action);
        }
        let created_by = created_by(&expanded, &written);
        let copied = self.files(actions, self.step(place.stage, &name));
        state.output = match state.output.filter(|_| copy.link) {
            Some(below) => {
                let shown = state.names.current(&format!("LINK {}", place.text));
                Some(self.merge(below, copied, self.step(place.stage, shown)))
            }
            None => Some(copied),
        };
        Ok(Some(history::entry(created_by, false)))
    }

    fn expanded<'c>(
        &self,
        copy: &'c Copy,
        is_add: bool,
        written: &str,
        state: &StageState,
        at: &Location,
    ) -> Result<Expanded<'c>, BuildError> {
        let keyword = if is_add { "ADD" } else { "COPY" };
        let expand = |words: &[String]| {
            let mut expanded = Vec::new();
            for word in words {
                expanded.extend(self.mistakes.keep(self.expand(word, state, at))?);
            }
            Ok::<_, BuildError>(expanded)
        };
        let sources = expand(&copy.sources)?;
        let destination = destination(state.cwd(), written);
        let checksum = self.expand_option(&copy.checksum, state, at)?;
        // What a mistake left out is not counted.
        let is_whole = sources.len() == copy.sources.len();
        if checksum.is_some() && is_whole && sources.len() + copy.heredocs.len() != 1 {
            return Err(self.mistake(at, "checksum can't be specified for multiple sources"));
        }
        let is_fetched = |source: &String| is_address(source) || is_git(source);
        if checksum.is_some() && !sources.iter().all(is_fetched) {
            return Err(self.mistake(at, "checksum requires HTTP(S) or Git sources"));
        }
        let chown = self.expand_option(&copy.chown, state, at);
        let chmod = self.mode(copy, state, at);
        Ok(Expanded {
            copy,
            keyword,
            is_add,
            sources,
            destination,
            chown: self.mistakes.keep(chown)?.flatten(),
            chmod: self.mistakes.keep(chmod)?.flatten(),
            checksum,
            // Patterns are taken as they are written: BuildKit expands no variables in them.
            exclude: copy.exclude.clone(),
        })
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
            let written = copy.chmod.as_deref().unwrap_or_default();
            let place = self.within(at, &format!("--chmod={written}"));
            ModeChange::parse(mode).map_err(|error| self.mistake(&place, error))?;
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

    /// Adds the copy of one source.
    fn source(
        &mut self,
        source: &str,
        expanded: &Expanded<'_>,
        template: &CopyAction,
        actions: &mut Actions,
        (state, place, name): (&StageState, &Place<'_>, &str),
    ) -> Result<(), BuildError> {
        let at = place.at;
        let checksum = expanded.checksum.as_deref();
        if is_git(source) {
            if !expanded.is_add {
                return Err(self.mistake(at, "source can't be a git ref for COPY"));
            }
            let options = (expanded.copy.keep_git_dir, checksum);
            let edge = self.git_vertex(source, options, named(name), at)?;
            let action = CopyAction {
                source: "/".to_owned(),
                ..template.clone()
            };
            actions.add(Some(edge), action);
            return Ok(());
        }
        if is_address(source) {
            if !expanded.is_add {
                return Err(self.mistake(at, "source can't be a URL for COPY"));
            }
            let (edge, file_name) = self.http_vertex(source, checksum, named(name));
            let action = CopyAction {
                source: format!("/{file_name}"),
                attempt_unpack: expanded.copy.unpack == Some(true),
                ..template.clone()
            };
            actions.add(Some(edge), action);
            return Ok(());
        }
        let (parent, include) = if expanded.copy.parents {
            let (parent, pattern) = source.split_once(PIVOT).unwrap_or(("/", source));
            let pattern = config::clean_absolute(pattern);
            (parent, vec![pattern.trim_start_matches('/').to_owned()])
        } else {
            (source, Vec::new())
        };
        let required = include
            .iter()
            .filter(|pattern| !Glob::is_pattern(pattern))
            .cloned();
        let taken = config::clean_absolute(source);
        let files = match &expanded.copy.from {
            Some(from) => self.from(from, &taken, state, place)?,
            None => Some(self.context(MAIN_CONTEXT, &taken)),
        };
        let action = CopyAction {
            source: config::clean_absolute(parent),
            required_paths: required.collect(),
            include_patterns: include,
            attempt_unpack: expanded.copy.unpack.unwrap_or(expanded.is_add),
            follow_symlink: true,
            dir_copy_contents: true,
            allow_wildcard: true,
            allow_empty_wildcard: true,
            ..template.clone()
        };
        actions.add(files, action);
        Ok(())
    }

    /// Returns the files that `--from` names: those of an earlier stage, of a named context or of an image.
    fn from(
        &mut self,
        from: &str,
        path: &str,
        state: &StageState,
        place: &Place<'_>,
    ) -> Result<Option<Edge>, BuildError> {
        let (stage, at) = (place.stage, place.at);
        if from.contains('$') {
            let message = "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround";
            return Err(self.mistake(at, message));
        }
        if let Some(index) = self.earlier_stage(stage, from) {
            return self.stage_output(index, from, at);
        }
        let earlier = self.input.dockerfile.stages.get(..=stage);
        if may_have_any_name(earlier.unwrap_or_default()) {
            return Ok(None);
        }
        let is_number = from.parse::<usize>().is_ok();
        let is_context = || self.input.contexts.contains_key(from);
        if is_number && !is_context() {
            return Err(self.mistake(
                &self.within(at, from),
                format!("invalid stage index {from}"),
            ));
        }
        match self.later_stage(stage, from) {
            Some(later) if later == stage || self.needed(later).contains(&stage) => {
                let stages = &self.input.dockerfile.stages;
                let own = stages
                    .get(stage)
                    .and_then(|stage| stage.from.stage_name.as_deref());
                let named = own.unwrap_or(from);
                Err(self.mistake(
                    at,
                    format!("circular dependency detected on stage: {named}"),
                ))
            }
            Some(_) => Err(self.mistake(
                at,
                format!("stage {from} stands below the stage that copies from it; move it up"),
            )),
            None => self.files_of(from, path, state, at),
        }
    }

    fn files(&mut self, mut actions: Actions, metadata: Metadata) -> Edge {
        if let Some(last) = actions.list.last_mut() {
            last.output = Some(0);
        }
        let op = Op::File(FileOp {
            actions: actions.list,
        });
        // Changing files is the same on every platform.
        let vertex = self.graph.add(op, actions.inputs, None, metadata);
        Edge { vertex, output: 0 }
    }

    fn merge(&mut self, below: Edge, above: Edge, metadata: Metadata) -> Edge {
        let op = Op::Merge(MergeOp { inputs: vec![0, 1] });
        let vertex = self.graph.add(op, vec![below, above], None, metadata);
        Edge { vertex, output: 0 }
    }
}

impl Actions {
    /// Adds a copy out of `files`, which may be nothing.
    fn add(&mut self, files: Option<Edge>, copy: CopyAction) {
        let secondary = match files {
            None => FileInput::Scratch,
            Some(edge) => {
                let known = self.inputs.iter().position(|other| *other == edge);
                FileInput::Input(known.unwrap_or_else(|| {
                    self.inputs.push(edge);
                    self.inputs.len() - 1
                }))
            }
        };
        let input = match self.list.len() {
            0 if self.has_base => FileInput::Input(0),
            0 => FileInput::Scratch,
            count => FileInput::Action(count - 1),
        };
        self.list.push(FileAction {
            input,
            secondary,
            output: None,
            kind: FileActionKind::Copy(copy),
        });
    }
}

impl Expanded<'_> {
    /// Returns what all copies of the instruction share.
    fn template(&self, has_base: bool) -> CopyAction {
        let octal = self
            .chmod
            .as_ref()
            .and_then(|mode| u32::from_str_radix(mode, 8).ok());
        CopyAction {
            destination: self.destination.clone(),
            owner: self.chown.as_ref().map(|owner| chown(owner, has_base)),
            mode: octal,
            mode_text: self
                .chmod
                .clone()
                .filter(|_| octal.is_none())
                .unwrap_or_default(),
            create_dest_path: true,
            exclude_patterns: self.exclude.clone(),
            ..CopyAction::default()
        }
    }
}

/// Reads `user[:group]`; names are looked up in input 0. What is empty is root, a number beyond BuildKit's a name.
pub(super) fn chown(text: &str, has_base: bool) -> Chown {
    let input = if has_base {
        FileInput::Input(0)
    } else {
        FileInput::Scratch
    };
    let account = |name: &str| match name.parse().map(i32::cast_unsigned) {
        Ok(id) => Account::Id(id),
        Err(_) if matches!(name, "" | "root") => Account::Id(0),
        Err(_) => Account::Name {
            name: name.to_owned(),
            input,
        },
    };
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    Chown {
        user: Some(account(user)),
        group: group.map(account),
    }
}

/// Returns an absolute destination; `.` and a `/` at the end mean a directory.
fn destination(cwd: &str, written: &str) -> String {
    let is_dir =
        written.is_empty() || written.ends_with('/') || written == "." || written.ends_with("/.");
    let mut path = config::join_workdir(cwd, written);
    if is_dir && path != "/" {
        path.push('/');
    }
    path
}

fn created_by(expanded: &Expanded<'_>, destination: &str) -> String {
    let mut text = expanded.keyword.to_owned();
    if expanded.copy.parents {
        text.push_str(" --parents");
    }
    if let Some(owner) = &expanded.chown {
        text.push_str(&format!(" --chown={}", owner));
    }
    if let Some(mode) = &expanded.chmod {
        text.push_str(&format!(" --chmod={mode}"));
    }
    for source in &expanded.sources {
        text.push_str(&format!(" {source}"));
    }
    for file in &expanded.copy.heredocs {
        text.push_str(&format!(" <<{}", file.name));
    }
    format!("{text} {destination} # buildkit")
}

#[cfg(test)]
mod tests {
    use super::{chown, destination};
    use wharf_llb::Account;

    #[test]
    fn destinations() {
        for (cwd, written, expected) in [
            ("/w", ".", "/w/"),
            ("/", ".", "/"),
            ("/w", "a", "/w/a"),
            ("/w", "a/", "/w/a/"),
            ("/w", "/a/.", "/a/"),
            ("/w", "../a", "/a"),
            ("/w", "", "/w/"),
        ] {
            assert_eq!(destination(cwd, written), expected, "{cwd} {written}");
        }
    }

    #[test]
    fn owners() {
        let owner = chown("1:g", true);
        assert_eq!(owner.user, Some(Account::Id(1)));
        assert!(matches!(owner.group, Some(Account::Name { name, .. }) if name == "g"));
        assert_eq!(chown("app:", true).group, Some(Account::Id(0)));
        assert_eq!(chown(":5", true).user, Some(Account::Id(0)));
        let beyond = chown("3000000000", true).user;
        assert!(matches!(beyond, Some(Account::Name { .. })));
    }
}
