//! Image configs, manifests and indexes: what is accepted, and the bytes that are written.

use wharf_image::{
    ContainerConfig, Digest, Document, DocumentError, Healthcheck, HistoryEntry, ImageConfig,
    media_type,
};

const DIGEST: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

#[test]
fn config_is_written_in_docker_order() {
    let mut config = ImageConfig {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        created: Some("2024-01-02T03:04:05.123456789Z".to_owned()),
        config: Some(ContainerConfig {
            env: vec!["PATH=/bin".to_owned()],
            cmd: Some(vec!["/bin/sh".to_owned()]),
            entrypoint: Some(Vec::new()),
            working_dir: "/w".to_owned(),
            user: "1:2".to_owned(),
            labels: [("b", "<2>"), ("a", "1&")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            exposed_ports: [("80/tcp".to_owned(), wharf_image::Empty {})].into(),
            healthcheck: Some(Healthcheck {
                test: vec!["NONE".to_owned()],
                interval: 5,
                ..Healthcheck::default()
            }),
            stop_timeout: Some(3),
            ..ContainerConfig::default()
        }),
        history: vec![HistoryEntry {
            created_by: Some("RUN x".to_owned()),
            empty_layer: true,
            ..HistoryEntry::default()
        }],
        ..ImageConfig::default()
    };
    config.rootfs.diff_ids.push(DIGEST.parse().expect("digest"));
    config.extra.insert("container".to_owned(), "c".into());
    let expected = concat!(
        r#"{"architecture":"amd64","config":{"User":"1:2","ExposedPorts":{"80/tcp":{}},"Env":["PATH=/bin"],"#,
        r#""Cmd":["/bin/sh"],"Healthcheck":{"Test":["NONE"],"Interval":5},"WorkingDir":"/w","Entrypoint":[],"#,
        r#""Labels":{"a":"1\u0026","b":"\u003c2\u003e"},"StopTimeout":3},"container":"c","#,
        r#""created":"2024-01-02T03:04:05.123456789Z","history":[{"created_by":"RUN x","empty_layer":true}],"#,
        r#""os":"linux","rootfs":{"type":"layers","#,
        r#""diff_ids":["sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"]}}"#,
    );
    assert_eq!(
        String::from_utf8(config.to_bytes()).expect("text"),
        expected
    );
    assert_eq!(config.id(), Digest::of(expected));
    assert_eq!(
        ImageConfig::parse(expected.as_bytes()).expect("parse"),
        config
    );
}

#[test]
fn default_config_is_not_empty() {
    let expected = r#"{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]}}"#;
    assert_eq!(
        String::from_utf8(ImageConfig::default().to_bytes()).expect("text"),
        expected
    );
}

#[test]
fn config_survives_a_round_trip_with_unknown_keys() {
    let bytes = br#"{"architecture":"arm64","moby.buildkit.cache.v0":"eyJ9","nested":{"z":1,"a":[1.5,null,true]},"os":"linux","os.features":["f"],"os.version":"1","rootfs":{"type":"layers","diff_ids":[]},"variant":"v8"}"#;
    let config = ImageConfig::parse(bytes).expect("parse");
    assert_eq!(config.variant.as_deref(), Some("v8"));
    assert_eq!(config.to_bytes(), bytes);
}

#[test]
fn null_is_taken_for_every_field_of_the_container_config() {
    let names = [
        "Hostname",
        "Domainname",
        "User",
        "AttachStdin",
        "AttachStdout",
        "AttachStderr",
        "ExposedPorts",
        "Tty",
        "OpenStdin",
        "StdinOnce",
        "Env",
        "Cmd",
        "Healthcheck",
        "ArgsEscaped",
        "Image",
        "Volumes",
        "WorkingDir",
        "Entrypoint",
        "NetworkDisabled",
        "MacAddress",
        "OnBuild",
        "Labels",
        "StopSignal",
        "StopTimeout",
        "Shell",
    ];
    let all = names.map(|name| format!("{name:?}:null")).join(",");
    let found: ContainerConfig = serde_json::from_str(&format!("{{{all}}}")).expect("parse");
    assert_eq!(found, ContainerConfig::default());
    assert_eq!(serde_json::to_string(&found).expect("write"), "{}");

    let text = r#"{"architecture":null,"os":null,"author":null,"comment":null,"config":null,"created":null,"history":null,"rootfs":null,"variant":null}"#;
    assert_eq!(
        ImageConfig::parse(text.as_bytes()).expect("parse"),
        ImageConfig::default()
    );
    let text = r#"{"Test":null,"Interval":null,"Timeout":null,"StartPeriod":null,"StartInterval":null,"Retries":null}"#;
    assert_eq!(
        serde_json::from_str::<Healthcheck>(text).expect("parse"),
        Healthcheck::default()
    );
    let text = r#"{"Volumes":{"/a":null,"/b":{}}}"#;
    assert_eq!(
        serde_json::from_str::<ContainerConfig>(text)
            .expect("parse")
            .volumes
            .len(),
        2
    );
}

#[test]
fn commands_may_be_one_string() {
    let found: ContainerConfig =
        serde_json::from_str(r#"{"Cmd":"a b","Entrypoint":["c"]}"#).expect("parse");
    assert_eq!(found.cmd, Some(vec!["a b".to_owned()]));
    assert_eq!(found.entrypoint, Some(vec!["c".to_owned()]));
}

#[test]
fn malformed_configs_are_refused() {
    for text in [
        "",
        "[]",
        "{",
        r#"{"rootfs":{"diff_ids":["sha256:00"]}}"#,
        r#"{"config":{"Env":"A=1"}}"#,
    ] {
        assert!(ImageConfig::parse(text.as_bytes()).is_err(), "{text}");
    }
}

fn descriptor() -> String {
    format!(r#"{{"mediaType":"m","digest":"{DIGEST}","size":1}}"#)
}

#[test]
fn documents_are_told_apart() {
    let descriptor = descriptor();
    let manifest =
        format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[{descriptor}]}}"#);
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{descriptor}],"annotations":null}}"#);
    for delivered in [
        "",
        media_type::OCI_MANIFEST,
        media_type::DOCKER_MANIFEST,
        "application/json; charset=utf-8",
    ] {
        let found = Document::parse(delivered, manifest.as_bytes()).expect(delivered);
        assert!(matches!(found, Document::Manifest(found) if found.layers.len() == 1));
    }
    for delivered in ["", media_type::OCI_INDEX, media_type::DOCKER_INDEX] {
        let found = Document::parse(delivered, index.as_bytes()).expect(delivered);
        assert!(matches!(found, Document::Index(found) if found.manifests.len() == 1));
    }
}

