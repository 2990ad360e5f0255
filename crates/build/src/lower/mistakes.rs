//! All mistakes of one pass: lowering goes on behind what it cannot read.

use std::cell::{Cell, RefCell};

use wharf_dockerfile::{Diagnostic, Instruction, InstructionKind, Location, Stage};

use super::LowerInput;
use crate::BuildError;

/// Mistakes in the Dockerfile that lowering met, in the order in which it met them: the first is BuildKit's.
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    met: RefCell<Vec<Diagnostic>>,
    /// How many were met, those told before as well.
    count: Cell<usize>,
}

impl Mistakes {
    /// Returns what succeeded; keeps mistakes in the Dockerfile and returns nothing in their place.
    ///
    /// # Errors
    /// What is no mistake in the Dockerfile: nothing can be done behind it.
    pub fn keep<T>(&self, result: Result<T, BuildError>) -> Result<Option<T>, BuildError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(BuildError::Dockerfile { diagnostics, .. }) => {
                self.add(diagnostics);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns how many mistakes were met.
    pub fn count(&self) -> usize {
        self.count.get()
    }

    /// Returns the end of a lowering: all mistakes where there are any.
    ///
    /// # Errors
    /// The mistakes; what else went wrong where it is the only thing.
    pub fn end<T>(
        self,
        input: &LowerInput<'_>,
        result: Result<T, BuildError>,
    ) -> Result<T, BuildError> {
        match self.keep(result) {
            Err(BuildError::Cancelled) => Err(BuildError::Cancelled),
            Err(error) if self.met.borrow().is_empty() => Err(error),
            Ok(Some(value)) if self.met.borrow().is_empty() => Ok(value),
            _ => {
                let met = self.met.into_inner();
                Err(BuildError::dockerfile(input.file_name, input.source, met))
            }
        }
    }

    /// Returns the mistakes in the order in which they were met.
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.met.into_inner()
    }

    fn add(&self, diagnostics: Vec<Diagnostic>) {
        let mut met = self.met.borrow_mut();
        self.count.set(self.count.get() + diagnostics.len());
        for diagnostic in diagnostics {
            if !met.contains(&diagnostic) {
                met.push(diagnostic);
            }
        }
    }
}

/// A directory in the place of one that a mistake leaves open: no relative path leads from it to the root.
pub(super) const UNKNOWN_DIRECTORY: &str = "/unknown/unknown/unknown/unknown";

/// Says whether what an instruction means hangs on variables.
pub(super) fn hangs_on_variables(instruction: &Instruction) -> bool {
    match &instruction.kind {
        InstructionKind::Run(run) => run.mounts.iter().any(|mount| mount.text.contains('$')),
        InstructionKind::Copy(copy) | InstructionKind::Add(copy) => {
            let mut files = copy.heredocs.iter().filter(|file| file.expand);
            instruction.original.contains('$') || files.any(|file| file.content.contains('$'))
        }
        _ => instruction.original.contains('$'),
    }
}

/// Says whether one of the stages could have any name: its FROM could not be read, or something in it may be one.
pub(super) fn may_have_any_name(stages: &[Stage]) -> bool {
    let may_be_from = |instruction: &Instruction| match &instruction.kind {
        InstructionKind::Unreadable(unreadable) => unreadable.meant.is_none(),
        _ => false,
    };
    stages.iter().any(|stage| {
        let is_unnamed = stage.is_unreadable && stage.from.stage_name.is_none();
        is_unnamed || stage.instructions.iter().any(may_be_from)
    })
}

