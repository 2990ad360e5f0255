//! The command line as a whole: which commands there are, under which names.

pub mod groups;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::arguments::groups::{
    BuilderCommand, ContainerCommand, ImageCommand, NetworkCommand, SystemCommand, VolumeCommand,
};
use crate::commands::absent::{AbsentCommand, AnyArgs};
use crate::commands::build::BuildArgs;
use crate::commands::container::{
    attach, copy, create, exec, lifecycle, list, logs, run, snapshot, stats, update,
};
use crate::commands::context::ContextCommand;
use crate::commands::image::{archive, history, list as images, names, transfer};
use crate::commands::manifest::ManifestCommand;
use crate::commands::system::{events, info, version};
use crate::commands::{inspect, login, search};
use crate::daemon_arguments::DaemonArgs;
use crate::options::misc::go_boolean;

/// Build images and run containers
#[derive(Debug, Parser)]
#[command(
    name = "wharf",
    version,
    disable_version_flag = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Arguments {
    /// Daemon to talk to (unix:///PATH, tcp://HOST:PORT, ssh://USER@HOST)
    #[arg(short = 'H', long, value_name = "URL")]
    pub host: Option<String>,
    /// Context that says which daemon to talk to
    #[arg(short = 'c', long, value_name = "NAME")]
    pub context: Option<String>,
    /// Directory of the client's configuration
    #[arg(long, value_name = "DIRECTORY")]
    pub config: Option<PathBuf>,
    /// Tell about each request to the daemon
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Least level to tell about: debug, info, warn, error or fatal
    #[arg(short = 'l', long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Use TLS (implied by --tlsverify)
    #[arg(long)]
    pub tls: bool,
    /// Trust certificates of this authority only
    #[arg(long = "tlscacert", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Certificate to show the daemon
    #[arg(long = "tlscert", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long = "tlskey", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Use TLS and check the daemon's certificate
    #[arg(long = "tlsverify")]
    pub tls_verify: bool,
    /// Print the version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    pub version: Option<bool>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// All commands.
#[derive(Debug, Subcommand)]
#[allow(
    clippy::large_enum_variant,
    reason = "one value exists, for the time of one match"
)]
#[allow(missing_docs, reason = "the arguments' types document each command")]
pub enum Command {
    Run(run::RunArgs),
    Exec(exec::ExecArgs),
    Ps(list::ListArgs),
    Build(BuildArgs),
    Pull(transfer::PullArgs),
    Push(transfer::PushArgs),
    Images(images::ListArgs),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
    Version(version::VersionArgs),
    Info(info::InfoArgs),
    /// Work with build cache
    #[command(subcommand)]
    Builder(BuilderCommand),
    /// Work with containers
    #[command(subcommand)]
    Container(ContainerCommand),
    /// Work with contexts: named daemons
    #[command(subcommand)]
    Context(ContextCommand),
    /// Work with images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Work with networks
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Work with the daemon
    #[command(subcommand)]
    System(SystemCommand),
    /// Work with volumes
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Work with manifests and lists of them
    #[command(subcommand)]
    Manifest(ManifestCommand),
    Attach(attach::AttachArgs),
    Commit(snapshot::CommitArgs),
    Cp(copy::CopyArgs),
    Create(create::CreateArgs),
    Diff(snapshot::DiffArgs),
    Events(events::EventsArgs),
    Export(snapshot::ExportArgs),
    History(history::HistoryArgs),
    Import(archive::ImportArgs),
    Inspect(inspect::InspectArgs),
    Kill(lifecycle::KillArgs),
    Load(archive::LoadArgs),
    Logs(logs::LogsArgs),
    /// Freeze the processes of containers
    Pause(lifecycle::ContainersArgs),
    Port(snapshot::PortArgs),
    Rename(lifecycle::RenameArgs),
    /// Restart containers
    Restart(lifecycle::StopArgs),
    Rm(lifecycle::RemoveArgs),
    Rmi(names::RemoveArgs),
    Save(archive::SaveArgs),
    Search(search::SearchArgs),
    Start(attach::StartArgs),
    Stats(stats::StatsArgs),
    Stop(lifecycle::StopArgs),
    Tag(names::TagArgs),
    Top(snapshot::TopArgs),
    /// Let the frozen processes of containers go on
    Unpause(lifecycle::ContainersArgs),
    Update(update::UpdateArgs),
    /// Wait until containers stop, and print their exit statuses
    Wait(lifecycle::ContainersArgs),
    Daemon(DaemonArgs),
    #[command(flatten)]
    Absent(AbsentCommand),
    /// Print a shell's completion script
    Completion {
        /// Shell
        shell: Shell,
    },
    /// What may stand at the end of a command line, for the scripts of shells
    #[command(name = "__complete", hide = true)]
    Complete(AnyArgs),
    /// The same without descriptions
    #[command(name = "__completeNoDesc", hide = true)]
    CompleteNames(AnyArgs),
    /// A plugin's command, or none that exists.
    #[command(external_subcommand)]
    External(Vec<OsString>),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// Directory
        directory: PathBuf,
    },
}

