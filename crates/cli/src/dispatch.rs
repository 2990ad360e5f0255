//! From a parsed command line to the command.

use crate::arguments::Command;
use crate::arguments::groups::{
    BuilderCommand, CacheCommand, ContainerCommand, ImageCommand, NetworkCommand, SystemCommand,
    VolumeCommand,
};
use crate::commands::container::{
    attach, copy, create, exec, lifecycle, list, logs, run, snapshot, stats, update,
};
use crate::commands::image::{archive, history, layers, list as images, names, transfer};
use crate::commands::prune::Pruned;
use crate::commands::system::{disk_usage, events, info, version};
use crate::commands::{
    absent, build, builder, context, dial, inspect, login, manifest, network, network_explain,
    plugin, prune, search, volume,
};
use crate::error::{CliError, Result};
use crate::session::Session;

/// Runs a command that talks to the daemon.
pub async fn run_command(session: &mut Session, command: Command) -> Result<()> {
    use Command as C;
    if matches!(command, C::Builder(_))
        && let Some(program) = plugin::alias_of(session, "builder")?
    {
        return plugin::become_builder(session, &program).await;
    }
    match command {
        C::Build(args) => build::build_command(session, args).await,
        C::Builder(command) => builder_command(session, command).await,
        C::Container(command) => container(session, command).await,
        C::Context(command) => context::context_command(session, command),
        C::Search(args) => search::search_command(session, args).await,
        C::Absent(command) => absent::absent_command(session, command).await,
        C::External(arguments) => plugin::run_command(session, arguments).await,
        C::Image(command) => image(session, command).await,
        C::Network(command) => network_command(session, command).await,
        C::System(command) => system(session, command).await,
        C::Manifest(command) => manifest::manifest_command(session, command).await,
        C::Volume(command) => volume_command(session, command).await,
        C::Pull(args) => transfer::pull_command(session, args).await,
        C::Push(args) => transfer::push_command(session, args).await,
        C::Images(args) => images::list_command(session, args).await,
        C::Login(args) => login::login_command(session, args).await,
        C::Logout(args) => login::logout_command(session, args).await,
        C::Version(args) => version::version_command(session, args).await,
        C::Info(args) => info::info_command(session, args).await,
        C::Events(args) => events::events_command(session, args).await,
        C::History(args) => history::history_command(session, args).await,
        C::Import(args) => archive::import_command(session, args).await,
        C::Inspect(args) => inspect::inspect_command(session, args).await,
        C::Load(args) => archive::load_command(session, args).await,
        C::Rmi(args) => names::remove_command(session, args).await,
        C::Save(args) => archive::save_command(session, args).await,
        C::Tag(args) => names::tag_command(session, args).await,
        other => match short_form(other) {
            Some(command) => container(session, command).await,
            None => Err(CliError::usage("this command does not talk to a daemon")),
        },
    }
}

async fn builder_command(session: &mut Session, command: BuilderCommand) -> Result<()> {
    use BuilderCommand as B;
    use CacheCommand as Cache;
    match command {
        B::Build(args) => build::build_command(session, args).await,
        B::Prune(args) => builder::prune_command(session, args).await,
        B::Ls(args) => builder::history::list_command(session, args).await,
        B::Explain(args) => builder::history::explain_command(session, args).await,
        B::Logs(args) => builder::history::logs_command(session, args).await,
        B::Context(args) => build::context_command(session, &args),
        B::Shell(args) => builder::history::shell_command(session, args).await,
        B::Cache(Cache::Ls(args)) => builder::cache::list_command(session, args).await,
        B::Cache(Cache::Inspect(args)) => builder::cache::inspect_command(session, args).await,
        B::Cache(Cache::Export(args)) => builder::cache::export_command(session, args).await,
        B::Cache(Cache::Import(args)) => builder::cache::import_command(session, args).await,
        B::Cache(Cache::Rm(args)) => builder::cache::remove_command(session, args).await,
    }
}

/// Returns the container command that a short form stands for.
fn short_form(command: Command) -> Option<ContainerCommand> {
    use Command as C;
    use ContainerCommand as Container;
    Some(match command {
        C::Run(args) => Container::Run(args),
        C::Exec(args) => Container::Exec(args),
        C::Ps(args) => Container::Ls(args),
        C::Attach(args) => Container::Attach(args),
        C::Commit(args) => Container::Commit(args),
        C::Cp(args) => Container::Cp(args),
        C::Create(args) => Container::Create(args),
        C::Diff(args) => Container::Diff(args),
        C::Export(args) => Container::Export(args),
        C::Kill(args) => Container::Kill(args),
        C::Logs(args) => Container::Logs(args),
        C::Pause(args) => Container::Pause(args),
        C::Port(args) => Container::Port(args),
        C::Rename(args) => Container::Rename(args),
        C::Restart(args) => Container::Restart(args),
        C::Rm(args) => Container::Rm(args),
        C::Start(args) => Container::Start(args),
        C::Stats(args) => Container::Stats(args),
        C::Stop(args) => Container::Stop(args),
        C::Top(args) => Container::Top(args),
        C::Unpause(args) => Container::Unpause(args),
        C::Update(args) => Container::Update(args),
        C::Wait(args) => Container::Wait(args),
        _ => return None,
    })
}

