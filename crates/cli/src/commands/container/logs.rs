//! `wharf logs` (engine-api.md §11).

use clap::Args;

use crate::commands::container::state;
use crate::error::Result;
use crate::http::{Request, path_part};
use crate::session::Session;
use crate::stdcopy::Demultiplexer;
use crate::{moment, streams};

/// Show a container's log
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Show the details that the logging driver keeps
    #[arg(long)]
    details: bool,
    /// Go on showing what is written
    #[arg(short = 'f', long)]
    follow: bool,
    /// Show lines since a time, or a duration before now
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Number of lines to show from the end, or "all"
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    tail: String,
    /// Show the time of each line
    #[arg(short = 't', long)]
    timestamps: bool,
    /// Show lines before a time, or a duration before now
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Container
    container: String,
}

/// Runs `wharf logs`.
pub async fn logs_command(session: &mut Session, args: LogsArgs) -> Result<()> {
    let container = state::inspect(&session.client, &args.container).await?;
    let request = Request::get(format!("/containers/{}/logs", path_part(&container.id)))
        .query("stdout", "1")
        .query("stderr", "1")
        .query_flag("follow", args.follow)
        .query_flag("timestamps", args.timestamps)
        .query_flag("details", args.details)
        .query("tail", &args.tail)
        .query_if(
            "since",
            args.since.as_deref().map(moment::to_query).transpose()?,
        )
        .query_if(
            "until",
            args.until.as_deref().map(moment::to_query).transpose()?,
        );
    let mut response = session.client.send(request).await?;
    let mut demultiplexer = Demultiplexer::default();
    while let Some(chunk) = response.chunk().await? {
        streams::show(
            &chunk,
            container.config.tty,
            &mut demultiplexer,
            &mut session.output,
        )?;
    }
    Ok(())
}
