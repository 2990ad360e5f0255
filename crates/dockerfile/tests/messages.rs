//! Whole messages about mistakes, as they are shown.

use wharf_dockerfile::{Diagnostic, load, render};

fn mistakes(source: &str) -> String {
    let (_, diagnostics) = load(source);
    let errors: Vec<Diagnostic> = diagnostics
        .into_iter()
        .filter(Diagnostic::is_error)
        .collect();
    render("Dockerfile", source, &errors)
}

#[test]
fn unknown_instructions_name_the_nearest_word() {
    insta::assert_snapshot!(mistakes("FROM busybox\nCOPPY a b\n"), @r"
    dockerfile parse error on line 2: unknown instruction: COPPY (did you mean COPY?)
     --> Dockerfile:2:1
      |
    2 | COPPY a b
      | ^^^^^ did you mean `COPY`?
    ");
}

#[test]
fn flags_that_there_are_not() {
    insta::assert_snapshot!(mistakes("FROM busybox\nCOPY --form=a b c\n"), @r"
    dockerfile parse error on line 2: unknown flag: --form (did you mean from?)
     --> Dockerfile:2:6
      |
    2 | COPY --form=a b c
      |      ^^^^^^^^ did you mean `from`?
    ");
    insta::assert_snapshot!(mistakes("FROM busybox\nHEALTHCHECK --interval=1x CMD true\n"), @r#"
    dockerfile parse error on line 2: time: unknown unit "x" in duration "1x"
     --> Dockerfile:2:13
      |
    2 | HEALTHCHECK --interval=1x CMD true
      |             ^^^^^^^^^^^^^
    "#);
}

#[test]
fn missing_arguments() {
    insta::assert_snapshot!(mistakes("FROM busybox\nCOPY a\nENV\nFROM\nWORKDIR\n"), @r"
    dockerfile parse error on line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined
     --> Dockerfile:2:1
      |
    2 | COPY a
      | ^^^^
    dockerfile parse error on line 3: ENV requires at least one argument
     --> Dockerfile:3:1
      |
    3 | ENV
      | ^^^
    dockerfile parse error on line 4: FROM requires either one or three arguments
     --> Dockerfile:4:1
      |
    4 | FROM
      | ^^^^
    dockerfile parse error on line 5: WORKDIR requires exactly one argument
     --> Dockerfile:5:1
      |
    5 | WORKDIR
      | ^^^^^^^
    ");
}

#[test]
fn one_pass_tells_every_mistake() {
    let source = "FROM busybox AS 1st\nRUNN x\nENV A\nEXPOSE\n";
    insta::assert_snapshot!(mistakes(source), @r#"
    ENV must have two arguments
     --> Dockerfile:3:5
      |
    3 | ENV A
      |     ^
    dockerfile parse error on line 1: invalid name for build stage: "1st", name can't start with a number or contain symbols
     --> Dockerfile:1:17
      |
    1 | FROM busybox AS 1st
      |                 ^^^
    dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)
     --> Dockerfile:2:1
      |
    2 | RUNN x
      | ^^^^ did you mean `RUN`?
    dockerfile parse error on line 4: EXPOSE requires at least one argument
     --> Dockerfile:4:1
      |
    4 | EXPOSE
      | ^^^^^^
    "#);
}

#[test]
fn heredocs_without_an_end() {
    insta::assert_snapshot!(mistakes("FROM busybox\nRUN <<EOF\necho hi\nEOFF\n"), @r"
    unterminated heredoc
     --> Dockerfile:2:1
      |
    2 | RUN <<EOF
      | ^^^^^^^^^
    ");
}

#[test]
fn files_that_begin_wrong() {
    insta::assert_snapshot!(mistakes("# escape=x\nFROM busybox\n"), @r"
    invalid escape token 'x' does not match ` or \
     --> Dockerfile:1:1
      |
    1 | # escape=x
      | ^^^^^^^^^^
    ");
    insta::assert_snapshot!(mistakes("RUN x\n"), @r"
    no build stage in current context
     --> Dockerfile:1:1
      |
    1 | RUN x
      | ^^^
    ");
}

#[test]
fn triggers_that_cannot_be() {
    insta::assert_snapshot!(mistakes("FROM busybox\nSHELL bash\nONBUILD FROM x\n"), @r"
    dockerfile parse error on line 2: SHELL requires the arguments to be in JSON form
     --> Dockerfile:2:1
      |
    2 | SHELL bash
      | ^^^^^
    dockerfile parse error on line 3: FROM isn't allowed as an ONBUILD trigger
     --> Dockerfile:3:9
      |
    3 | ONBUILD FROM x
      |         ^^^^
    ");
}
