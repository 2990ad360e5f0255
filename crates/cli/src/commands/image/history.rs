//! `wharf history`.

use clap::Args;
use serde::Deserialize;

use crate::commands::image::names::platform_json;
use crate::error::Result;
use crate::http::{Client, Request, path_part};
use crate::render::list::{Layout, Row};
use crate::render::text::{ellipsis, local_time, time_ago};
use crate::session::Session;
use crate::units::human_size_short;

const CREATED_BY_WIDTH: usize = 45;

/// Show how an image was made
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Print with a template, "table TEMPLATE" or "json"
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print sizes and dates for people
    #[arg(short = 'H', long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    human: bool,
    /// Do not cut values short
    #[arg(long)]
    no_trunc: bool,
    /// Platform, such as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Print only ids
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Image
    image: String,
}

/// One item of `GET /images/{name}/history`, the newest first.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HistoryItem {
    id: String,
    created: i64,
    pub(crate) created_by: String,
    pub(crate) size: i64,
    comment: String,
}

/// Asks for an image's history.
pub async fn fetch(
    client: &Client,
    image: &str,
    platform: Option<&str>,
) -> Result<Vec<HistoryItem>> {
    let request = Request::get(format!("/images/{}/history", path_part(image)))
        .query_if("platform", platform.map(platform_json).transpose()?);
    client.send(request).await?.json().await
}

/// Runs `wharf history`.
pub async fn history_command(session: &mut Session, args: HistoryArgs) -> Result<()> {
    let items = fetch(&session.client, &args.image, args.platform.as_deref()).await?;
    let rows: Vec<Row> = items
        .iter()
        .map(|item| item.row(args.human, args.no_trunc))
        .collect();
    let created = if args.human {
        "{{.CreatedSince}}"
    } else {
        "{{.CreatedAt}}"
    };
    let layout = Layout {
        type_name: "*history.historyContext",
        table: format!(
            "{{{{.ID}}}}\t{created}\t{{{{.CreatedBy}}}}\t{{{{.Size}}}}\t{{{{.Comment}}}}"
        ),
        quiet: "{{.ID}}",
        quiet_wins: false,
        raw: "",
        headings: &[
            ("ID", "IMAGE"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("CreatedBy", "CREATED BY"),
            ("Size", "SIZE"),
            ("Comment", "COMMENT"),
        ],
    };
    let text = layout.render(
        args.format.as_deref().unwrap_or_default(),
        args.quiet,
        &rows,
    )?;
    session.output.text(&text)
}

impl HistoryItem {
    fn row(&self, human: bool, no_trunc: bool) -> Row {
        let created_by = self.created_by.replace('\t', " ");
        let created_by = if no_trunc {
            created_by
        } else {
            ellipsis(&created_by, CREATED_BY_WIDTH)
        };
        let created_since = if self.created <= 0 {
            "N/A".to_owned()
        } else if human {
            time_ago(self.created)
        } else {
            local_time(self.created)
        };
        let size = if human {
            human_size_short(self.size as f64)
        } else {
            self.size.to_string()
        };
        Row::new()
            .with_id(&self.id, no_trunc)
            .with("CreatedSince", created_since)
            .with("CreatedAt", rfc3339(self.created))
            .with("CreatedBy", created_by)
            .with("Size", size)
            .with("Comment", self.comment.as_str())
    }
}

fn rfc3339(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds)
        .map(|time| time.to_string())
        .unwrap_or_default()
}
