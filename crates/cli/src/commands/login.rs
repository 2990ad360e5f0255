//! `wharf login` and `wharf logout`.

use std::io::Read;

use clap::Args;
use serde_json::Value as Json;

use crate::config_file::{Credentials, DEFAULT_REGISTRY_KEY};
use crate::error::{CliError, Result};
use crate::http::Request;
use crate::session::Session;
use crate::terminal;

/// Longest accepted password, in bytes.
const PASSWORD_LIMIT_BYTES: u64 = 64 * 1024;

/// Log in to a registry
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// Password or access token (anyone on this machine can see it: prefer --password-stdin)
    #[arg(
        short = 'p',
        long,
        value_name = "PASSWORD",
        conflicts_with = "password_stdin"
    )]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// User name
    #[arg(short = 'u', long, value_name = "USER")]
    username: Option<String>,
    /// Registry; without one, the default
    server: Option<String>,
}

/// Log out of a registry
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// Registry; without one, the default
    server: Option<String>,
}

/// Runs `wharf login`.
pub async fn login_command(session: &mut Session, args: LoginArgs) -> Result<()> {
    let registry = registry_key(args.server.as_deref());
    let credentials = ask(session, &args, &registry)?;
    let request = Request::post("/auth").json(&credentials.to_json(&registry));
    let answer: Json = session.client.send(request).await?.json().await?;
    let token = answer["IdentityToken"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    session.config()?.store(
        &registry,
        &Credentials {
            identity_token: token,
            ..credentials
        },
    )?;
    session
        .output
        .line(answer["Status"].as_str().unwrap_or("Login Succeeded"))
}

/// Runs `wharf logout`.
pub async fn logout_command(session: &mut Session, args: LogoutArgs) -> Result<()> {
    let registry = registry_key(args.server.as_deref());
    let shown = if registry == DEFAULT_REGISTRY_KEY {
        "docker.io".to_owned()
    } else {
        registry.clone()
    };
    if session.config()?.erase(&registry)? {
        session
            .output
            .line(&format!("Removing login credentials for {shown}"))
    } else {
        session.output.line(&format!("Not logged in to {shown}"))
    }
}

fn ask(session: &mut Session, args: &LoginArgs, registry: &str) -> Result<Credentials> {
    if args.password_stdin {
        let Some(username) = args.username.clone() else {
            return Err(CliError::usage(
                "must provide --username with --password-stdin",
            ));
        };
        let mut password = String::new();
        std::io::stdin()
            .take(PASSWORD_LIMIT_BYTES)
            .read_to_string(&mut password)
            .map_err(|error| CliError::io("reading the password from standard input", error))?;
        let password = password.trim_end_matches(['\n', '\r']).to_owned();
        return checked(username, password);
    }
    if args.username.is_none()
        && args.password.is_none()
        && let Some(known) = session.config()?.credentials(registry)?
    {
        session
            .output
            .talk("Authenticating with existing credentials...");
        return Ok(known);
    }
    if !terminal::stdin_is_terminal() && (args.username.is_none() || args.password.is_none()) {
        return Err(CliError::usage(
            "cannot perform an interactive login from a non TTY device",
        ));
    }
    let username = match &args.username {
        Some(username) => username.clone(),
        None => {
            session.output.talk_bytes(b"Username: ")?;
            terminal::read_line()?
        }
    };
    let password = match &args.password {
        Some(password) => {
            session
                .output
                .talk("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
            password.clone()
        }
        None => {
            session.output.talk_bytes(b"Password: ")?;
            let password = terminal::read_hidden_line()?;
            session.output.talk("");
            password
        }
    };
    checked(username, password)
}

fn checked(username: String, password: String) -> Result<Credentials> {
    if username.is_empty() {
        return Err(CliError::usage("username is empty"));
    }
    if password.is_empty() {
        return Err(CliError::usage("password is empty"));
    }
    Ok(Credentials {
        username,
        password,
        identity_token: String::new(),
    })
}

fn registry_key(server: Option<&str>) -> String {
    match server {
        None | Some("" | "docker.io" | "index.docker.io") => DEFAULT_REGISTRY_KEY.to_owned(),
        Some(DEFAULT_REGISTRY_KEY) => DEFAULT_REGISTRY_KEY.to_owned(),
        Some(server) => {
            let bare = server.split_once("://").map_or(server, |(_, rest)| rest);
            bare.split('/').next().unwrap_or(bare).to_owned()
        }
    }
}
