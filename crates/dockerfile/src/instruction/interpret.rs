//! From the tree to typed instructions.

use std::ops::Range;

use crate::ast::{Ast, Node};
use crate::diagnostic::{Diagnostic, Phase};
use crate::error::Error;
use crate::instruction::flags::{FlagKind, FlagSpec, Flags};
use crate::instruction::{
    Dockerfile, From, Instruction, InstructionKind, KEYWORDS, Stage, Unreadable, copy, healthcheck,
    pairs, run,
};
use crate::parser::parse;
use crate::suggest::nearest;

const FROM: &str = "FROM";
/// Shorter words are near to too many keywords.
const MIN_TYPO_CHARS: usize = 4;

/// Gives each node of a tree its meaning and groups the instructions in stages.
///
/// Errors are returned (those of the syntax were by the parser). What is in error keeps its place: instructions as
/// [`InstructionKind::Unreadable`], stages with [`Stage::is_unreadable`].
pub fn interpret(ast: &Ast) -> (Dockerfile, Vec<Diagnostic>) {
    let mut dockerfile = Dockerfile {
        directives: ast.directives.clone(),
        has_gap: ast.has_gap,
        ..Dockerfile::default()
    };
    let mut diagnostics = Vec::new();
    for node in &ast.nodes {
        let read = if node.is_broken {
            None
        } else {
            match instruction(node) {
                Ok(instruction) => Some(instruction),
                Err(problem) => {
                    diagnostics.extend(problem.diagnostics(Phase::Instruction, node));
                    None
                }
            }
        };
        match read {
            Some(instruction) => {
                if let Err(problem) = place(&mut dockerfile, instruction, node) {
                    // Where a stage is missing nobody knows what it was.
                    dockerfile.has_gap = true;
                    diagnostics.extend(problem.diagnostics(Phase::File, node));
                }
            }
            None => place_unreadable(&mut dockerfile, node),
        }
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
            Err(problem) => errors.extend(problem.diagnostics(Phase::Instruction, node)),
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
    /// What else is wrong in the same instruction.
    others: Vec<Problem>,
}

impl std::convert::From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self {
            error,
            help: None,
            span: None,
            others: Vec::new(),
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

    /// Returns all values, or all that is wrong as one problem: the first with the others.
    pub fn collect<T>(results: impl Iterator<Item = Result<T, Self>>) -> Result<Vec<T>, Self> {
        let (mut values, mut problems) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok(value) => values.push(value),
                Err(problem) => problems.push(problem),
            }
        }
        let mut problems = problems.into_iter();
        match problems.next() {
            None => Ok(values),
            Some(mut first) => {
                first.others.extend(problems);
                Err(first)
            }
        }
    }

    fn diagnostics(self, phase: Phase, node: &Node) -> Vec<Diagnostic> {
        let lines = node.location.start_line..=node.location.end_line;
        let span = self.span.unwrap_or_else(|| node.keyword.span.clone());
        let mut diagnostic = Diagnostic::error(phase, &self.error, span, lines);
        diagnostic.help = self.help.map(str::to_owned);
        let others = self.others.into_iter();
        let mut all = vec![diagnostic];
        all.extend(others.flat_map(|other| other.diagnostics(phase, node)));
        all
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
                is_unreadable: false,
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

/// Keeps the place of what could not be read.
fn place_unreadable(dockerfile: &mut Dockerfile, node: &Node) {
    let meant = meant(&node.keyword.text);
    let instruction = Instruction {
        kind: InstructionKind::Unreadable(Unreadable {
            meant,
            from: sources_of(node),
        }),
        keyword: node.keyword.text.clone(),
        original: node.original.trim().to_owned(),
        location: node.location.clone(),
        comments: node.comments.clone(),
    };
    if meant == Some(FROM) {
        dockerfile.stages.push(Stage {
            from: From {
                image: String::new(),
                stage_name: written_name(node),
                platform: None,
            },
            original: instruction.original,
            location: instruction.location,
            description: String::new(),
            comments: instruction.comments,
            instructions: Vec::new(),
            is_unreadable: true,
        });
        return;
    }
    match dockerfile.stages.last_mut() {
        Some(stage) => stage.instructions.push(instruction),
        None => dockerfile.meta_args.push(instruction),
    }
}

/// Returns the instruction that a keyword is or was meant to be. Of short words that are near to several nobody can say.
fn meant(keyword: &str) -> Option<&'static str> {
    let known = KEYWORDS
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(keyword));
    if known.is_some() {
        return known;
    }
    let is_word = keyword.bytes().all(|byte| byte.is_ascii_alphabetic());
    let near = nearest(keyword, KEYWORDS, false);
    near.filter(|near| *near == FROM || (is_word && keyword.len() >= MIN_TYPO_CHARS))
}

/// Returns the name behind AS.
fn written_name(node: &Node) -> Option<String> {
    let mut words = node.original.split_whitespace();
    words.find(|word| word.eq_ignore_ascii_case("as"))?;
    words.next().map(str::to_lowercase)
}

/// Returns what the flags of an instruction take files from, as far as it can be told.
fn sources_of(node: &Node) -> Vec<String> {
    let flags = node
        .flags
        .iter()
        .flat_map(|flag| flag.text.trim_start_matches("--").split(','))
        .map(|part| part.strip_prefix("mount=").unwrap_or(part));
    let values = flags.filter_map(|part| part.strip_prefix("from="));
    values.map(str::to_owned).collect()
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