#[test]
fn ambiguous_and_foreign_documents_are_refused() {
    let descriptor = descriptor();
    let both = format!(
        r#"{{"schemaVersion":2,"config":{descriptor},"layers":[],"manifests":[{descriptor}]}}"#
    );
    let half = format!(r#"{{"schemaVersion":2,"layers":[],"manifests":[{descriptor}]}}"#);
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{descriptor}]}}"#);
    let lying = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{descriptor}]}}"#,
        media_type::OCI_MANIFEST
    );
    for (delivered, text) in [
        (media_type::OCI_MANIFEST, &both),
        (media_type::OCI_INDEX, &both),
        ("", &both),
        (media_type::OCI_MANIFEST, &half),
        (media_type::OCI_MANIFEST, &index),
        ("", &lying),
    ] {
        let found = Document::parse(delivered, text.as_bytes());
        assert!(
            matches!(found, Err(DocumentError::Ambiguous)),
            "{delivered} {text}: {found:?}"
        );
    }
    let found = Document::parse(media_type::OCI_INDEX, lying.as_bytes());
    assert!(
        matches!(found, Err(DocumentError::MediaType { .. })),
        "{found:?}"
    );
    let found = Document::parse("", br#"{"schemaVersion":1,"fsLayers":[]}"#);
    assert!(
        matches!(found, Err(DocumentError::SchemaVersion { found: 1 })),
        "{found:?}"
    );
    let found = Document::parse("text/html", br#"{"schemaVersion":2}"#);
    assert!(
        matches!(found, Err(DocumentError::Neither { .. })),
        "{found:?}"
    );
    assert!(matches!(
        Document::parse("", b"<html>"),
        Err(DocumentError::Json { .. })
    ));
}
