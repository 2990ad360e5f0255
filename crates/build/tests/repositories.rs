//! Repositories as sources and as build contexts, from a real server on the loopback interface.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod support;

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Bench, can_mount};
use wharf_build::{BuildRequest, ContextSource};

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// `git daemon` over a directory with one repository, `r.git`, and its submodule, `inner.git`.
struct Server {
    program: Child,
    port: u16,
    directory: tempfile::TempDir,
    first: String,
    second: String,
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args([
            "-c",
            "protocol.file.allow=always",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(["-c", "user.name=n", "-c", "user.email=n@e"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_COMMITTER_DATE", "1600000000 +0000")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {arguments:?}: {told}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn write(directory: &Path, path: &str, text: &str) {
    let path = directory.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn repository(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::create_dir(&path).unwrap();
    git(&path, &["init", "-q"]);
    path
}

fn commit(repository: &Path, message: &str) -> String {
    git(repository, &["add", "-A"]);
    git(repository, &["commit", "-q", "-m", message]);
    git(repository, &["rev-parse", "HEAD"])
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let inner = repository(directory.path(), "inner.git");
        write(&inner, "part", "of a submodule");
        commit(&inner, "inner");
        let main = repository(directory.path(), "r.git");
        write(&main, "Dockerfile", "FROM scratch\nCOPY . /\n");
        write(&main, ".dockerignore", "sub\n");
        write(&main, "sub/Dockerfile", "FROM scratch\nCOPY f /only\n");
        write(&main, "sub/f", "one");
        let first = commit(&main, "first");
        git(&main, &["tag", "-a", "v1", "-m", "v1"]);
        git(&main, &["checkout", "-q", "-b", "next"]);
        write(&main, "sub/f", "two");
        let url = format!("git://127.0.0.1:{port}/inner.git");
        let program = serve(directory.path(), port);
        git(&main, &["submodule", "add", "-q", &url, "module"]);
        let second = commit(&main, "second");
        git(&main, &["checkout", "-q", "main"]);
        Self {
            program,
            port,
            directory,
            first,
            second,
        }
    }

    fn url(&self, fragment: &str) -> String {
        format!("git://127.0.0.1:{}/r.git{fragment}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.program.kill();
        let _reaped = self.program.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn serve(directory: &Path, port: u16) -> Child {
    // The program itself: a wrapper would leave it running.
    let place = git(directory, &["--exec-path"]);
    let program = Command::new(Path::new(&place).join("git-daemon"))
        .args(["--export-all", "--reuseaddr", "--listen=127.0.0.1"])
        .arg(format!("--port={port}"))
        .arg(format!("--base-path={}", directory.display()))
        .arg(directory)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(
            began.elapsed() < START_TIMEOUT,
            "git daemon does not listen"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    program
}

fn context(url: String) -> BuildRequest {
    BuildRequest {
        context: ContextSource::Git(url),
        ..BuildRequest::default()
    }
}

#[test]
fn build_contexts_are_repositories() {
    let (bench, server) = (Bench::new(), Server::start());
    let names = |url: String| {
        let (image, _) = bench.build_request(&context(url));
        let tree = bench.tree(&image, "");
        tree.iter()
            .filter_map(|line| line.split(' ').next().map(str::to_owned))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let whole = names(server.url(""));
    assert!(whole.contains("sub/f"), "{whole}");
    assert!(!whole.contains(".git/"), "{whole}");
    let next = names(server.url("#next"));
    assert!(next.contains("module/part"), "{next}");
    for reference in ["#v1:sub", "#refs/heads/next:sub"] {
        let part = names(server.url(reference));
        assert!(part.contains("only") && !part.contains("sub"), "{part}");
    }
    let by_commit = names(server.url(&format!("#{}:sub", server.first)));
    assert!(by_commit.contains("only"), "{by_commit}");
    let mut request = context(server.url(""));
    let keep = (
        "BUILDKIT_CONTEXT_KEEP_GIT_DIR".to_owned(),
        Some("1".to_owned()),
    );
    request.build_args.extend([keep]);
    let (image, _) = bench.build_request(&request);
    assert!(bench.text(&image, ".git/HEAD").is_some());
    for (reference, reason) in [
        ("#none", "has no branch, tag or commit none"),
        ("#main:none", "the repository has no directory none"),
    ] {
        let (result, _) = bench.try_build(&context(server.url(reference)));
        let error = result.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert!(error.starts_with("build context git://"), "{error}");
    }
    assert_eq!(bench.leftovers(), 0);
}

#[test]
fn what_is_added_is_as_the_address_says() {
    if !can_mount() {
        return;
    }
    let (bench, server) = (Bench::new(), Server::start());
    let text = |line: String, path: &str| {
        let (image, _) = bench.build(&format!("FROM base\nADD {line} /r\n"));
        bench.text(&image, path)
    };
    let is = |text: &str| Some(text.to_owned());
    assert_eq!(text(server.url("#next"), "r/sub/f"), is("two"));
    assert_eq!(text(server.url("#v1"), "r/sub/f"), is("one"));
    assert_eq!(text(server.url("#next:sub"), "r/f"), is("two"));
    assert_eq!(
        text(server.url("#next"), "r/module/part"),
        is("of a submodule")
    );
    assert_eq!(
        text(server.url("?ref=next&submodules=false"), "r/module/part"),
        None
    );
    assert_eq!(text(server.url("#next"), "r/.git/HEAD"), None);
    assert_eq!(text(server.url("#next"), "r/module/.git"), None);
    let kept = text(
        format!("--keep-git-dir=true {}", server.url("")),
        "r/.git/HEAD",
    );
    assert!(kept.is_some());

    let checked = |reference: &str, checksum: &str| {
        let line = format!("--checksum={checksum} {}", server.url(reference));
        let request = bench.request(&format!("FROM base\nADD {line} /r\n"));
        let (result, _) = bench.try_build(&request);
        result.map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(checked("#v1", &server.first), Ok(()));
    assert_eq!(checked("#next", &server.second), Ok(()));
    // The branch went on: what it was is not what it is.
    let error = checked("#next", &server.first).unwrap_err();
    assert!(error.contains("expected checksum to match"), "{error}");
    assert!(server.directory.path().exists());
}

#[test]
fn named_contexts_are_repositories() {
    if !can_mount() {
        return;
    }
    let (bench, server) = (Bench::new(), Server::start());
    let mut request = bench.request("FROM base\nCOPY --from=code f /f\n");
    let named = wharf_build::NamedSource::Reference(server.url("#next:sub"));
    request.contexts.insert("code".to_owned(), named);
    let (image, _) = bench.build_request(&request);
    assert_eq!(bench.text(&image, "f"), Some("two".to_owned()));
}
