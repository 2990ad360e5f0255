//! Commands below a word for what they work on: `wharf container …`, `wharf image …`.

use clap::Subcommand;

use crate::commands::build::{BuildArgs, ContextListArgs};
use crate::commands::builder::{PruneCacheArgs, cache as build_cache, history as build_history};
use crate::commands::container::{
    attach, copy, create, exec, lifecycle, list, logs, run, snapshot, stats, update,
};
use crate::commands::image::{archive, history, layers, list as images, names, transfer};
use crate::commands::system::{disk_usage, events, info};
use crate::commands::{inspect, network, network_explain, prune, volume};

/// `wharf builder …`.
#[derive(Debug, Subcommand)]
#[allow(
    clippy::large_enum_variant,
    reason = "one value exists, for the time of one match"
)]
#[allow(missing_docs, reason = "the arguments' types document each command")]
pub enum BuilderCommand {
    Build(BuildArgs),
    Prune(PruneCacheArgs),
    Ls(build_history::ListArgs),
    Explain(build_history::ExplainArgs),
    Logs(build_history::LogsArgs),
    Shell(build_history::ShellArgs),
    Context(ContextListArgs),
    /// Work with cache mounts
    #[command(subcommand)]
    Cache(CacheCommand),
}

/// `wharf builder cache …`.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the arguments' types document each command")]
pub enum CacheCommand {
    Ls(build_cache::ListArgs),
    Inspect(build_cache::InspectArgs),
    Export(build_cache::ExportArgs),
    Import(build_cache::ImportArgs),
    Rm(build_cache::RemoveArgs),
}

/// `wharf container …`.
#[derive(Debug, Subcommand)]
#[allow(
    clippy::large_enum_variant,
    reason = "one value exists, for the time of one match"
)]
#[allow(missing_docs, reason = "the arguments' types document each command")]
pub enum ContainerCommand {
    Attach(attach::AttachArgs),
    Commit(snapshot::CommitArgs),
    Cp(copy::CopyArgs),
    Create(create::CreateArgs),
    Diff(snapshot::DiffArgs),
    Exec(exec::ExecArgs),
    Export(snapshot::ExportArgs),
    /// Show everything about containers
    Inspect(inspect::ContainerArgs),
    Kill(lifecycle::KillArgs),
    Logs(logs::LogsArgs),
    #[command(visible_aliases = ["list", "ps"])]
    Ls(list::ListArgs),
    /// Freeze the processes of containers
    Pause(lifecycle::ContainersArgs),
    Port(snapshot::PortArgs),
    /// Remove stopped containers
    Prune(prune::PruneArgs),
    Rename(lifecycle::RenameArgs),
    /// Restart containers
    Restart(lifecycle::StopArgs),
    #[command(visible_alias = "remove")]
    Rm(lifecycle::RemoveArgs),
    Run(run::RunArgs),
    Start(attach::StartArgs),
    Stats(stats::StatsArgs),
    Stop(lifecycle::StopArgs),
    Top(snapshot::TopArgs),
    /// Let the frozen processes of containers go on
    Unpause(lifecycle::ContainersArgs),
    Update(update::UpdateArgs),
    /// Wait until containers stop, and print their exit statuses
    Wait(lifecycle::ContainersArgs),
}

/// `wharf image …`.
#[derive(Debug, Subcommand)]
#[allow(
    clippy::large_enum_variant,
    reason = "one value exists, for the time of one match"
)]
#[allow(missing_docs, reason = "the arguments' types document each command")]
pub enum ImageCommand {
    Build(BuildArgs),
    History(history::HistoryArgs),
    Import(archive::ImportArgs),
    /// Show everything about images
    Inspect(inspect::ImageArgs),
    Layers(layers::LayersArgs),
    Load(archive::LoadArgs),
    #[command(visible_alias = "list")]
    Ls(images::ListArgs),
    /// Remove unused images
    Prune(prune::PruneAllArgs),
    Pull(transfer::PullArgs),
    Push(transfer::PushArgs),
    #[command(visible_alias = "remove")]
    Rm(names::RemoveArgs),
    Save(archive::SaveArgs),
    Tag(names::TagArgs),
}

/// `wharf network …`.
#[derive(Debug, Subcommand)]
#[allow(
    clippy::large_enum_variant,
    reason = "one value exists, for the time of one match"
)]
#[allow(missing_docs, reason = "the arguments' types document each command")]
pub enum NetworkCommand {
    Connect(network::ConnectArgs),
    Create(network::CreateArgs),
    Disconnect(network::DisconnectArgs),
    Explain(network_explain::ExplainArgs),
    /// Show everything about networks
    Inspect(inspect::NetworkArgs),
    #[command(visible_alias = "list")]
    Ls(network::ListArgs),
    /// Remove unused networks
    Prune(prune::PruneArgs),
    #[command(visible_alias = "remove")]
    Rm(network::RemoveArgs),
}

/// `wharf system …`.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the arguments' types document each command")]
pub enum SystemCommand {
    Df(disk_usage::DiskUsageArgs),
    /// Connect standard input and output with the daemon
    #[command(hide = true)]
    DialStdio,
    Events(events::EventsArgs),
    Info(info::InfoArgs),
    Prune(prune::SystemPruneArgs),
}

/// `wharf volume …`.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the arguments' types document each command")]
pub enum VolumeCommand {
    Create(Box<volume::CreateArgs>),
    /// Show everything about volumes
    Inspect(inspect::KindArgs),
    #[command(visible_alias = "list")]
    Ls(volume::ListArgs),
    /// Remove unused anonymous volumes
    Prune(prune::PruneAllArgs),
    #[command(visible_alias = "remove")]
    Rm(volume::RemoveArgs),
    /// Update a volume (of a cluster only)
    Update(volume::UpdateArgs),
}
