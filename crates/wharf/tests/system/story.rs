//! The whole story, from a container by hand to images in another root, told by each client.

use crate::archives::SavedImages;
use crate::compare::{Transcript, assert_same};
use crate::containers::http_get;
use crate::harness::{Client, Daemon, clients, eventually};
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long a build may take whose every step is cached; a busy machine included.
const CACHED_BUILD: Duration = Duration::from_secs(3);

#[test]
fn both_clients_see_the_same_story() {
    let told: Vec<Transcript> = clients().into_iter().map(tell).collect();
    assert_same(&told);
}

fn tell(client: Client) -> Transcript {
    let d = Daemon::with_busybox();
    d.import("debian");
    let mut told = Transcript::default();
    by_hand(&d, client, &mut told);
    layers(&d, client, &mut told);
    build(&d, client, &mut told);
    serve(&d, client, &mut told);
    names(&d, client, &mut told);
    archives(&d, client, &mut told);
    assert!(d.mounts().is_empty(), "{:?}", d.mounts());
    told
}

/// A container on a terminal and through a pipe, and images of it.
fn by_hand(d: &Daemon, client: Client, told: &mut Transcript) {
    let typed = "echo \"test commit\" >> first\nexit\n";
    let run = [
        "run",
        "-it",
        "--name",
        "commit_test",
        "debian:bookworm-slim",
    ];
    let first = d.on_a_terminal(client, &run, typed);
    assert_eq!(first.code, 0, "{first:?}");
    let mut commit = vec!["commit", "-a", "name", "-m", "first commit"];
    commit.extend(["commit_test", "commit_test:first"]);
    told.note("commit", &d.ok(client, &commit));
    let again = d.on_a_terminal(
        client,
        "start -ai commit_test",
        "echo more >> second\nexit 7\n",
    );
    assert_eq!(again.code, 7, "{again:?}");
    told.note(
        "second commit",
        &d.ok(client, "commit commit_test commit_test:second"),
    );
    let piped = d.call_with_input(
        client,
        "run -i --rm commit_test:second",
        b"cat first second; echo to stderr >&2; exit 3\n",
    );
    assert_eq!(piped.stdout, "test commit\nmore\n");
    told.note("run through a pipe", &format!("{piped:?}"));
    told.note("images", &d.ok(client, "images"));
    let format = "{{.Author}}|{{.Comment}}|{{.Config.Cmd}}|{{.RepoTags}}";
    told.note(
        "inspect",
        &d.ok(
            client,
            &["inspect", "--format", format, "commit_test:first"],
        ),
    );
}

/// Each commit adds exactly one layer, which holds only the change.
fn layers(d: &Daemon, client: Client, told: &mut Transcript) {
    let layers_of = |name| d.layers(client, name);
    let base = layers_of("debian:bookworm-slim");
    let (first, second) = (
        layers_of("commit_test:first"),
        layers_of("commit_test:second"),
    );
    assert_eq!((base.len(), first.len(), second.len()), (1, 2, 2));
    assert!(first[0] == base[0] && second[0] == base[0] && first[1] != second[1]);
    d.ok(client, "save -o commits.tar commit_test:second");
    let saved = SavedImages::read(&d.path("commits.tar"));
    let mut entries = saved.entries_of_layer(&second[1]);
    entries.retain(|name| !name.contains(".bash_history"));
    assert_eq!(entries, ["first", "root/", "second"]);
    told.note(
        "image layers",
        &d.ok(
            Client::Wharf,
            "image layers debian:bookworm-slim commit_test:first commit_test:second",
        ),
    );
}

/// The example builds over the network, then from the cache, and its large directory is never read.
fn build(d: &Daemon, client: Client, told: &mut Transcript) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/nginx");
    for name in ["Dockerfile", "my_nginx.conf", ".dockerignore"] {
        d.write(
            &format!("nginx/{name}"),
            std::fs::read(example.join(name)).unwrap(),
        );
    }
    d.write("nginx/large/file", "x");
    // Whoever opens a FIFO without a writer hangs.
    d.make_fifo("nginx/large/fifo");
    let arguments = ["build", "-t", "my_test_image", "./nginx"];
    let built = d.call(client, &arguments);
    assert_eq!(built.code, 0, "{built:?}\n{}", d.log());
    told.note("build", &builders_lines(&built.stdout));
    let begun = Instant::now();
    let again = d.call(client, &arguments);
    let took = begun.elapsed();
    assert!(
        again.code == 0 && !again.stdout.contains("Running in"),
        "{again:?}"
    );
    assert_eq!(again.stdout.matches("Using cache").count(), 8, "{again:?}");
    assert!(took < CACHED_BUILD, "a cached build took {took:?}");
    told.note("cached build", &builders_lines(&again.stdout));
    let format = "{{json .Config}}";
    let config = d.ok(client, &["inspect", "--format", format, "my_test_image"]);
    told.note("image config", &without_empty_fields(&config));
}

/// Leaves out fields without a value, which one client shows and the other does not, and sorts the rest.
fn without_empty_fields(document: &str) -> String {
    let mut fields: std::collections::BTreeMap<String, serde_json::Value> =
        serde_json::from_str(document).unwrap();
    fields.retain(|_, value| !value.is_null() && value != "");
    serde_json::to_string_pretty(&fields).unwrap()
}

/// Leaves out what the steps themselves print.
fn builders_lines(output: &str) -> String {
    let ours = |line: &&str| {
        line.starts_with("Step ") || line.starts_with(" ---> ") || line.starts_with("Successfully ")
    };
    output.lines().filter(ours).collect::<Vec<_>>().join("\n")
}

