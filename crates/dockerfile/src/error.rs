//! The one error type of the room.
//!
//! Texts of [`Error`] that docker users already know (builder output, API
//! messages) are the reference builder's, so that tools matching on them keep
//! working; see spec/llb.md §6.

use crate::quote::quoted;

/// Reports what is wrong with a Dockerfile, a word to expand or an ignore file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // --- the file as a whole -------------------------------------------------
    /// The file holds no instruction at all.
    #[error("file with no instructions")]
    NoInstructions,
    /// One physical line is longer than the limit.
    #[error("dockerfile line greater than maximum allowed size of {limit_bytes}")]
    LineTooLong {
        /// The longest line accepted, in bytes.
        limit_bytes: usize,
    },
    /// The whole file is longer than the limit.
    #[error("dockerfile has {size_bytes} bytes, more than the maximum of {limit_bytes}")]
    FileTooLarge {
        /// Size found, in bytes.
        size_bytes: usize,
        /// The largest file accepted, in bytes.
        limit_bytes: usize,
    },
    /// The file has more instructions than the limit.
    #[error("dockerfile has more than the maximum of {limit} instructions")]
    TooManyInstructions {
        /// The largest number accepted.
        limit: usize,
    },
    /// The `escape` directive names something other than a backslash or a backtick.
    #[error("invalid escape token '{value}' does not match ` or \\")]
    InvalidEscapeToken {
        /// The value found.
        value: String,
    },
    /// A parser directive appears twice.
    #[error("only one {name} parser directive can be used")]
    RepeatedDirective {
        /// The directive's name in lower case.
        name: String,
    },
    /// A setting of the `check` directive that there is not.
    #[error("failed to parse check options: invalid check option {}", quoted(.option))]
    CheckOption {
        /// The setting as written.
        option: String,
    },
    /// A here-document has no line with its terminator.
    #[error("unterminated heredoc")]
    UnterminatedHeredoc,
    /// A continuation holds an empty line (a warning).
    #[error("Empty continuation line found in: {original}")]
    EmptyContinuation {
        /// The instruction with its continuations joined.
        original: String,
    },
    /// A JSON array holds something other than strings.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings,
    /// `ENV key` or `LABEL key` without a value.
    #[error("{keyword} must have two arguments")]
    MissingPairValue {
        /// `ENV` or `LABEL`.
        keyword: &'static str,
    },
    /// One word of a `key=value` list has no `=`.
    #[error("Syntax error - can't find = in {}. Must be of the form: name=value", quoted(.word))]
    MissingEquals {
        /// The word found.
        word: String,
    },

    // --- instructions --------------------------------------------------------
    /// The first word of a line is no instruction.
    #[error("unknown instruction: {keyword}")]
    UnknownInstruction {
        /// The word as written.
        keyword: String,
    },
    /// An instruction other than ARG stands before the first FROM.
    #[error("no build stage in current context")]
    NoBuildStage,
    /// The instruction needs at least one argument.
    #[error("{keyword} requires at least one argument")]
    AtLeastOneArgument {
        /// The instruction.
        keyword: &'static str,
    },
    /// The instruction needs exactly one argument.
    #[error("{keyword} requires exactly one argument")]
    ExactlyOneArgument {
        /// The instruction.
        keyword: &'static str,
    },
    /// COPY or ADD without a destination.
    #[error(
        "{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination {
        /// `COPY` or `ADD`.
        keyword: &'static str,
    },
    /// A here-document where none is possible.
    #[error("{keyword} cannot accept a heredoc as {place}")]
    MisplacedHeredoc {
        /// The instruction.
        keyword: &'static str,
        /// Where the here-document stands.
        place: &'static str,
    },
    /// An empty name in `=value`.
    #[error("{keyword} names can not be blank")]
    BlankName {
        /// The instruction.
        keyword: &'static str,
    },
    /// FROM with two or more than three arguments.
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    /// The name after AS is not usable.
    #[error(
        "invalid name for build stage: {}, name can't start with a number or contain symbols",
        quoted(.name)
    )]
    InvalidStageName {
        /// The name as written.
        name: String,
    },
    /// SHELL in shell form.
    #[error("{keyword} requires the arguments to be in JSON form")]
    NotJson {
        /// The instruction.
        keyword: &'static str,
    },
    /// An empty path in VOLUME.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// `ONBUILD ONBUILD …`.
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    ChainedOnbuild,
    /// An instruction that cannot be a trigger.
    #[error("{keyword} isn't allowed as an ONBUILD trigger")]
    ForbiddenTrigger {
        /// The instruction in upper case.
        keyword: String,
    },
    /// `HEALTHCHECK NONE` followed by something.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNoneArguments,
    /// `HEALTHCHECK CMD` without a command.
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckNoCommand,
    /// HEALTHCHECK with something other than CMD or NONE.
    #[error("Unknown type {} in HEALTHCHECK (try CMD)", quoted(.kind))]
    HealthcheckType {
        /// The word found, in upper case.
        kind: String,
    },
    /// A health check interval below the minimum.
    #[error("Interval {} cannot be less than 1ms", quoted(.flag))]
    IntervalTooShort {
        /// The flag without dashes.
        flag: String,
    },
    /// Negative `--retries`.
    #[error("--retries cannot be negative ({value})")]
    NegativeRetries {
        /// The value found.
        value: i64,
    },
    /// A number that is none, or out of range.
    #[error("strconv.ParseInt: parsing {}: {reason}", quoted(.value))]
    InvalidNumber {
        /// The text found.
        value: String,
        /// `invalid syntax` or `value out of range`.
        reason: &'static str,
    },
    /// A duration that is none.
    #[error("time: {reason}")]
    InvalidDuration {
        /// What is wrong, with the text found.
        reason: String,
    },

    // --- flags ---------------------------------------------------------------
    /// A flag that the instruction does not have.
    #[error("unknown flag: --{flag}")]
    UnknownFlag {
        /// The flag without dashes.
        flag: String,
    },
    /// A flag given twice.
    #[error("duplicate flag specified: --{flag}")]
    DuplicateFlag {
        /// The flag without dashes.
        flag: String,
    },
    /// A flag without its value.
    #[error("missing a value on flag: --{flag}")]
    MissingFlagValue {
        /// The flag without dashes.
        flag: String,
    },
    /// A boolean flag with another value.
    #[error("expecting boolean value for flag --{flag}, not: {value}")]
    FlagNotBoolean {
        /// The flag without dashes.
        flag: String,
        /// The value found.
        value: String,
    },
    /// `--network` with an unknown mode.
    #[error("invalid network mode {}", quoted(.mode))]
    InvalidNetworkMode {
        /// The value found.
        mode: String,
    },
    /// `--security` with an unknown mode.
    #[error("security {} is not valid", quoted(.mode))]
    InvalidSecurityMode {
        /// The value found.
        mode: String,
    },
    /// A `--mount` or `--device` value that cannot be understood.
    #[error("{reason}")]
    InvalidOption {
        /// What is wrong, with the text found.
        reason: String,
    },

    // --- expansion -----------------------------------------------------------
    /// A word that cannot be expanded.
    #[error("failed to process {}: {reason}", quoted(.word))]
    Expansion {
        /// The word as written.
        word: String,
        /// What is wrong.
        reason: String,
    },

    // --- ignore files --------------------------------------------------------
    /// A pattern that is not well formed.
    #[error("syntax error in pattern{}", quoted_pattern(.pattern, *.line))]
    IgnoreSyntax {
        /// The pattern as written.
        pattern: String,
        /// Its line in the ignore file, from 1; 0 if it came from no file.
        line: usize,
    },
    /// A lone `!`.
    #[error("illegal exclusion pattern: \"!\"")]
    IgnoreLoneExclusion {
        /// Its line in the ignore file, from 1; 0 if it came from no file.
        line: usize,
    },
    /// An ignore file beyond a limit.
    #[error("ignore file has {found} {what}, more than the maximum of {limit}")]
    IgnoreTooLarge {
        /// What was counted.
        what: &'static str,
        /// How many were found.
        found: usize,
        /// How many are accepted.
        limit: usize,
    },
}

/// Returns a pattern in quotes with the line it stands in, where that is known.
fn quoted_pattern(pattern: &str, line: usize) -> String {
    match line {
        0 => format!(" {pattern:?}"),
        line => format!(" {pattern:?} in line {line}"),
    }
}
