//! From the tree to typed instructions.

use std::ops::Range;

use crate::ast::{Ast, Node};
use crate::diagnostic::{Diagnostic, Phase};
use crate::error::Error;
use crate::instruction::flags::{FlagKind, FlagSpec, Flags};
use crate::instruction::{
    Dockerfile, From, Instruction, InstructionKind, KEYWORDS, Stage, copy, healthcheck, pairs, run,
};
use crate::parser::parse;
use crate::suggest::nearest;

/// Gives each node of a tree its meaning and groups the instructions in stages.
///
/// Nodes with a syntax error are left out (the parser reported them); other
/// errors are returned, and the instruction is left out.
pub fn interpret(ast: &Ast) -> (Dockerfile, Vec<Diagnostic>) {
    let mut dockerfile = Dockerfile {
        directives: ast.directives.clone(),
        ..Dockerfile::default()
    };
    let mut diagnostics = Vec::new();
    let mut has_from = false;
    for node in &ast.nodes {
        let is_from = node.keyword.text.eq_ignore_ascii_case("from");
        if node.is_broken {
            has_from |= is_from;
            continue;
        }
        match instruction(node) {
            Ok(instruction) => {
                // Behind a FROM that is in error instructions have no stage; that is no news.
                if let Err(problem) = place(&mut dockerfile, instruction, node)
                    && !has_from
                {
                    diagnostics.push(problem.diagnostic(Phase::File, node));
                }
            }
            Err(problem) => diagnostics.push(problem.diagnostic(Phase::Instruction, node)),
        }
        has_from |= is_from;
    }
    (dockerfile, diagnostics)
}

/// Parses and interprets a Dockerfile.
///
/// The first error in the list is the one the reference builder stops at:
/// syntax errors come first, then those of instructions.
pub fn load(source: &str) -> (Dockerfile, Vec<Diagnostic>) {
    let parsed = parse(source);
    let (dockerfile, errors) = interpret(&parsed.ast);
    let mut diagnostics = parsed.diagnostics;
    diagnostics.extend(errors);
    (dockerfile, diagnostics)
}

/// Reads instructions outside of a Dockerfile: ONBUILD triggers and the
/// changes of `commit` and `import`, one or more lines.
///
/// # Errors
/// All that is wrong, in order; warnings are not reported.
pub fn parse_commands(text: &str) -> Result<Vec<Instruction>, Vec<Diagnostic>> {
    let parsed = parse(text);
    let mut errors: Vec<Diagnostic> = parsed
        .diagnostics
        .into_iter()
        .filter(Diagnostic::is_error)
        .collect();
    let mut instructions = Vec::new();
    for node in parsed.ast.nodes.iter().filter(|node| !node.is_broken) {
        match instruction(node) {
            Ok(instruction) => instructions.push(instruction),
            Err(problem) => errors.push(problem.diagnostic(Phase::Instruction, node)),
        }
    }
    if errors.is_empty() {
        Ok(instructions)
    } else {
        Err(errors)
    }
}

/// An error with the place and the suggestion, on its way to a diagnostic.
#[derive(Debug)]
pub(super) struct Problem {
    pub error: Error,
    pub help: Option<&'static str>,
    span: Option<Range<usize>>,
}

impl std::convert::From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self {
            error,
            help: None,
            span: None,
        }
    }
}

impl Problem {
    /// Sets the place, unless a nearer one is known.
    pub fn at(mut self, span: Range<usize>) -> Self {
        self.span.get_or_insert(span);
        self
    }

    /// Sets the suggestion.
    pub fn help(mut self, help: Option<&'static str>) -> Self {
        self.help = help;
        self
    }

    fn diagnostic(self, phase: Phase, node: &Node) -> Diagnostic {
        let lines = node.location.start_line..=node.location.end_line;
        let span = self.span.unwrap_or_else(|| node.keyword.span.clone());
        let mut diagnostic = Diagnostic::error(phase, &self.error, span, lines);
        diagnostic.help = self.help.map(str::to_owned);
        diagnostic
    }
}

fn place(
    dockerfile: &mut Dockerfile,
    instruction: Instruction,
    node: &Node,
) -> Result<(), Problem> {
    match (instruction.kind, dockerfile.stages.last_mut()) {
        (InstructionKind::From(from), _) => {
            let name = from.stage_name.as_deref().unwrap_or_default();
            dockerfile.stages.push(Stage {
                description: pairs::description(&node.comments, name),
                comments: instruction.comments,
                from,
                original: instruction.original,
                location: instruction.location,
                instructions: Vec::new(),
            });
        }
        (kind, Some(stage)) => stage.instructions.push(Instruction {
            kind,
            ..instruction
        }),
        (kind @ InstructionKind::Arg(_), None) => {
            dockerfile.meta_args.push(Instruction {
                kind,
                ..instruction
            });
        }
        (_, None) => return Err(Error::NoBuildStage.into()),
    }
    Ok(())
}

fn instruction(node: &Node) -> Result<Instruction, Problem> {
    Ok(Instruction {
        kind: kind(node)?,
        keyword: node.keyword.text.clone(),
        original: node.original.trim().to_owned(),
        location: node.location.clone(),
        comments: node.comments.clone(),
    })
}

