//! The Dockerfile language: the tree, instructions, checks, words and ignore files.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use wharf_dockerfile::expand::Expander;
use wharf_dockerfile::{
    Diagnostic, Dockerfile, IgnoreFile, Instruction, InstructionKind, Node, Stage, ignore,
    instruction, lint as checks, load, parse as parse_text, parse_git_url,
};

use super::{strings, text};
use crate::{Document, Vector, Verdict};

/// Compares an answer in the shape of `expected`.
fn verdict(found: &Value, expected: &Value) -> Verdict {
    let (found, expected) = (normalized(found), normalized(expected));
    if found == expected || is_failed_build(&found, &expected) {
        Ok(())
    } else {
        Err(format!("found {found}"))
    }
}

/// The reference's checks end where its build fails; here they go on, so that
/// its warnings need only be among those found.
fn is_failed_build(found: &Value, expected: &Value) -> bool {
    let list = |value: &Value| value["warnings"].as_array().cloned().unwrap_or_default();
    let found = list(found);
    expected.get("build_error").is_some()
        && list(expected).iter().all(|warning| found.contains(warning))
}

/// Drops empty members, so that an absent list equals an empty one.
fn normalized(value: &Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(key, value)| (key.clone(), normalized(value)))
                .filter(|(_, value)| !is_nothing(value))
                .collect::<BTreeMap<_, _>>()
                .into_iter()
                .collect(),
        ),
        Value::Array(items) => {
            let items: Vec<Value> = items.iter().map(normalized).collect();
            let is_warnings = items.iter().any(|item| item.get("rule").is_some());
            Value::Array(if is_warnings { sorted(items) } else { items })
        }
        other => other.clone(),
    }
}

/// Puts warnings in one order: where rules are checked in another order, nothing is wrong.
fn sorted(mut warnings: Vec<Value>) -> Vec<Value> {
    warnings.sort_by_key(Value::to_string);
    warnings
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(true) => false,
    }
}

// --- dockerfile-parse --------------------------------------------------------

pub(super) fn parse(vector: &Vector, _: &Document) -> Verdict {
    verdict(&parse_answer(&vector.input), &vector.expected)
}

fn parse_answer(input: &Value) -> Value {
    let source = text(input, "dockerfile");
    let parsed = parse_text(source);
    assert_eq!(parsed.ast.to_string(), source, "the tree prints back");
    if let Some(error) = parsed
        .diagnostics
        .iter()
        .find(|diagnostic| diagnostic.is_error())
    {
        return json!({"error": error.headline()});
    }
    let nodes: Vec<Value> = parsed
        .ast
        .nodes
        .iter()
        .map(|node| node_value(node, true))
        .collect();
    let dump: Vec<String> = parsed.ast.nodes.iter().map(dump_node).collect();
    let warnings: Vec<Value> = parsed
        .diagnostics
        .iter()
        .map(|warning| json!({"short": warning.message, "line": warning.line()}))
        .collect();
    json!({
        "escape": parsed.ast.directives.escape,
        "nodes": nodes,
        "warnings": warnings,
        "dump": dump.join("\n"),
    })
}

fn node_value(node: &Node, is_top: bool) -> Value {
    let mut arguments: Vec<Value> = node.arguments.iter().map(|word| json!(word.text)).collect();
    if is_unknown(node) {
        // The reference's tree has one empty argument for what it does not know.
        arguments.push(json!(""));
    }
    arguments.extend(
        node.child
            .iter()
            .map(|child| json!({"children": [node_value(child, false)]})),
    );
    let heredocs: Vec<Value> = node
        .heredocs
        .iter()
        .map(|heredoc| {
            json!({
                "name": heredoc.name, "fd": heredoc.file_descriptor, "expand": heredoc.expand,
                "chomp": heredoc.chomp, "content": heredoc.content,
            })
        })
        .collect();
    let flags: Vec<&str> = node.flags.iter().map(|flag| flag.text.as_str()).collect();
    let (start, end) = (node.location.start_line, node.location.end_line);
    json!({
        "value": node.keyword.text,
        "original": node.original,
        "args": arguments,
        "flags": flags,
        "heredocs": heredocs,
        "attributes": {"json": node.is_json},
        "prev_comment": node.comments,
        "start": if is_top { start } else { 0 },
        "end": if is_top { end } else { 0 },
    })
}

