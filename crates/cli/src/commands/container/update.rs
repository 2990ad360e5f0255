//! `wharf update`.

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::commands::container::flags::limits::LimitFlags;
use crate::commands::targets;
use crate::error::{CliError, Result};
use crate::http::{Request, path_part};
use crate::options::misc;
use crate::session::Session;

/// Change the limits of containers
#[derive(Debug, Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    limits: LimitFlags,
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Updated {
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

/// Runs `wharf update`.
pub async fn update_command(session: &mut Session, args: UpdateArgs) -> Result<()> {
    let body = args.body()?;
    if body.is_empty() {
        return Err(CliError::usage(
            "you must provide one or more flags when using this command",
        ));
    }
    if let Some(warning) = args.limits.warning() {
        session.output.talk(&format!("WARNING: {warning}"));
    }
    let body = Json::Object(body);
    targets::for_each(session, &args.containers, async |session, name| {
        let request = Request::post(format!("/containers/{}/update", path_part(name))).json(&body);
        let updated: Updated = session.client.send(request).await?.json().await?;
        for warning in updated.warnings.unwrap_or_default() {
            session.output.talk(&warning);
        }
        Ok(Some(name.to_owned()))
    })
    .await
}

impl UpdateArgs {
    fn body(&self) -> Result<Map<String, Json>> {
        let mut body = Map::new();
        self.limits.put(&mut body)?;
        if let Some(policy) = &self.limits.restart {
            body.insert("RestartPolicy".into(), misc::restart_policy(policy)?);
        }
        Ok(body)
    }
}