fn kind(node: &Node) -> Result<InstructionKind, Problem> {
    Ok(match node.keyword.text.to_lowercase().as_str() {
        "add" => InstructionKind::Add(copy::add(node)?),
        "arg" => InstructionKind::Arg(pairs::args(node)?),
        "cmd" => {
            no_flags(node)?;
            InstructionKind::Cmd(run::command_line(node))
        }
        "copy" => InstructionKind::Copy(copy::copy(node)?),
        "entrypoint" => {
            no_flags(node)?;
            InstructionKind::Entrypoint(run::command_line(node))
        }
        "env" => {
            no_flags(node)?;
            InstructionKind::Env(pairs::key_values(node, "ENV")?)
        }
        "expose" => {
            let mut ports = some_words(node, "EXPOSE")?;
            ports.sort();
            InstructionKind::Expose(ports)
        }
        "from" => InstructionKind::From(from(node)?),
        "healthcheck" => InstructionKind::Healthcheck(healthcheck::healthcheck(node)?),
        "label" => {
            no_flags(node)?;
            InstructionKind::Label(pairs::key_values(node, "LABEL")?)
        }
        "maintainer" => InstructionKind::Maintainer(one_word(node, "MAINTAINER")?),
        "onbuild" => InstructionKind::Onbuild(onbuild(node)?),
        "run" => InstructionKind::Run(run::run(node)?),
        "shell" => InstructionKind::Shell(shell(node)?),
        "stopsignal" => InstructionKind::Stopsignal(one_word(node, "STOPSIGNAL")?),
        "user" => InstructionKind::User(one_word(node, "USER")?),
        "volume" => InstructionKind::Volume(volumes(node)?),
        "workdir" => InstructionKind::Workdir(one_word(node, "WORKDIR")?),
        _ => {
            let keyword = node.keyword.text.clone();
            let help = nearest(&keyword, KEYWORDS, false);
            return Err(Problem::from(Error::UnknownInstruction { keyword }).help(help));
        }
    })
}

fn no_flags(node: &Node) -> Result<(), Problem> {
    Flags::parse(&node.flags, &[]).map(|_| ())
}

fn one_word(node: &Node, keyword: &'static str) -> Result<String, Problem> {
    let [word] = node.arguments.as_slice() else {
        return Err(Error::ExactlyOneArgument { keyword }.into());
    };
    no_flags(node)?;
    Ok(word.text.clone())
}

fn some_words(node: &Node, keyword: &'static str) -> Result<Vec<String>, Problem> {
    if node.arguments.is_empty() {
        return Err(Error::AtLeastOneArgument { keyword }.into());
    }
    no_flags(node)?;
    Ok(node
        .arguments
        .iter()
        .map(|word| word.text.clone())
        .collect())
}

fn from(node: &Node) -> Result<From, Problem> {
    const FLAGS: &[FlagSpec] = &[("platform", FlagKind::Text)];
    let (image, stage_name) = match node.arguments.as_slice() {
        [image] => (image, None),
        [image, word, name] if word.text.eq_ignore_ascii_case("as") => {
            let lower = name.text.to_lowercase();
            if !is_stage_name(&lower) {
                let error = Error::InvalidStageName {
                    name: name.text.clone(),
                };
                return Err(Problem::from(error).at(name.span.clone()));
            }
            (image, Some(lower))
        }
        _ => return Err(Error::FromArguments.into()),
    };
    let flags = Flags::parse(&node.flags, FLAGS)?;
    Ok(From {
        image: image.text.clone(),
        stage_name,
        platform: flags.text("platform"),
    })
}

fn is_stage_name(name: &str) -> bool {
    let is_tail =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(is_tail)
}

fn shell(node: &Node) -> Result<Vec<String>, Problem> {
    const KEYWORD: &str = "SHELL";
    let words = some_words(node, KEYWORD)?;
    if node.is_json {
        Ok(words)
    } else {
        Err(Error::NotJson { keyword: KEYWORD }.into())
    }
}

fn volumes(node: &Node) -> Result<Vec<String>, Problem> {
    let volumes = some_words(node, "VOLUME")?;
    let volumes: Vec<String> = volumes
        .iter()
        .map(|volume| volume.trim().to_owned())
        .collect();
    match volumes.iter().position(String::is_empty) {
        None => Ok(volumes),
        Some(index) => {
            let span = node.arguments.get(index).map(|word| word.span.clone());
            let problem = Problem::from(Error::EmptyVolume);
            Err(match span {
                Some(span) => problem.at(span),
                None => problem,
            })
        }
    }
}

fn onbuild(node: &Node) -> Result<String, Problem> {
    let Some(child) = node.child.as_deref() else {
        return Err(Error::AtLeastOneArgument { keyword: "ONBUILD" }.into());
    };
    no_flags(node)?;
    let keyword = child.keyword.text.to_uppercase();
    let error = match keyword.as_str() {
        "ONBUILD" => Error::ChainedOnbuild,
        "MAINTAINER" | "FROM" => Error::ForbiddenTrigger { keyword },
        _ => {
            let source = node.to_source();
            let keyword_length = source.trim_start().find(char::is_whitespace).unwrap_or(0);
            let rest = source
                .trim_start()
                .get(keyword_length..)
                .unwrap_or_default();
            return Ok(rest.trim_start().to_owned());
        }
    };
    Err(Problem::from(error).at(child.keyword.span.clone()))
}