fn dump_node(node: &Node) -> String {
    let mut dump = format!("({}", node.keyword.text.to_lowercase());
    if !node.flags.is_empty() {
        let flags: Vec<String> = node
            .flags
            .iter()
            .map(|flag| go_quoted(&flag.text))
            .collect();
        dump.push_str(&format!(" [{}]", flags.join(" ")));
    }
    if let Some(child) = &node.child {
        dump.push_str(&format!(" {}", dump_node(child)));
    }
    if is_unknown(node) {
        dump.push_str(" \"\"");
    }
    for word in &node.arguments {
        dump.push_str(&format!(" {}", go_quoted(&word.text)));
    }
    dump + ")"
}

fn is_unknown(node: &Node) -> bool {
    !instruction::KEYWORDS.contains(&node.keyword.text.to_uppercase().as_str())
}

fn go_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\t' => quoted.push_str("\\t"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            other if other.is_control() || other == '\u{feff}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(other)));
            }
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

// --- dockerfile-instructions -------------------------------------------------

pub(super) fn instructions(vector: &Vector, _: &Document) -> Verdict {
    verdict(&instructions_answer(&vector.input), &vector.expected)
}

fn instructions_answer(input: &Value) -> Value {
    let source = text(input, "dockerfile");
    let is_error = |diagnostic: &&Diagnostic| diagnostic.is_error();
    if let Some(error) = parse_text(source).diagnostics.iter().find(is_error) {
        return json!({"parse_error": error.headline()});
    }
    let (dockerfile, diagnostics) = load(source);
    if let Some(error) = diagnostics.iter().find(is_error) {
        return json!({"error": error.headline()});
    }
    let lint: Vec<Value> = checks::check_tree(&parse_text(source).ast)
        .iter()
        .filter(|warning| {
            let rules = ["FromAsCasing", "MaintainerDeprecated", "StageNameCasing"];
            warning.rule.is_some_and(|rule| rules.contains(&rule))
        })
        .map(|warning| {
            json!({"rule": warning.rule, "message": warning.message, "line": warning.line()})
        })
        .collect();
    let Dockerfile {
        meta_args, stages, ..
    } = dockerfile;
    json!({
        "lint": lint,
        "meta_args": meta_args.iter().map(instruction_value).collect::<Vec<_>>(),
        "stages": stages.iter().map(stage_value).collect::<Vec<_>>(),
    })
}

fn stage_value(stage: &Stage) -> Value {
    json!({
        "name": stage.from.stage_name,
        "base": stage.from.image,
        "platform": stage.from.platform,
        "source": stage.original,
        "doc_comment": stage.description,
        "commands": stage.instructions.iter().map(instruction_value).collect::<Vec<_>>(),
    })
}

fn instruction_value(instruction: &Instruction) -> Value {
    json!({
        "name": instruction.keyword,
        "code": instruction.original,
        "line": instruction.location.start_line,
        "fields": fields(&instruction.kind),
    })
}

fn fields(kind: &InstructionKind) -> Value {
    let pairs = |pairs: &[instruction::KeyValue]| -> Vec<Value> {
        pairs
            .iter()
            .map(|pair| json!({"Key": pair.key, "Value": pair.value, "NoDelim": !pair.has_equals}))
            .collect()
    };
    match kind {
        InstructionKind::Add(copy) | InstructionKind::Copy(copy) => copy_fields(copy),
        InstructionKind::Arg(args) => {
            let args: Vec<Value> = args
                .iter()
                .map(|arg| json!({"Key": arg.key, "Value": arg.value, "DocComment": arg.description}))
                .collect();
            json!({"Args": args})
        }
        InstructionKind::Cmd(command) | InstructionKind::Entrypoint(command) => {
            Value::Object(command_fields(command))
        }
        InstructionKind::Env(env) => json!({"Env": pairs(env)}),
        InstructionKind::Label(labels) => json!({"Labels": pairs(labels)}),
        InstructionKind::Expose(ports) => json!({"Ports": ports}),
        InstructionKind::From(_) => json!({"unexpected": "FROM"}),
        InstructionKind::Unreadable(_) => json!({"unexpected": "a mistake"}),
        InstructionKind::Healthcheck(health) => json!({"Health": {
            "Test": health.test,
            "Interval": health.interval_ns,
            "Timeout": health.timeout_ns,
            "StartPeriod": health.start_period_ns,
            "StartInterval": health.start_interval_ns,
            "Retries": health.retries,
        }}),
        InstructionKind::Maintainer(maintainer) => json!({"Maintainer": maintainer}),
        InstructionKind::Onbuild(expression) => json!({"Expression": expression}),
        InstructionKind::Run(run) => run_fields(run),
        InstructionKind::Shell(shell) => json!({"Shell": shell}),
        InstructionKind::Stopsignal(signal) => json!({"Signal": signal}),
        InstructionKind::User(user) => json!({"User": user}),
        InstructionKind::Volume(volumes) => json!({"Volumes": volumes}),
        InstructionKind::Workdir(path) => json!({"Path": path}),
    }
}

