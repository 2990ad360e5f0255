//! Files of which a part cannot be read: lowering looks at the rest, and says nothing that only follows.

use std::sync::Arc;

use wharf_build::{BaseImage, BuildError, Frontend, lower_dockerfile};
use wharf_dockerfile::{Diagnostic, load};
use wharf_image::{Digest, ImageConfig, Platform};

/// Returns what is told about a Dockerfile on top of an empty image; `absent` is not there.
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
    match lower_dockerfile(text, &Frontend::default(), &mut find_base) {
        Ok(_) => "built".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Returns how many mistakes were told.
fn count(told: &str) -> usize {
    told.matches(" --> ").count()
}

/// Each file has one mistake; a second one only seems to follow from it.
#[test]
fn nothing_is_said_about_what_follows_from_what_cannot_be_read() {
    for text in [
        // Variables that may be set.
        "FROM base\nENV A\nRUN x\nCOPY a ${A:?is not set}\nSTOPSIGNAL $A\n",
        "FROM base\nENV A=SIGHUP B\nLABEL a=${A:?}\n",
        "FROM base\nARG =x\nSTOPSIGNAL $A\n",
        "FROM base\nAGR A=SIGHUP\nSTOPSIGNAL $A\n",
        "FROM base\nENV \\\n A=1\nB=SIGHUP\nSTOPSIGNAL $B\n",
        "ARG =x\nFROM $A\n",
        "ARG =x\nFROM base\nARG A\nSTOPSIGNAL $A\n",
        "FROM base AS a\nONBUILD ENV A\nFROM a\nSTOPSIGNAL $A\n",
        "FROM base\nENV A\nCOPY <<E /x\n${B:?}\nE\n",
        // Stages and their names.
        "FROM base a\nFROM base\nCOPY --from=a /x /y\nRUN --mount=from=B,target=/m x\n",
        "FROM base AS 1a\nFROM base\nCOPY --from=1a /x /y\n",
        "FORM base AS A\nRUN x\nFROM a\nSTOPSIGNAL $X\n",
        "FORM base\nRUN x\nFROM name\nSTOPSIGNAL $X\n",
        "FROM --platfrm=x base AS a\nSTOPSIGNAL $X\nFROM base AS b\nCOPY --from=0 / /\n",
        "FROM base a\nFROM base AS c\nCOPY --from=b / /\nFROM base AS b\nCOPY --from=c / /\n",
        "FROM\nRUN x\n",
        // Directories.
        "FROM base\nWORKDIR --x=y /w\nRUN --mount=type=cache,target=. x\n",
        "FROM base\nENV A\nWORKDIR $A\nRUN --mount=type=cache,target=.. x\n",
        // The escape character decides what is one instruction.
        "# escape=x\nFROM base\nSTOPSIGNAL nope\n",
    ] {
        let told = told(text);
        assert_eq!(count(&told), 1, "{text}{told}");
    }
}

#[test]
fn what_hangs_on_nothing_unknown_is_looked_at() {
    for (text, expected) in [
        ("FROM base\nENV A\nSTOPSIGNAL nope\nEXPOSE x\n", 3),
        ("FROM absent\nENV A\nSTOPSIGNAL nope\n", 2),
        ("FORM base\nSTOPSIGNAL nope\n", 2),
        // In capitals it is no stage, whatever the stages before are called.
        ("FORM base AS A\nRUN x\nFROM A\n", 2),
        ("FROM base AS a\nSTOPSIGNAL nope\nFROM a b\nRUN x\n", 2),
        (
            "FROM base AS a\nSTOPSIGNAL nope\nFROM base\nCOPY --form=x --from=a / /\n",
            2,
        ),
        (
            "FROM base AS a\nSTOPSIGNAL nope\nFROM base\nRUN --mont=x --mount=from=a,target=/ x\n",
            2,
        ),
        ("FROM base\nCMD [1]\nSTOPSIGNAL nope\nCOPY <<E /x\n", 3),
        // A stage that nobody needs is not looked at here either.
        ("FROM base AS a\nSTOPSIGNAL nope\nFROM base\nLABEL x\n", 1),
    ] {
        let told = told(text);
        assert_eq!(count(&told), expected, "{text}{told}");
    }
}

/// A whole file, in which any line can be damaged: nothing may follow from the damage.
const WHOLE: &[&str] = &[
    "ARG VERSION=1",
    "ARG BASE=base",
    "FROM ${BASE:?} AS first",
    "ARG VERSION",
    "ENV SIGNAL=SIGHUP DIR=/w",
    "WORKDIR $DIR",
    "WORKDIR sub",
    "RUN --mount=type=cache,target=. --mount=source=${DIR:?},target=/m make",
    "COPY --chmod=${VERSION:?}55 a b ./",
    "ONBUILD ENV FROM_TRIGGER=SIGINT",
    "STOPSIGNAL $SIGNAL",
    "FROM first AS second",
    "STOPSIGNAL ${FROM_TRIGGER:?}",
    "EXPOSE 80 ${VERSION:+81}",
    "SHELL [\"/bin/sh\", \"-c\"]",
    "VOLUME [\"${DIR:?}\"]",
    "FROM base",
    "LABEL a=b c=\"d\"",
    "COPY --from=first /a /b",
    "COPY --from=1 /a /b",
    "RUN --mount=from=second,target=/m make",
    "COPY <<E /f",
    "${PATH:?}",
    "E",
    "HEALTHCHECK --interval=1s CMD x",
    "ENTRYPOINT [\"a\"]",
];

type Damage = fn(&str) -> String;

/// Ways to damage a line.
const DAMAGES: &[Damage] = &[
    |line| format!("X{line}"),
    |line| format!("{line} x"),
    |line| format!("{line} <<E"),
    |line| format!("{line} \\"),
    |line| line.replacen(' ', " --nope=1 ", 1),
    |line| line.replacen(' ', " [1] ", 1),
    |line| line.replacen(' ', " [1]", 1),
    |line| line.split(' ').next().unwrap_or_default().to_owned(),
    |line| line.chars().skip(1).collect(),
    |line| line.chars().rev().collect(),
    |line| line.replacen('=', " ", 1),
    |line| line.replacen('=', "", 1),
];

#[test]
fn damaging_a_line_makes_no_other_line_wrong() {
    let whole = WHOLE.join("\n");
    assert_eq!(told(&whole), "built");
    let mut damaged_files = 0;
    for place in 0..WHOLE.len() {
        for damage in DAMAGES {
            let mut lines: Vec<String> = WHOLE.iter().map(|line| (*line).to_owned()).collect();
            lines[place] = damage(&lines[place]);
            let text = lines.join("\n");
            let (_, mut read) = load(&text);
            read.retain(Diagnostic::is_error);
            if read.is_empty() {
                continue;
            }
            damaged_files += 1;
            let told = told(&text);
            assert_eq!(count(&told), read.len(), "{text}\n\n{told}");
            assert!(told.starts_with(&read[0].headline()), "{text}\n\n{told}");
        }
    }
    assert!(damaged_files > 100, "{damaged_files}");
}
