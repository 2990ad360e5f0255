//! `docs/checks.md` describes every check, and its examples are what it says they are.

use std::collections::BTreeMap;

use wharf_dockerfile::lint::{LintConfig, LintInput, RULES, check_own};
use wharf_dockerfile::{Diagnostic, interpret, parse};

const PAGE: &str = include_str!("../../../docs/checks.md");
const EXAMPLE: &str = "```dockerfile\n";

/// Returns the page's sections of single checks.
fn sections() -> BTreeMap<&'static str, &'static str> {
    let sections = PAGE.split("\n### ").skip(1);
    sections
        .filter_map(|section| section.split_once('\n'))
        .collect()
}

fn findings(source: &str) -> Vec<String> {
    let parsed = parse(source);
    let (dockerfile, mistakes) = interpret(&parsed.ast);
    assert!(mistakes.is_empty(), "{source}: {mistakes:?}");
    let input = LintInput {
        build_args: &[],
        target: None,
        target_platform: "linux/amd64",
        build_platform: "linux/amd64",
        base_image: &|_, _| None,
        ignore: None,
    };
    let config = LintConfig::from_directives(&dockerfile.directives).expect("settings");
    check_own(&parsed, &dockerfile, &input, &config)
        .iter()
        .map(|finding: &Diagnostic| finding.rule.unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn every_check_is_described() {
    let sections = sections();
    for rule in RULES {
        if rule.is_own {
            assert!(
                sections.contains_key(rule.name),
                "{} has no section",
                rule.name
            );
        } else {
            assert!(
                PAGE.contains(&format!("`{}`", rule.name)),
                "{} is not named",
                rule.name
            );
        }
    }
    let own = RULES.iter().filter(|rule| rule.is_own).count();
    assert_eq!(sections.len(), own, "sections of checks that there are not");
}

#[test]
fn examples_are_what_the_page_says() {
    for (name, section) in sections() {
        let examples: Vec<&str> = section
            .split(EXAMPLE)
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .collect();
        let [bad, good] = examples.as_slice() else {
            panic!("{name} has {} examples", examples.len());
        };
        assert_eq!(findings(bad), [name], "{name}: {bad}");
        assert_eq!(findings(good), [""; 0], "{name}: {good}");
        let skip = format!("# check=skip={name}\n");
        assert!(
            section.contains(skip.trim_end()),
            "{name} says how to skip it"
        );
        assert_eq!(
            findings(&format!("{skip}{bad}")),
            [""; 0],
            "{name} is skipped"
        );
    }
}

#[test]
fn few_false_alarms() {
    for source in [
        "FROM a\nRUN [\"awk\", \"{print $1}\"]\n",
        "FROM a\nENV X=1\nRUN [\"tini\", \"--\", \"bash\", \"-c\", \"echo $X\"]\n",
        "FROM a\nRUN yes | apt-get install x\n",
        "FROM a\nRUN apt-get $FLAGS install x\n",
        "FROM a\nRUN echo 'APT::Get::Assume-Yes \"true\";' > /etc/apt/apt.conf.d/90 && apt-get install x\n",
        "FROM a\nRUN echo \"apt-get install x\"\n",
        "FROM a AS build\nRUN apt-get update\nFROM b\nCOPY --from=build /x /x\n",
        "FROM a\nRUN --mount=type=cache,target=/var/lib/apt,sharing=locked apt-get update\n",
        "FROM a\nCOPY x /app/x\nRUN chown www-data /app\n",
        "FROM a\nCOPY x /app/x\nRUN chown -R www-data /srv\n",
        "FROM a\nENV HOMEPAGE=https://user@example.org/\nARG URL=https://example.org:80/\n",
        "FROM a\nARG PASSWORD=postgres://u:p@db/x\n",
        "FROM a\nCOPY go.mod .\nRUN go mod download\nCOPY . .\nRUN go mod download\n",
        "FROM a\nCOPY --from=x . .\nRUN npm ci\n",
        "FROM a\nCOPY . .\nRUN npm run build\n",
        "FROM a\nRUN cat <<EOF > /setup\napt-get install x\nEOF\n",
        "FROM a\nRUN <<EOF\n#!/usr/bin/env python3\napt-get install x\nEOF\n",
    ] {
        assert_eq!(findings(source), [""; 0], "{source}");
    }
}

#[test]
fn scripts_are_looked_into() {
    for source in [
        "FROM a\nRUN <<EOF\nset -e\napt-get install x\nEOF\n",
        "FROM a\nRUN bash -e <<EOF\napt-get install x\nEOF\n",
        "FROM a\nRUN <<EOF\n#!/bin/bash\napt-get install x\nEOF\n",
        "FROM a\nRUN [\"sh\", \"-c\", \"apt-get install x\"]\n",
        "FROM a\nRUN if true; then sudo apt-get install x; fi\n",
    ] {
        assert_eq!(findings(source), ["AptWithoutYes"], "{source}");
    }
}

#[test]
fn comments_skip_checks_of_one_instruction() {
    let source = "FROM a\n# check=skip=AptWithoutYes\nRUN apt install x && \\\n  apt install y\nRUN apt install z\n";
    assert_eq!(findings(source), ["AptWithoutYes"]);
}
