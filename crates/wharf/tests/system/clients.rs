//! Client libraries, unmodified: a round of create, attach, exec and logs with dockerode and with bollard.
//! (testcontainers: `lifecycle.rs`; compose: `compose.rs`.)

use crate::harness::{Client, Daemon, skip};
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, LogsOptions, RemoveContainerOptions,
};
use futures_util::{Stream, StreamExt};
use std::path::Path;
use std::process::Command;
use tokio::io::AsyncWriteExt;

#[test]
fn dockerode() {
    let Some(modules) = std::env::var_os("WHARF_TEST_NODE") else {
        skip("dockerode (set WHARF_TEST_NODE to a directory with its node_modules)");
        return;
    };
    let d = Daemon::with_busybox();
    let output = Command::new("node")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/system/one_container.js"
        ))
        .env("NODE_PATH", Path::new(&modules).join("node_modules"))
        .env("WHARF_SOCKET", d.socket())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    // As a real dockerd 28.5 answers the same script.
    assert_eq!(
        said,
        "listed 1 /from-node running\n\
         exec [\"fed to exec\",\"to-stderr\\n\"] 7\n\
         tty \"/dev/pts/0\\r\\n\"\n\
         attach [\"got typed\\n\",\"complaint\\n\"]\n\
         wait 3\n\
         logs [\"got typed\\n\",\"complaint\\n\"]\n\
         state exited 3\n\
         gone 404\n",
        "{complaints}\n{}",
        d.log()
    );
    assert_eq!(d.ok(Client::Wharf, "ps -aq"), "");
}

#[test]
fn bollard() {
    let d = Daemon::with_busybox();
    let socket = format!("unix://{}", d.socket().display());
    let docker =
        bollard::Docker::connect_with_unix(&socket, 60, bollard::API_DEFAULT_VERSION).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(round_with_bollard(&docker)).unwrap();
    assert_eq!(d.ok(Client::Wharf, "ps -aq"), "");
}

async fn round_with_bollard(docker: &bollard::Docker) -> Result<(), bollard::errors::Error> {
    let words = |text: &[&str]| Some(text.iter().map(|&word| word.to_owned()).collect());
    let script = "read line; echo got $line; echo complaint >&2; read line; exit 3";
    let body = ContainerCreateBody {
        image: Some("busybox".to_owned()),
        cmd: words(&["sh", "-c", script]),
        open_stdin: Some(true),
        ..ContainerCreateBody::default()
    };
    let named = CreateContainerOptions {
        name: Some("from-rust".to_owned()),
        ..CreateContainerOptions::default()
    };
    let id = docker.create_container(Some(named), body).await?.id;
    let all = AttachContainerOptions {
        stdin: true,
        stdout: true,
        stderr: true,
        stream: true,
        ..AttachContainerOptions::default()
    };
    let AttachContainerResults { output, mut input } =
        docker.attach_container(&id, Some(all)).await?;
    docker.start_container("from-rust", None).await?;
    input.write_all(b"typed\n").await.unwrap();

    let exec = CreateExecOptions {
        cmd: Some(vec!["sh", "-c", "cat; echo to-stderr >&2; exit 7"]),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::default()
    };
    let exec = docker.create_exec(&id, exec).await?.id;
    let StartExecResults::Attached {
        output: said,
        input: mut fed,
    } = docker.start_exec(&exec, None).await?
    else {
        panic!("bollard was not attached");
    };
    fed.write_all(b"fed to exec").await.unwrap();
    fed.shutdown().await.unwrap();
    assert_eq!(
        halves(said).await?,
        ("fed to exec".to_owned(), "to-stderr\n".to_owned())
    );
    assert_eq!(docker.inspect_exec(&exec).await?.exit_code, Some(7));

    input.write_all(b"last\n").await.unwrap();
    let expected = ("got typed\n".to_owned(), "complaint\n".to_owned());
    assert_eq!(halves(output).await?, expected);
    let ended = docker.wait_container(&id, None).next().await;
    assert!(
        matches!(
            &ended,
            Some(Err(bollard::errors::Error::DockerContainerWaitError {
                code: 3,
                ..
            }))
        ),
        "{ended:?}"
    );
    let both = LogsOptions {
        stdout: true,
        stderr: true,
        follow: true,
        ..LogsOptions::default()
    };
    assert_eq!(halves(docker.logs(&id, Some(both))).await?, expected);
    docker
        .remove_container(&id, None::<RemoveContainerOptions>)
        .await
}

/// Collects what came of both streams.
async fn halves(
    mut output: impl Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
) -> Result<(String, String), bollard::errors::Error> {
    let (mut out, mut err) = (String::new(), String::new());
    while let Some(part) = output.next().await {
        match part? {
            LogOutput::StdErr { message } => err += &String::from_utf8_lossy(&message),
            other => out += &other.to_string(),
        }
    }
    Ok((out, err))
}
