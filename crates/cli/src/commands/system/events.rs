//! `wharf events` (engine-api.md §9).

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value as Json;

use crate::error::{CliError, Result};
use crate::http::Request;
use crate::moment;
use crate::options::filter;
use crate::progress::Lines;
use crate::render::template::{Missing, Template};
use crate::session::Session;

/// Show what happens in the daemon, as it happens
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Show events that match (such as type=container, event=die)
    #[arg(short = 'f', long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Print with a template, or "json"
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show events since a time, or a duration before now
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End at a time, or a duration before now
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// Runs `wharf events`.
pub async fn events_command(session: &mut Session, args: EventsArgs) -> Result<()> {
    let template = match args.format.as_deref() {
        None | Some("") => None,
        Some("json") => Some(Template::parse("{{json .}}")?),
        Some(source) => Some(Template::parse(source)?),
    };
    let request = Request::get("/events")
        .query_if(
            "since",
            args.since.as_deref().map(moment::to_query).transpose()?,
        )
        .query_if(
            "until",
            args.until.as_deref().map(moment::to_query).transpose()?,
        )
        .query_if("filters", filter::query(&args.filter)?);
    let mut response = session.client.send(request).await?;
    let mut lines = Lines::default();
    while let Some(chunk) = response.chunk().await? {
        for line in lines.push(&chunk)? {
            let event: Json = serde_json::from_slice(&line).map_err(|source| CliError::Decode {
                request: "GET /events".into(),
                source,
            })?;
            let text = match &template {
                Some(template) => {
                    template.execute_json(&event, "events.Message", Missing::HasNoValue)?
                }
                None => pretty(&event, TimeZone::system()),
            };
            session.output.line(&text)?;
        }
    }
    Ok(())
}

/// Returns docker's line of an event: time, type, action, id, attributes in order of their names.
fn pretty(event: &Json, zone: TimeZone) -> String {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let nanoseconds = event["timeNano"].as_i64().unwrap_or(0);
    let time = Timestamp::from_nanosecond(i128::from(nanoseconds))
        .map(|time| {
            time.to_zoned_datetime(zone)
                .strftime("%Y-%m-%dT%H:%M:%S%.9f%:z")
                .to_string()
        })
        .unwrap_or_default();
    let attributes: BTreeMap<String, String> =
        serde_json::from_value(event["Actor"]["Attributes"].clone()).unwrap_or_default();
    let mut line = format!(
        "{time} {} {} {}",
        text(&event["Type"]),
        text(&event["Action"]),
        text(&event["Actor"]["ID"])
    );
    if !attributes.is_empty() {
        let pairs: Vec<String> = attributes
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        line.push_str(&format!(" ({})", pairs.join(", ")));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = serde_json::json!({
            "Type": "container", "Action": "die", "timeNano": 1_700_000_000_000_000_001_i64,
            "Actor": {"ID": "abc", "Attributes": {"name": "web", "exitCode": "0"}},
        });
        assert_eq!(
            pretty(&event, TimeZone::UTC),
            "2023-11-14T22:13:20.000000001+00:00 container die abc (exitCode=0, name=web)"
        );
    }
}
