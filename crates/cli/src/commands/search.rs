//! `wharf search`.

use clap::Args;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::config_file;
use crate::error::{CliError, Result};
use crate::http::Request;
use crate::options::filter;
use crate::render::list::{Layout, Row};
use crate::render::text::ellipsis;
use crate::session::Session;

/// Letters of a description in a table.
const DESCRIPTION_WIDTH: usize = 45;

/// Search a registry for images
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Show only what matches (is-official=BOOL, stars=NUMBER)
    #[arg(short = 'f', long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Print with a template, "table TEMPLATE" or "json"
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Most results to show
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u32>,
    /// Print whole descriptions
    #[arg(long)]
    no_trunc: bool,
    /// What to search for; a registry's host may stand before it
    term: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Found {
    name: String,
    description: String,
    star_count: i64,
    is_official: bool,
}

/// Runs `wharf search`.
pub async fn search_command(session: &mut Session, args: SearchArgs) -> Result<()> {
    if args.limit == Some(0) {
        return Err(CliError::usage("limit 0 is outside the range of [1, 100]"));
    }
    let filters = filter::parse(&args.filter)?;
    let registry = config_file::registry_of(&args.term)
        .unwrap_or_else(|_| config_file::DEFAULT_REGISTRY_KEY.to_owned());
    let auth = session.config()?.auth_header(&registry)?;
    let request = Request::get("/images/search")
        .query("term", &args.term)
        .query_if("limit", args.limit.map(|limit| limit.to_string()))
        .query_if(
            "filters",
            (!filters.is_empty()).then(|| Json::Object(filters).to_string()),
        )
        .header("x-registry-auth", &auth);
    let mut found: Vec<Found> = session.client.send(request).await?.json().await?;
    found.sort_by_key(|one| std::cmp::Reverse(one.star_count));
    let rows: Vec<Row> = found.iter().map(|one| row(one, args.no_trunc)).collect();
    let layout = Layout {
        type_name: "*formatter.searchContext",
        table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}".into(),
        quiet: "{{.Name}}",
        quiet_wins: false,
        raw: "",
        headings: &[
            ("Name", "NAME"),
            ("Description", "DESCRIPTION"),
            ("StarCount", "STARS"),
            ("IsOfficial", "OFFICIAL"),
        ],
    };
    let text = layout.render(args.format.as_deref().unwrap_or_default(), false, &rows)?;
    session.output.text(&text)
}

fn row(found: &Found, whole: bool) -> Row {
    let description = found.description.replace(['\n', '\r'], " ");
    Row::new()
        .with("Name", found.name.as_str())
        .with(
            "Description",
            if whole {
                description
            } else {
                ellipsis(&description, DESCRIPTION_WIDTH)
            },
        )
        .with("StarCount", found.star_count.to_string())
        .with("IsOfficial", if found.is_official { "[OK]" } else { "" })
}