fn copy_fields(copy: &instruction::Copy) -> Value {
    let contents: Vec<Value> = copy
        .heredocs
        .iter()
        .map(|file| json!({"Path": file.name, "Data": file.content, "Expand": file.expand}))
        .collect();
    json!({
        "SourcePaths": copy.sources,
        "SourceContents": contents,
        "DestPath": copy.destination,
        "From": copy.from,
        "Chown": copy.chown,
        "Chmod": copy.chmod,
        "Link": copy.link,
        "Parents": copy.parents,
        "ExcludePatterns": copy.exclude,
        "KeepGitDir": copy.keep_git_dir,
        "Checksum": copy.checksum,
        "Unpack": copy.unpack,
    })
}

fn command_fields(command: &instruction::CommandLine) -> Map<String, Value> {
    let files: Vec<Value> = command
        .heredocs
        .iter()
        .map(|file| json!({"Name": file.name, "Data": file.content, "Chomp": file.chomp}))
        .collect();
    let mut fields = Map::new();
    fields.insert("CmdLine".into(), json!(command.arguments));
    fields.insert("PrependShell".into(), json!(command.is_shell));
    fields.insert("Files".into(), json!(files));
    fields
}

fn run_fields(run: &instruction::Run) -> Value {
    let mut fields = command_fields(&run.command);
    let mounts: Vec<Value> = run
        .mounts
        .iter()
        .map(|mount| json!({"Type": "bind", "From": mount.from, "ReadOnly": true}))
        .collect();
    fields.insert("mounts".into(), json!(mounts));
    fields.insert("FlagsUsed".into(), json!(run.flags_used));
    let network = match run.network {
        instruction::NetworkMode::Default => "",
        instruction::NetworkMode::None => "none",
        instruction::NetworkMode::Host => "host",
    };
    let security = match run.security {
        instruction::SecurityMode::Sandbox => "",
        instruction::SecurityMode::Insecure => "insecure",
    };
    fields.insert("network".into(), json!(network));
    fields.insert("security".into(), json!(security));
    Value::Object(fields)
}

// --- shell-words ---------------------------------------------------------------

pub(super) fn shell_words(vector: &Vector, _: &Document) -> Verdict {
    verdict(&shell_words_answer(&vector.input), &vector.expected)
}

fn shell_words_answer(input: &Value) -> Value {
    let flag = |key: &str| input[key].as_bool().unwrap_or(false);
    let expander = Expander {
        escape: text(input, "escape").chars().next().unwrap_or('\\'),
        raw_quotes: flag("raw_quotes"),
        raw_escapes: flag("raw_escapes"),
        skip_unset_env: flag("skip_unset_env"),
        skip_process_quotes: flag("skip_process_quotes"),
    };
    let env: Vec<(String, String)> = strings(&input["env"])
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    match expander.expand(text(input, "word"), &env) {
        Err(error) => json!({"error": error.to_string()}),
        Ok(expansion) if text(input, "mode") == "words" => json!({"words": expansion.words}),
        Ok(expansion) => json!({
            "result": expansion.result,
            "matched": expansion.matched,
            "unmatched": expansion.unmatched,
        }),
    }
}

// --- dockerignore --------------------------------------------------------------

pub(super) fn dockerignore(vector: &Vector, _: &Document) -> Verdict {
    verdict(&dockerignore_answer(&vector.input), &vector.expected)
}