/// Returns the place of a text within an instruction, as a word of its own where it is one; the whole instruction where
/// it is written otherwise.
pub(super) fn within(input: &LowerInput<'_>, at: &Location, text: &str) -> Location {
    let whole = input.source.get(at.span.clone()).unwrap_or_default();
    let is_word = |start: &usize| {
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let (before, rest) = whole.split_at(*start);
        let is_inside = is_part(before.chars().next_back()) && is_part(text.chars().next());
        let behind = rest.get(text.len()..).unwrap_or_default();
        let goes_on = is_part(text.chars().next_back()) && is_part(behind.chars().next());
        !(is_inside || goes_on)
    };
    let mut places = whole.match_indices(text).map(|(start, _)| start);
    let found = places.find(is_word).or_else(|| whole.find(text));
    match found {
        Some(offset) if !text.is_empty() => {
            let start = at.span.start + offset;
            Location {
                span: start..start + text.len(),
                ..at.clone()
            }
        }
        _ => at.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use wharf_image::{Digest, ImageConfig, Platform};

    use crate::{BaseImage, BuildError, Frontend, lower_dockerfile};

    /// Returns what is told about a Dockerfile on top of an empty image.
    fn told(text: &str) -> String {
        let mut find_base = |name: &str, _: &Platform| {
            if name == "absent" {
                return Err(BuildError::Host(format!("{name}: not found").into()));
            }
            Ok(BaseImage {
                id: Digest::of(name),
                digest: None,
                config: Arc::new(ImageConfig::default()),
            })
        };
        let options = Frontend {
            build_args: BTreeMap::new(),
            ..Frontend::default()
        };
        match lower_dockerfile(text, &options, &mut find_base) {
            Ok(_) => "built".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn all_of_one_pass() {
        insta::assert_snapshot!(told(
            "FROM base AS a\n\
             RUN --mount=type=cache,targt=/c,sharing=loked,mode=9 \\\n    --mount=type=tmp,target=/t make\n\
             STOPSIGNAL nope\n\
             FROM base\n\
             COPY --chmod=999 --from=a x ${Y\n\
             EXPOSE x 80\n\
             COPY --from=a /x /y\n"
        ), @r#"
        unexpected key 'targt' in 'targt=/c' (did you mean target?)
         --> Dockerfile:2:24
          |
        2 | RUN --mount=type=cache,targt=/c,sharing=loked,mode=9 \
          |                        ^^^^^^^^ did you mean `target`?
        unsupported sharing value "loked"
         --> Dockerfile:2:33
          |
        2 | RUN --mount=type=cache,targt=/c,sharing=loked,mode=9 \
          |                                 ^^^^^^^^^^^^^
        invalid value 9 for mode
         --> Dockerfile:2:47
          |
        2 | RUN --mount=type=cache,targt=/c,sharing=loked,mode=9 \
          |                                               ^^^^^^
        unsupported mount type "tmp" (did you mean tmpfs?)
         --> Dockerfile:3:13
          |
        3 |     --mount=type=tmp,target=/t make
          |             ^^^^^^^^ did you mean `tmpfs`?
        invalid signal: nope
         --> Dockerfile:4:12
          |
        4 | STOPSIGNAL nope
          |            ^^^^
        invalid chmod parameter: '999'. it should be octal string and between 0 and 07777
         --> Dockerfile:6:6
          |
        6 | COPY --chmod=999 --from=a x ${Y
          |      ^^^^^^^^^^^
        failed to process "${Y": unsupported modifier (�) in substitution
         --> Dockerfile:6:29
          |
        6 | COPY --chmod=999 --from=a x ${Y
          |                             ^^^
        invalid containerPort: x
         --> Dockerfile:7:8
          |
        7 | EXPOSE x 80
          |        ^
        "#);
    }

    #[test]
    fn words_of_arguments_and_stages() {
        insta::assert_snapshot!(told(
            "ARG A=${B\n\
             ARG C=\"x\n\
             FROM base AS a\n\
             COPY --from=a /x /y\n\
             FROM --platform=linux/§ base AS b\n\
             STOPSIGNAL nope\n\
             FROM $NOTHING\n\
             COPY --from=a / /\n\
             COPY --from=b / /\n"
        ), @r#"
        failed to process "${B": unsupported modifier (�) in substitution
         --> Dockerfile:1:7
          |
        1 | ARG A=${B
          |       ^^^
        failed to process "\"x": unexpected end of statement while looking for matching double-quote
         --> Dockerfile:2:7
          |
        2 | ARG C="x
          |       ^^
        circular dependency detected on stage: a
         --> Dockerfile:4:1
          |
        4 | COPY --from=a /x /y
          | ^^^^^^^^^^^^^^^^^^^
        failed to parse platform linux/§: "§" is an invalid component of "linux/§": platform specifier component must match "^[A-Za-z0-9_.-]+$": invalid argument
         --> Dockerfile:5:17
          |
        5 | FROM --platform=linux/§ base AS b
          |                 ^^^^^^^
        invalid signal: nope
         --> Dockerfile:6:12
          |
        6 | STOPSIGNAL nope
          |            ^^^^
        "#);
    }

    #[test]
    fn nothing_is_said_about_what_follows_from_a_mistake() {
        insta::assert_snapshot!(told(
            "FROM base AS a\n\
             ENV SIGNAL=${X\n\
             STOPSIGNAL $SIGNAL\n\
             FROM a AS b\n\
             STOPSIGNAL $SIGNAL\n\
             FROM Base:x:y AS c\n\
             STOPSIGNAL $SIGNAL\n\
             FROM base\n\
             COPY --from=b / /\n\
             COPY --from=c / /\n\
             VOLUME \"\"\n"
        ), @r#"
        failed to parse stage name "Base:x:y": invalid reference format: repository name (library/Base) must be lowercase
         --> Dockerfile:6:6
          |
        6 | FROM Base:x:y AS c
          |      ^^^^^^^^
        failed to process "${X": unsupported modifier (�) in substitution
         --> Dockerfile:2:12
          |
        2 | ENV SIGNAL=${X
          |            ^^^
        VOLUME specified can not be an empty string
          --> Dockerfile:11:1
           |
        11 | VOLUME ""
           | ^^^^^^^^^
        "#);
    }

    #[test]
    fn mistakes_of_the_text_and_of_its_meaning_together() {
        insta::assert_snapshot!(told(
            "FROM base AS a\n\
             STOPSIGNAL nope\n\
             RUNN make\n\
             EXPOSE 80 x 90000 443\n\
             FROM base\n\
             COPY --form=a /x /y\n\
             RUN --mount=type=cache,targt=/c make\n\
             LABEL x\n\
             COPY --from=a --chmod=999 /x /y\n"
        ), @r"
        LABEL must have two arguments
         --> Dockerfile:8:7
          |
        8 | LABEL x
          |       ^
        invalid signal: nope
         --> Dockerfile:2:12
          |
        2 | STOPSIGNAL nope
          |            ^^^^
        dockerfile parse error on line 3: unknown instruction: RUNN (did you mean RUN?)
         --> Dockerfile:3:1
          |
        3 | RUNN make
          | ^^^^ did you mean `RUN`?
        invalid containerPort: x
         --> Dockerfile:4:11
          |
        4 | EXPOSE 80 x 90000 443
          |           ^
        invalid containerPort: 90000
         --> Dockerfile:4:13
          |
        4 | EXPOSE 80 x 90000 443
          |             ^^^^^
        dockerfile parse error on line 6: unknown flag: --form (did you mean from?)
         --> Dockerfile:6:6
          |
        6 | COPY --form=a /x /y
          |      ^^^^^^^^ did you mean `from`?
        unexpected key 'targt' in 'targt=/c' (did you mean target?)
         --> Dockerfile:7:24
          |
        7 | RUN --mount=type=cache,targt=/c make
          |                        ^^^^^^^^ did you mean `target`?
        invalid chmod parameter: '999'. it should be octal string and between 0 and 07777
         --> Dockerfile:9:15
          |
        9 | COPY --from=a --chmod=999 /x /y
          |               ^^^^^^^^^^^
        ");
    }

    #[test]
    fn stages_that_nobody_needs_are_not_looked_at() {
        assert_eq!(told("FROM base\nSTOPSIGNAL nope\nFROM base\n"), "built");
    }

    #[test]
    fn mistakes_come_before_an_image_that_is_not_there() {
        let text = "FROM base AS a\nSTOPSIGNAL nope\nFROM absent\nCOPY --from=a / /\n";
        insta::assert_snapshot!(told(text), @r"
        invalid signal: nope
         --> Dockerfile:2:12
          |
        2 | STOPSIGNAL nope
          |            ^^^^
        ");
        insta::assert_snapshot!(told("FROM absent\nSTOPSIGNAL nope\n"), @r"
        absent: not found
         --> Dockerfile:1:1
          |
        1 | FROM absent
          | ^^^^^^^^^^^
        ");
    }
}
