//! `wharf version`.

use clap::Args;
use serde_json::{Value as Json, json};
use wharf_template::Shape;

use crate::error::Result;
use crate::http::API_VERSION;
use crate::render::table;
use crate::render::template::{Missing, Template};
use crate::session::Session;

/// Show the versions of the client and the daemon
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Print with a template, or "json"
    #[arg(short = 'f', long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Runs `wharf version`. Asking for a version starts no daemon; without one the client's is still shown.
pub async fn version_command(session: &mut Session, args: VersionArgs) -> Result<()> {
    let template = match args.format.as_deref() {
        None | Some("") => None,
        Some("json") => Some(Template::parse("{{json .}}")?),
        Some(source) => Some(Template::parse(source)?),
    };
    let client = session.client.without_start();
    let server = client.get_json::<Json>("/version").await;
    let (server, failure) = match server {
        Ok(server) => (server, None),
        Err(error) => (Json::Null, Some(error)),
    };
    let data = json!({
        "Client": {
            "Version": env!("CARGO_PKG_VERSION"),
            "ApiVersion": client.version(),
            "Platform": {"Name": "wharf"},
            "GitCommit": "",
            "GoVersion": "",
            "BuildTime": "",
            "DefaultAPIVersion": API_VERSION,
            "Os": std::env::consts::OS,
            "Arch": architecture(),
            "Context": session.context(),
        },
        "Server": server,
    });
    match template {
        Some(template) => {
            let text =
                template.execute_shaped(&data, "system.versionInfo", Missing::IsAnError, &SHAPE)?;
            session.output.line(&text)?;
        }
        None => session.output.text(&pretty(&data))?,
    }
    failure.map_or(Ok(()), Err)
}

/// What the versions have beyond their JSON.
const SHAPE: Shape = Shape {
    lists: &[],
    maps: &[],
    texts: &[],
    flags: &[],
    optional: &[],
    go_names: &[
        ("Client", "APIVersion", "ApiVersion"),
        ("Server", "APIVersion", "ApiVersion"),
    ],
};

/// Returns Go's name of this machine's architecture, which the API uses everywhere.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

fn pretty(data: &Json) -> String {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let client = &data["Client"];
    let mut lines = String::from("Client: wharf\n");
    let mut add = |label: &str, value: String| {
        if !value.is_empty() {
            lines.push_str(&format!(" {label}:\t{value}\n"));
        }
    };
    add("Version", text(&client["Version"]));
    add("API version", text(&client["ApiVersion"]));
    add(
        "OS/Arch",
        format!("{}/{}", text(&client["Os"]), text(&client["Arch"])),
    );
    add("Context", text(&client["Context"]));
    let server = &data["Server"];
    if server.is_object() {
        lines.push_str(&format!(
            "\nServer: {}\n",
            text(&server["Platform"]["Name"])
        ));
        for component in server["Components"].as_array().into_iter().flatten() {
            lines.push_str(&format!(" {}:\n", text(&component["Name"])));
            let mut add = |label: &str, value: String| {
                if !value.is_empty() {
                    lines.push_str(&format!("  {label}:\t{value}\n"));
                }
            };
            add("Version", text(&component["Version"]));
            let details = &component["Details"];
            if details["ApiVersion"].is_string() {
                let minimum = text(&details["MinAPIVersion"]);
                add(
                    "API version",
                    format!(
                        "{} (minimum version {minimum})",
                        text(&details["ApiVersion"])
                    ),
                );
            }
            add("Git commit", text(&details["GitCommit"]));
            add("Built", text(&details["BuildTime"]));
            if details["Os"].is_string() {
                add(
                    "OS/Arch",
                    format!("{}/{}", text(&details["Os"]), text(&details["Arch"])),
                );
            }
            add("Kernel", text(&details["KernelVersion"]));
        }
    }
    table::align_with(&lines, 20, 1)
}
