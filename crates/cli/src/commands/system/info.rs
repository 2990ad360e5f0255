//! `wharf info` (engine-api.md §6.2).

use clap::Args;
use serde_json::Value as Json;

use crate::error::Result;
use crate::render::template::{Missing, Template};
use crate::session::Session;
use crate::units::bytes_size;

/// Show facts about the daemon and its machine
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Print with a template, or "json"
    #[arg(short = 'f', long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Runs `wharf info`.
pub async fn info_command(session: &mut Session, args: InfoArgs) -> Result<()> {
    let template = match args.format.as_deref() {
        None | Some("") => None,
        Some("json") => Some(Template::parse("{{json .}}")?),
        Some(source) => Some(Template::parse(source)?),
    };
    let mut info: Json = session.client.get_json("/info").await?;
    match template {
        Some(template) => {
            if let Some(members) = info.as_object_mut() {
                members.insert(
                    "ClientInfo".into(),
                    serde_json::json!({"Context": "default", "Debug": false}),
                );
            }
            let text = template.execute_json(&info, "system.dockerInfo", Missing::IsAnError)?;
            session.output.line(&text)
        }
        None => {
            session.output.text(&pretty(&info))?;
            for warning in info["Warnings"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Json::as_str)
            {
                session.output.talk(warning);
            }
            Ok(())
        }
    }
}

/// Lines of the overview: label and the key of a plain value.
const PLAIN: [(&str, &str); 14] = [
    ("Kernel Version", "KernelVersion"),
    ("Operating System", "OperatingSystem"),
    ("OSType", "OSType"),
    ("Architecture", "Architecture"),
    ("CPUs", "NCPU"),
    ("Total Memory", "MemTotal"),
    ("Name", "Name"),
    ("ID", "ID"),
    ("Docker Root Dir", "DockerRootDir"),
    ("HTTP Proxy", "HttpProxy"),
    ("HTTPS Proxy", "HttpsProxy"),
    ("No Proxy", "NoProxy"),
    ("Experimental", "ExperimentalBuild"),
    ("Live Restore Enabled", "LiveRestoreEnabled"),
];

fn pretty(info: &Json) -> String {
    let mut lines = vec![
        "Client: wharf".to_owned(),
        format!(" Version:    {}", env!("CARGO_PKG_VERSION")),
        String::new(),
        "Server:".to_owned(),
    ];
    let plain = |key: &str| match &info[key] {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    };
    for (label, key) in [
        (" Containers", "Containers"),
        ("  Running", "ContainersRunning"),
        ("  Paused", "ContainersPaused"),
        ("  Stopped", "ContainersStopped"),
        (" Images", "Images"),
        (" Server Version", "ServerVersion"),
        (" Storage Driver", "Driver"),
    ] {
        lines.push(format!("{label}: {}", plain(key)));
    }
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        let part = |index: usize| pair[index].as_str().unwrap_or_default();
        lines.push(format!("  {}: {}", part(0), part(1)));
    }
    for (label, key) in [
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
    ] {
        lines.push(format!(" {label}: {}", plain(key)));
    }
    lines.push(" Plugins:".to_owned());
    for kind in ["Volume", "Network", "Log"] {
        let names: Vec<&str> = info["Plugins"][kind]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        lines.push(format!("  {kind}: {}", names.join(" ")));
    }
    let runtimes: Vec<&str> = info["Runtimes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    lines.push(format!(" Runtimes: {}", runtimes.join(" ")));
    lines.push(format!(" Default Runtime: {}", plain("DefaultRuntime")));
    lines.push(" Security Options:".to_owned());
    for option in info["SecurityOptions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
    {
        lines.push(format!(
            "  {}",
            option.trim_start_matches("name=").replace(',', "\n   ")
        ));
    }
    for (label, key) in PLAIN {
        let value = match (key, info[key].as_f64()) {
            ("MemTotal", Some(bytes)) => bytes_size(bytes),
            _ => plain(key),
        };
        if !value.is_empty() {
            lines.push(format!(" {label}: {value}"));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}
