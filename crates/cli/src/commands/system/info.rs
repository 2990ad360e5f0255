//! `wharf info` (engine-api.md §6.2).

use clap::Args;
use serde_json::Value as Json;
use wharf_template::Shape;

use crate::commands::plugin;
use crate::error::{CliError, Result};
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

/// What the facts have beyond their JSON.
const SHAPE: Shape = Shape {
    lists: &[
        "Authorization",
        "CDISpecDirs",
        "DefaultAddressPools",
        "DiscoveredDevices",
        "DriverStatus",
        "GenericResources",
        "InsecureRegistryCIDRs",
        "Labels",
        "Mirrors",
        "Plugins",
        "RemoteManagers",
        "SecurityOptions",
        "Warnings",
    ],
    maps: &["IndexConfigs", "Runtimes"],
    texts: &[
        "BuildTime",
        "GitCommit",
        "GoVersion",
        "HttpProxy",
        "HttpsProxy",
        "NoProxy",
        "ProductLicense",
    ],
    flags: &[],
    optional: &[
        (
            "",
            &[
                "CDISpecDirs",
                "DefaultAddressPools",
                "DiscoveredDevices",
                "ProductLicense",
            ],
        ),
        ("ClientInfo", &["BuildTime", "GitCommit", "GoVersion"]),
    ],
    go_names: &[
        ("", "CPUCfsPeriod", "CpuCfsPeriod"),
        ("", "CPUCfsQuota", "CpuCfsQuota"),
        ("", "HTTPProxy", "HttpProxy"),
        ("", "HTTPSProxy", "HttpsProxy"),
    ],
};

/// Runs `wharf info`.
pub async fn info_command(session: &mut Session, args: InfoArgs) -> Result<()> {
    let template = match args.format.as_deref() {
        None | Some("") => None,
        Some("json") => Some(Template::parse("{{json .}}")?),
        Some(source) => Some(Template::parse(source)?),
    };
    let client = client_info(session)?;
    let (mut info, failure) = match session.client.get_json::<Json>("/info").await {
        Ok(info) => (info, None),
        Err(error) => (
            serde_json::json!({"ServerErrors": [error.to_string()]}),
            Some(error),
        ),
    };
    if let Some(template) = template {
        if let Some(members) = info.as_object_mut() {
            members.insert("ClientInfo".into(), client);
        }
        let text =
            template.execute_shaped(&info, "system.dockerInfo", Missing::IsAnError, &SHAPE)?;
        session.output.line(&text)?;
        return failure.map_or(Ok(()), |error| Err(complaint(&error)));
    }
    session.output.text(&pretty_client(&client))?;
    if let Some(error) = failure {
        session.output.text("\nServer:\n")?;
        return Err(complaint(&error));
    }
    session.output.text(&pretty(&info))?;
    let warnings = info["Warnings"].as_array();
    for warning in warnings.into_iter().flatten().filter_map(Json::as_str) {
        session.output.talk(warning);
    }
    Ok(())
}

/// Returns docker's text for a daemon that does not answer.
fn complaint(error: &CliError) -> CliError {
    let text = error.report().unwrap_or_default();
    CliError::Plain(format!("ERROR: {text}\nerrors pretty printing info"))
}

/// Returns what the client knows of itself.
fn client_info(session: &mut Session) -> Result<Json> {
    let directory = session.config_directory().to_owned();
    let plugins = plugin::describe_all(session.config()?, &directory);
    Ok(serde_json::json!({
        "Debug": false,
        "Version": env!("CARGO_PKG_VERSION"),
        "DefaultAPIVersion": crate::http::API_VERSION,
        "APIVersion": session.client.version(),
        "Os": std::env::consts::OS,
        "Arch": super::version::architecture(),
        "Context": session.context(),
        "Plugins": plugins,
        "Warnings": null,
    }))
}

fn pretty_client(client: &Json) -> String {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![
        "Client: wharf".to_owned(),
        format!(" Version:    {}", text(&client["Version"])),
        format!(" Context:    {}", text(&client["Context"])),
        " Debug Mode: false".to_owned(),
    ];
    let plugins = client["Plugins"].as_array();
    if plugins.is_some_and(|plugins| !plugins.is_empty()) {
        lines.push(" Plugins:".to_owned());
    }
    for plugin in plugins.into_iter().flatten() {
        let vendor = text(&plugin["Vendor"]);
        lines.push(format!(
            "  {}: {} ({vendor})",
            text(&plugin["Name"]),
            text(&plugin["ShortDescription"])
        ));
        lines.push(format!("    Version:  {}", text(&plugin["Version"])));
        lines.push(format!("    Path:     {}", text(&plugin["Path"])));
    }
    lines.push(String::new());
    lines.join("\n")
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
    let mut lines = vec![String::new(), "Server:".to_owned()];
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
    lines.push(format!(
        " Swarm: {}",
        info["Swarm"]["LocalNodeState"].as_str().unwrap_or_default()
    ));
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
    lines.extend(registry_lines(info));
    lines.push(String::new());
    lines.join("\n")
}

/// One line a pool that an administrator set.
fn address_pools(info: &Json) -> Vec<String> {
    let pools = info["DefaultAddressPools"].as_array().into_iter().flatten();
    pools
        .map(|pool| {
            let base = pool["Base"].as_str().unwrap_or_default();
            format!(" Base: {base}, Size: {}", pool["Size"])
        })
        .collect()
}

/// The lines about labels, registries and pools, which are there only when there is something to tell.
fn registry_lines(info: &Json) -> Vec<String> {
    let texts = |value: &Json| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(Json::as_str).map(str::to_owned).collect()
    };
    let config = &info["RegistryConfig"];
    let insecure_hosts = config["IndexConfigs"].as_object().into_iter().flatten();
    let insecure = insecure_hosts
        .filter(|(_, index)| index["Secure"] == false)
        .map(|(name, _)| name.clone())
        .chain(texts(&config["InsecureRegistryCIDRs"]))
        .collect();
    [
        ("Labels", texts(&info["Labels"])),
        ("Insecure Registries", insecure),
        ("Registry Mirrors", texts(&config["Mirrors"])),
        ("Default Address Pools", address_pools(info)),
    ]
    .into_iter()
    .filter(|(_, values)| !values.is_empty())
    .flat_map(|(title, values)| {
        let indented = values.into_iter().map(|value| format!("  {value}"));
        [format!(" {title}:")].into_iter().chain(indented)
    })
    .collect()
}