/// The image runs and answers, and everything that is done to a running container.
fn serve(d: &Daemon, client: Client, told: &mut Transcript) {
    let mut run = vec!["run", "-d", "--name", "webtest", "-p", "127.0.0.1::80"];
    run.push("my_test_image");
    told.note("run -d", &d.ok(client, &run));
    let address = d.ok(client, "port webtest 80");
    told.note("page", &http_get(&address));
    let mut follower = d
        .command(client)
        .args(["logs", "-f", "webtest"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    told.note("ps", &d.ok(client, "ps"));
    let exec = d.on_a_terminal(client, "exec -it webtest sh", "tty; pwd; exit 4\n");
    assert_eq!(exec.code, 4, "{exec:?}");
    for shown in ["/dev/pts/0", "/usr/share/nginx/html"] {
        assert!(exec.stdout.contains(shown), "{exec:?}");
    }
    let top = d.ok(client, "top webtest -eo pid,user,args");
    let commands: Vec<&str> = top
        .lines()
        .map(|line| line.trim_start().trim_start_matches(char::is_numeric))
        .collect();
    told.note("top", &commands.join("\n"));
    d.write("in.txt", "copied in\n");
    d.ok(client, "cp in.txt webtest:/tmp/");
    d.ok(client, "cp webtest:/tmp/in.txt out.txt");
    told.note("cp", &std::fs::read_to_string(d.path("out.txt")).unwrap());
    let diff = d.ok(client, "diff webtest");
    assert!(diff.lines().any(|line| line == "A /tmp/in.txt"), "{diff}");
    assert!(!diff.lines().any(|line| line.contains("/etc")), "{diff}");
    told.note("diff", &diff);
    told.note("stop", &d.ok(client, "stop -t 1 webtest"));
    let mut followed = String::new();
    let mut output = follower.stdout.take().unwrap();
    output.read_to_string(&mut followed).unwrap();
    assert!(follower.wait().unwrap().success());
    assert!(followed.contains("\"GET / HTTP/1.0\" 200"), "{followed}");
    told.note("ps -a", &d.ok(client, "ps -a --no-trunc"));
    told.note("start", &d.ok(client, "start webtest"));
    let address = d.ok(client, "port webtest 80");
    told.note("page again", &http_get(&address));
    let refused = d.call(client, "rm webtest");
    told.note("rm of a running container", &format!("{refused:?}"));
}

/// Names, history and disk, with docker's rules for what is in use.
fn names(d: &Daemon, client: Client, told: &mut Transcript) {
    told.note_without_sizes("history", &d.ok(client, "history my_test_image"));
    d.ok(client, "tag my_test_image my_test_image:v1");
    let mut keep = vec!["run", "-d", "--name", "keeper"];
    keep.extend(["commit_test:second", "sleep", "1000"]);
    d.ok(client, &keep);
    let id = d.ok(client, "images -q commit_test:second");
    let steps: [&[&str]; 11] = [
        &["rmi", "my_test_image:v1"],
        &["rmi", "my_test_image"],
        &["rm", "-f", "webtest"],
        &["rmi", "commit_test:second"],
        &["rmi", "-f", &id],
        &["rmi", "-f", "commit_test:second"],
        &["images", "-f", "dangling=true"],
        &["image", "prune", "-f"],
        &["rm", "-f", "keeper", "commit_test"],
        &["image", "prune", "-f"],
        &["images"],
    ];
    for step in steps {
        let called = d.call(client, step);
        let name = step.join(" ").replace(&id, "ID");
        told.note(&name, &format!("{}", called.code));
        told.note_without_sizes(&name, &called.stdout);
        told.note(&name, &called.stderr);
    }
    let table = d.ok(client, "system df");
    told.note_without_sizes("system df", &table);
}

/// Several images in one archive, loaded into an empty root; a container's files in and out.
fn archives(d: &Daemon, client: Client, told: &mut Transcript) {
    let images = ["debian:bookworm-slim", "commit_test:first", "my_test_image"];
    let mut save = vec!["save", "-o", "all.tar"];
    save.extend(images);
    d.ok(client, &save);
    let fresh = Daemon::start();
    let archive = d.path("all.tar");
    let loaded = fresh.ok(client, &["load", "-i", archive.to_str().unwrap()]);
    told.note("load", &loaded);
    std::fs::remove_file(&archive).unwrap();
    let mut all_layers = Vec::new();
    for name in images {
        let format = "{{.Id}} {{json .RootFS}} {{.Size}}";
        let facts = |d: &Daemon| d.ok(client, &["inspect", "--format", format, name]);
        assert_eq!(facts(d), facts(&fresh), "{name} is not the same image");
        all_layers.extend(fresh.layers(client, name));
    }
    all_layers.sort();
    all_layers.dedup();
    let stored = std::fs::read_dir(fresh.path("root/layers"))
        .unwrap()
        .count();
    assert_eq!(stored, all_layers.len(), "shared layers are stored once");
    let run = ["run", "--rm", "commit_test:first", "cat", "/first"];
    assert_eq!(fresh.ok(client, &run), "test commit");

    let script = "echo exported > /e; ln -s e /l";
    d.ok(
        client,
        &["run", "--name", "out", "busybox", "sh", "-c", script],
    );
    d.ok(client, "export -o files.tar out");
    let files = d.path("files.tar");
    let mut import = vec!["import", "-m", "note", "-c", "CMD cat /l"];
    import.extend([files.to_str().unwrap(), "imported:1"]);
    fresh.ok(client, &import);
    told.note("import", &fresh.ok(client, "run --rm imported:1"));
    told.note_without_sizes("imported", &fresh.ok(client, "history imported:1"));
    eventually("nothing is staged", || {
        std::fs::read_dir(fresh.path("root/tmp")).unwrap().count() == 0
    });
}
