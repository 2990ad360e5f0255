//! Lists of manifests, made by both clients and kept in Debian's `docker-registry` on loopback.

use crate::harness::{Client, Daemon, clients};
use crate::registry::Registry;

/// Lists of manifests are made, annotated and pushed by both clients alike, word for word.
#[test]
fn lists_of_manifests_are_the_same_with_both_clients() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let d = Daemon::with_busybox();
    let one = registry.at("lists/one:1");
    let other = registry.at("lists/other:1");
    d.ok(Client::Wharf, &["tag", "busybox", &one]);
    let changed = ["run", "--name", "changed", "busybox", "touch", "/x"];
    d.ok(Client::Wharf, &changed);
    d.ok(Client::Wharf, &["commit", "changed", &other]);
    d.ok(Client::Wharf, &["push", &one]);
    d.ok(Client::Wharf, &["push", &other]);
    let mut seen: Vec<Vec<String>> = Vec::new();
    for client in clients() {
        let config = tempfile::tempdir().unwrap();
        let list = registry.at("lists/one:both");
        let call = |arguments: &[&str]| {
            let mut all = vec!["--config", config.path().to_str().unwrap(), "manifest"];
            all.extend(arguments);
            let output = d.command(client).args(&all).output().unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            format!(
                "{arguments:?} {:?}\n{}{}",
                output.status.code(),
                text(&output.stdout),
                text(&output.stderr)
            )
        };
        let missing = registry.at("lists/none");
        seen.push(vec![
            call(&["inspect", "--insecure", &one]),
            call(&["inspect", "--insecure", "-v", &one]),
            call(&["inspect", "--insecure", &missing]),
            call(&["create", "--insecure", &list, &one, &other]),
            call(&["create", "--insecure", &list, &one]),
            call(&["create", "--insecure", "--amend", &list, &one]),
            call(&[
                "annotate",
                &list,
                &other,
                "--arch",
                "arm64",
                "--variant",
                "v8",
            ]),
            call(&["annotate", &list, &other, "--os", "nonsense"]),
            call(&["annotate", &list, &missing, "--os", "linux"]),
            call(&["inspect", "--insecure", &list]),
            call(&["inspect", "--insecure", "-v", &list]),
            call(&["inspect", "--insecure", &list, &other]),
            call(&["push", "--insecure", "--purge", &list]),
            call(&["push", "--insecure", &list]),
            call(&["inspect", "--insecure", &list]),
            call(&["inspect", "--insecure", "--verbose", &list]),
            call(&["create", "--insecure", &registry.at("lists/x"), &list]),
            call(&["rm", &list]),
            call(&["create", "--insecure", "other.example/x:1", &one]),
            call(&["push", "--insecure", "other.example/x:1"]),
            call(&["rm", "other.example/x:1"]),
        ]);
    }
    let (first, rest) = seen.split_first().unwrap();
    for said in first {
        assert!(!said.contains("not supported"), "{said}");
    }
    assert!(
        first[3].contains("Created manifest list localhost:"),
        "{}",
        first[3]
    );
    assert!(first[12].contains("Pushed ref localhost:"), "{}", first[12]);
    assert!(
        first[14].contains("\"architecture\": \"arm64\""),
        "{}",
        first[14]
    );
    for other in rest {
        for (ours, theirs) in first.iter().zip(other) {
            assert_eq!(ours, theirs);
        }
    }
    // What was pushed is pulled by either platform's digest.
    let list = registry.at("lists/one:both");
    d.ok(Client::Wharf, &["pull", &list]);
}