/// Returns the definition of the whole command line.
///
/// Help, manual pages and completions all come from it. Beyond what the types say, docker's conventions hold: a flag
/// given twice keeps its last value, and a flag that takes a value takes the next argument whatever it looks like.
#[must_use]
pub fn command() -> clap::Command {
    let mut whole = docker_conventions(Arguments::command());
    // The one type of `inspect` is called after what each group is about.
    for (group, value) in [
        ("container", "CONTAINER"),
        ("image", "IMAGE"),
        ("network", "NETWORK"),
        ("volume", "VOLUME"),
    ] {
        whole = whole.mut_subcommand(group, |group| {
            group.mut_subcommand("inspect", |inspect| {
                inspect.mut_arg("names", |names| names.value_name(value))
            })
        });
    }
    whole
}

/// Returns the definition for parsing `arguments`, in which switches take `=true` and `=false` if any argument has it.
pub(crate) fn command_for(arguments: &[OsString]) -> clap::Command {
    let gives_value = arguments.iter().any(|argument| {
        argument
            .to_str()
            .is_some_and(|text| text.starts_with('-') && text.contains('='))
    });
    if gives_value {
        switches_with_values(command())
    } else {
        command()
    }
}

fn docker_conventions(command: clap::Command) -> clap::Command {
    let order = flag_order(&command);
    command
        .args_override_self(true)
        .mut_args(|argument| {
            let place = argument.get_long().and_then(|long| order.get(long));
            let argument = match place {
                Some(place) => argument.display_order(*place),
                None => argument,
            };
            let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
            let is_flag = argument.get_short().is_some() || argument.get_long().is_some();
            let optional_value = argument.is_require_equals_set();
            if takes_value && is_flag && !optional_value {
                argument.allow_hyphen_values(true)
            } else {
                argument
            }
        })
        .mut_subcommands(docker_conventions)
}

/// Returns the places of a command's flags in its help: by their names, whatever piece of the definition has them.
fn flag_order(command: &clap::Command) -> BTreeMap<String, usize> {
    let mut names: Vec<&str> = command.get_arguments().filter_map(Arg::get_long).collect();
    names.sort_unstable();
    let places = names.into_iter().map(str::to_owned).zip(1..);
    places.collect()
}

fn switches_with_values(command: clap::Command) -> clap::Command {
    command
        .mut_args(switch_with_value)
        .mut_subcommands(switches_with_values)
}

fn switch_with_value(argument: Arg) -> Arg {
    if argument.is_require_equals_set() {
        return argument.value_parser(go_boolean);
    }
    if !matches!(argument.get_action(), ArgAction::SetTrue) {
        return argument;
    }
    argument
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .value_parser(go_boolean)
        .default_value("false")
        .default_missing_value("true")
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
        let matches = command_for(&arguments).try_get_matches_from(arguments)?;
        Arguments::from_arg_matches(&matches)
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
        switches_with_values(command()).debug_assert();
    }

    /// Asks a command and all below it for help.
    fn ask_for_help(command: &clap::Command, words: &[&str]) {
        let line = [words, &["--help"]].concat();
        let kind = parse(&line).unwrap_err().kind();
        assert_eq!(kind, clap::error::ErrorKind::DisplayHelp, "{line:?}");
        // What wharf does not have takes any flag and says so.
        for below in command.get_subcommands().filter(|it| !it.is_hide_set()) {
            ask_for_help(below, &[words, &[below.get_name()]].concat());
        }
    }

    #[test]
    fn every_command_has_help() {
        ask_for_help(&command(), &["wharf"]);
        assert!(parse(&["wharf", "swarm", "--help"]).is_ok());
    }

    #[test]
    fn arguments_after_the_image_are_the_commands_own() {
        for line in [
            &["wharf", "run", "-it", "--rm", "busybox", "ls", "-l", "--rm"][..],
            &["wharf", "run", "-itd", "busybox", "-l", "--", "-x"],
            &[
                "wharf",
                "run",
                "--rm=false",
                "-i=true",
                "--name",
                "a",
                "--name",
                "b",
                "busybox",
                "--rm=true",
            ],
            &[
                "wharf",
                "run",
                "-h",
                "host",
                "--memory-swap",
                "-1",
                "-e",
                "-X",
                "busybox",
            ],
            &["wharf", "container", "run", "--sig-proxy=false", "busybox"],
            &["wharf", "exec", "-it", "web", "sh", "-c", "echo -n"],
            &["wharf", "top", "web", "-o", "pid"],
            &["wharf", "-H", "unix:///x", "ps", "-aq"],
            &["wharf", "stop", "-t", "-1", "a"],
            &["wharf", "image", "layers", "a", "b"],
            &["wharf", "ps", "-n", "-1"],
            &["wharf", "ps", "--no-trunc=false", "--filter", "label=a=b"],
        ] {
            let parsed = parse(line);
            assert!(parsed.is_ok(), "{line:?}: {}", parsed.unwrap_err());
        }
        let Command::Run(arguments) = parse(&["wharf", "run", "busybox", "ls", "-d"])
            .unwrap()
            .command
        else {
            unreachable!()
        };
        assert!(format!("{arguments:?}").contains(r#"["busybox", "ls", "-d"]"#));
    }

    #[test]
    fn the_version_has_docker_s_flags() {
        for flag in ["-v", "--version"] {
            let error = parse(&["wharf", flag]).unwrap_err();
            assert_eq!(error.kind(), clap::error::ErrorKind::DisplayVersion);
        }
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        for line in [
            &["wharf", "run", "--nope", "4m", "busybox"][..],
            &["wharf", "ps", "--nope"],
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
