//! Instructions with their fields.

use serde_json::{Map, Value, json};
use wharf_dockerfile::{
    Diagnostic, Dockerfile, Instruction, InstructionKind, Stage, instruction, lint as checks, load,
    parse as parse_text,
};

use super::verdict;
use crate::areas::text;
use crate::{Document, Vector, Verdict};

/// Checks the instructions of a Dockerfile and their fields.
pub(in crate::areas) fn instructions(vector: &Vector, _: &Document) -> Verdict {
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