async fn container(session: &mut Session, command: ContainerCommand) -> Result<()> {
    use ContainerCommand as C;
    match command {
        C::Attach(args) => attach::attach_command(session, args).await,
        C::Commit(args) => snapshot::commit_command(session, args).await,
        C::Cp(args) => copy::copy_command(session, args).await,
        C::Create(args) => create::create_command(session, args).await,
        C::Diff(args) => snapshot::diff_command(session, args).await,
        C::Exec(args) => exec::exec_command(session, args).await,
        C::Export(args) => snapshot::export_command(session, args).await,
        C::Inspect(args) => inspect::container_command(session, args).await,
        C::Kill(args) => lifecycle::kill_command(session, args).await,
        C::Logs(args) => logs::logs_command(session, args).await,
        C::Ls(args) => list::list_command(session, args).await,
        C::Pause(args) => lifecycle::pause_command(session, args, "pause").await,
        C::Port(args) => snapshot::port_command(session, args).await,
        C::Prune(args) => prune::prune_command(session, Pruned::Containers, args, false).await,
        C::Rename(args) => lifecycle::rename_command(session, args).await,
        C::Restart(args) => lifecycle::stop_command(session, args, "restart").await,
        C::Rm(args) => lifecycle::remove_command(session, args).await,
        C::Run(args) => run::run_command(session, args).await,
        C::Start(args) => attach::start_command(session, args).await,
        C::Stats(args) => stats::stats_command(session, args).await,
        C::Stop(args) => lifecycle::stop_command(session, args, "stop").await,
        C::Top(args) => snapshot::top_command(session, args).await,
        C::Unpause(args) => lifecycle::pause_command(session, args, "unpause").await,
        C::Update(args) => update::update_command(session, args).await,
        C::Wait(args) => lifecycle::wait_command(session, args).await,
    }
}

async fn image(session: &mut Session, command: ImageCommand) -> Result<()> {
    use ImageCommand as C;
    match command {
        C::Build(args) => build::build_command(session, args).await,
        C::History(args) => history::history_command(session, args).await,
        C::Import(args) => archive::import_command(session, args).await,
        C::Inspect(args) => inspect::image_command(session, args).await,
        C::Layers(args) => layers::layers_command(session, args).await,
        C::Load(args) => archive::load_command(session, args).await,
        C::Ls(args) => images::list_command(session, args).await,
        C::Prune(args) => prune::prune_all_command(session, Pruned::Images, args).await,
        C::Pull(args) => transfer::pull_command(session, args).await,
        C::Push(args) => transfer::push_command(session, args).await,
        C::Rm(args) => names::remove_command(session, args).await,
        C::Save(args) => archive::save_command(session, args).await,
        C::Tag(args) => names::tag_command(session, args).await,
    }
}

async fn network_command(session: &mut Session, command: NetworkCommand) -> Result<()> {
    use NetworkCommand as C;
    match command {
        C::Connect(args) => network::connect_command(session, args).await,
        C::Create(args) => network::create_command(session, args).await,
        C::Disconnect(args) => network::disconnect_command(session, args).await,
        C::Explain(args) => network_explain::explain_command(session, args).await,
        C::Inspect(args) => inspect::network_command(session, args).await,
        C::Ls(args) => network::list_command(session, args).await,
        C::Prune(args) => prune::prune_command(session, Pruned::Networks, args, false).await,
        C::Rm(args) => network::remove_command(session, args).await,
    }
}

async fn system(session: &mut Session, command: SystemCommand) -> Result<()> {
    match command {
        SystemCommand::Df(args) => disk_usage::disk_usage_command(session, args).await,
        SystemCommand::DialStdio => dial::dial_command(session).await,
        SystemCommand::Events(args) => events::events_command(session, args).await,
        SystemCommand::Info(args) => info::info_command(session, args).await,
        SystemCommand::Prune(args) => prune::system_command(session, args).await,
    }
}

async fn volume_command(session: &mut Session, command: VolumeCommand) -> Result<()> {
    match command {
        VolumeCommand::Create(args) => volume::create_command(session, *args).await,
        VolumeCommand::Inspect(args) => inspect::volume_command(session, args).await,
        VolumeCommand::Ls(args) => volume::list_command(session, args).await,
        VolumeCommand::Prune(args) => {
            prune::prune_all_command(session, Pruned::Volumes, args).await
        }
        VolumeCommand::Rm(args) => volume::remove_command(session, args).await,
        VolumeCommand::Update(args) => volume::update_command(session, args).await,
    }
}