fn dockerignore_answer(input: &Value) -> Value {
    let mut found = Map::new();
    let file = match input["ignorefile"].as_str() {
        Some(content) => {
            let patterns = ignore::read_patterns(content).expect("a file within limits");
            found.insert("patterns".into(), json!(patterns));
            IgnoreFile::parse(content)
        }
        None => IgnoreFile::from_patterns(strings(&input["patterns"])),
    };
    match file {
        Err(error) => {
            found.insert("error".into(), json!(without_pattern(&error.to_string())));
        }
        Ok(file) => {
            let paths = strings(&input["paths"]);
            let matched: Result<Vec<bool>, _> = paths
                .iter()
                .map(|path| Ok(file.decide(path)?.is_ignored))
                .collect();
            match matched {
                Ok(matched) => {
                    found.insert("matched".into(), json!(matched));
                    found.insert("exclusions".into(), json!(file.has_exceptions()));
                }
                Err(error) => {
                    let error: wharf_dockerfile::Error = error;
                    found.insert("error".into(), json!(without_pattern(&error.to_string())));
                }
            }
        }
    }
    Value::Object(found)
}

/// Returns a message without the pattern that it names, where the reference names none.
fn without_pattern(message: &str) -> &str {
    const UNNAMED: &str = "syntax error in pattern";
    if message.starts_with(UNNAMED) {
        UNNAMED
    } else {
        message
    }
}

// --- dockerfile-lint -----------------------------------------------------------

pub(super) fn lint(vector: &Vector, document: &Document) -> Verdict {
    verdict(
        &lint_answer(&vector.input, &document.header),
        &vector.expected,
    )
}

fn lint_answer(input: &Value, file: &Value) -> Value {
    let source = text(input, "dockerfile");
    let parsed = parse_text(source);
    let (dockerfile, _) = wharf_dockerfile::interpret(&parsed.ast);
    let build_args: Vec<(String, String)> = input["build_args"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    let bases = &file["bases"]["STD"];
    let base_image = |name: &str, _platform: &str| {
        let name = if name.contains(':') {
            name.to_owned()
        } else {
            format!("{name}:latest")
        };
        let config = bases.get(format!("docker.io/library/{name}"))?;
        let env = strings(&config["config"]["Env"]);
        let env = env.iter().filter_map(|pair| pair.split_once('='));
        let part = |key: &str| config[key].as_str().unwrap_or_default().to_owned();
        Some(checks::BaseImage {
            platform: format!("{}/{}", part("os"), part("architecture")),
            env: env
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            has_shell: !strings(&config["config"]["Shell"]).is_empty(),
            on_build: strings(&config["config"]["OnBuild"]),
            is_unknown: false,
        })
    };
    let lint_input = checks::LintInput {
        build_args: &build_args,
        target: input["target"].as_str(),
        target_platform: input["platform"].as_str().unwrap_or("linux/amd64"),
        build_platform: "linux/amd64",
        base_image: &base_image,
        ignore: None,
    };
    let directives = &parsed.ast.directives;
    let Ok(config) = checks::LintConfig::from_directives(directives) else {
        // The reference ends here, before anything is checked.
        return json!({"warnings": []});
    };
    let warnings: Vec<Value> = checks::check(&parsed, &dockerfile, &lint_input, &config)
        .iter()
        .map(|warning| {
            let (rule, detail) = (warning.rule, warning.headline());
            json!({"rule": rule, "detail": detail, "line": warning.line()})
        })
        .collect();
    json!({"warnings": warnings})
}

// --- giturl ------------------------------------------------------------------

pub(super) fn git_url(vector: &Vector, _: &Document) -> Verdict {
    let found = match parse_git_url(text(&vector.input, "ref")) {
        Err(error) => json!({"error": error.to_string(), "is_git": error.is_git()}),
        Ok(url) => json!({"is_git": true, "ref": {
            "Remote": url.remote,
            "ShortName": url.short_name,
            "Ref": url.reference,
            "Checksum": url.checksum,
            "SubDir": url.subdirectory,
            "IndistinguishableFromLocal": url.could_be_local,
            "UnencryptedTCP": url.is_unencrypted,
            "KeepGitDir": url.keep_git_dir,
            "Submodules": url.submodules,
            "MTime": url.modified_time,
            "FetchByCommit": url.fetch_by_commit,
        }}),
    };
    verdict(&found, &vector.expected)
}
