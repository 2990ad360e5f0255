//! Pushes to a real registry and pulls back.

#![allow(
    clippy::disallowed_methods,
    reason = "a test prepares its files itself"
)]

mod support;

use std::io::Cursor;
use support::registry::Registry;
use support::{amd64, client, client_with_mirror, reference};
use tokio::io::AsyncReadExt as _;
use wharf_image::{
    Descriptor, DescriptorPlatform, Digest, Index, Manifest, Platform, Reference, media_type,
};
use wharf_registry::{Client, Credentials, RegistryError};

/// Uploads an image of one layer and returns its manifest's descriptor and layer.
async fn push(
    client: &Client,
    to: &Reference,
    text: &str,
    credentials: &Credentials,
) -> (Descriptor, Descriptor) {
    let layer_bytes = format!("layer {text} ").repeat(100_000).into_bytes();
    let size = Some(layer_bytes.len() as u64);
    let digest = Some(Digest::of(&layer_bytes));
    let mut layer = client
        .upload_blob(to, digest, Cursor::new(layer_bytes), size, credentials)
        .await
        .expect("layer");
    layer.media_type = media_type::OCI_LAYER.to_owned();
    let config_bytes = format!(r#"{{"architecture":"{text}","os":"linux"}}"#).into_bytes();
    let mut config = client
        .upload_blob(to, None, Cursor::new(config_bytes), None, credentials)
        .await
        .expect("config");
    config.media_type = media_type::OCI_CONFIG.to_owned();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config,
        layers: vec![layer.clone()],
        annotations: Default::default(),
    };
    let bytes = serde_json::to_vec(&manifest).expect("manifest");
    let size = bytes.len() as u64;
    let digest = client
        .put_manifest(to, media_type::OCI_MANIFEST, bytes.into(), credentials)
        .await
        .expect("put");
    let media_type = media_type::OCI_MANIFEST.to_owned();
    (
        Descriptor {
            media_type,
            digest,
            size,
            ..layer.clone()
        },
        layer,
    )
}

async fn read(
    client: &Client,
    from: &Reference,
    blob: &Descriptor,
    credentials: &Credentials,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut stream = client
        .fetch_blob(from, blob, credentials)
        .await
        .expect("blob");
    stream.read_to_end(&mut bytes).await.expect("content");
    bytes
}

/// A mirror answers for Docker Hub, whose own address is not even asked where it has the answer.
#[tokio::test]
async fn a_mirror_is_asked_first() {
    let Some(registry) = Registry::start(false) else {
        return;
    };
    let nobody = Credentials::default();
    let there = reference(registry.at("library/mirrored:v1"));
    let (manifest, _) = push(&client(), &there, "amd64", &nobody).await;
    let mirrored = client_with_mirror(&format!("http://{}", registry.at("")));
    let wanted = reference("mirrored:v1");

    let resolved = mirrored.resolve(&wanted, &amd64(), &nobody).await;
    assert_eq!(resolved.expect("resolve").top.0.digest, manifest.digest);
    let (described, platforms) = mirrored.describe(&wanted, &nobody).await.expect("describe");
    assert_eq!(described.digest, manifest.digest);
    assert_eq!(platforms.len(), 1);
    assert_eq!(mirrored.tags(&wanted, &nobody).await.expect("tags"), ["v1"]);
}

#[tokio::test]
async fn an_image_comes_back_as_it_was_pushed() {
    let Some(registry) = Registry::start(false) else {
        return;
    };
    let (client, nobody) = (client(), Credentials::default());
    let tagged = reference(registry.at("some/app:v1"));
    let (manifest, layer) = push(&client, &tagged, "amd64", &nobody).await;

    let resolved = client
        .resolve(&tagged, &amd64(), &nobody)
        .await
        .expect("resolve");
    assert_eq!(resolved.top.0.digest, manifest.digest);
    assert_eq!(resolved.top.0.media_type, media_type::OCI_MANIFEST);
    assert_eq!(resolved.top, resolved.manifest);
    assert_eq!(resolved.parsed.layers, std::slice::from_ref(&layer));
    assert_eq!(
        &resolved.config[..],
        br#"{"architecture":"amd64","os":"linux"}"#
    );
    let by_digest = tagged.with_digest(manifest.digest);
    assert_eq!(
        client
            .resolve(&by_digest, &amd64(), &nobody)
            .await
            .expect("resolve")
            .top,
        resolved.top
    );
    assert_eq!(
        client.head(&tagged, &nobody).await.expect("head").digest,
        manifest.digest
    );

    let bytes = read(&client, &tagged, &layer, &nobody).await;
    assert_eq!(
        (Digest::of(&bytes), bytes.len() as u64),
        (layer.digest, layer.size)
    );
    assert!(
        client
            .blob_exists(&tagged, &layer.digest, &nobody)
            .await
            .expect("exists")
    );
    assert!(
        !client
            .blob_exists(&tagged, &Digest::of("absent"), &nobody)
            .await
            .expect("exists")
    );

    let other = reference(registry.at("other"));
    assert!(
        client
            .mount_blob(&other, &layer.digest, &tagged, &nobody)
            .await
            .expect("mount")
    );
    assert_eq!(read(&client, &other, &layer, &nobody).await, bytes);
    assert!(
        !client
            .mount_blob(&other, &Digest::of("absent"), &tagged, &nobody)
            .await
            .expect("mount")
    );
    assert!(
        !client
            .mount_blob(
                &other,
                &layer.digest,
                &reference("elsewhere.example/x"),
                &nobody
            )
            .await
            .expect("mount")
    );
}

#[tokio::test]
async fn an_index_is_resolved_by_platform() {
    let Some(registry) = Registry::start(false) else {
        return;
    };
    let (client, nobody) = (client(), Credentials::default());
    let top = reference(registry.at("multi:latest"));
    let mut manifests = Vec::new();
    for (architecture, variant) in [
        ("unknown", None),
        ("arm64", None),
        ("amd64", None),
        ("arm", Some("v7")),
    ] {
        let to = top.with_tag(&format!("only-{architecture}")).expect("tag");
        let (mut manifest, _) = push(&client, &to, architecture, &nobody).await;
        let os = if architecture == "unknown" {
            "unknown"
        } else {
            "linux"
        };
        manifest.platform = Some(DescriptorPlatform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
            ..DescriptorPlatform::default()
        });
        manifests.push(manifest);
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        manifests: manifests.clone(),
        annotations: Default::default(),
    };
    let bytes: bytes::Bytes = serde_json::to_vec(&index).expect("index").into();
    let digest = client
        .put_manifest(&top, media_type::OCI_INDEX, bytes.clone(), &nobody)
        .await
        .expect("put");
    for (platform, expected) in [
        ("linux/amd64", 2),
        ("linux/arm64", 1),
        ("linux/arm/v7", 3),
        ("linux/amd64/v3", 2),
    ] {
        let platform = Platform::parse(platform).expect("platform");
        let resolved = client
            .resolve(&top, &platform, &nobody)
            .await
            .expect("resolve");
        assert_eq!((resolved.top.0.digest, &resolved.top.1), (digest, &bytes));
        assert_eq!(resolved.manifest.0, manifests[expected]);
    }
    let absent = Platform::parse("linux/s390x").expect("platform");
    let error = client
        .resolve(&top, &absent, &nobody)
        .await
        .expect_err("no such platform");
    assert_eq!(
        error.to_string(),
        "no matching manifest for linux/s390x in the manifest list entries"
    );
    let RegistryError::NoMatchingManifest { available, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(available, ["linux/arm64", "linux/amd64", "linux/arm/v7"]);

    let mut tags = client.tags(&top, &nobody).await.expect("tags");
    tags.sort();
    assert_eq!(
        tags,
        [
            "latest",
            "only-amd64",
            "only-arm",
            "only-arm64",
            "only-unknown"
        ]
    );
}

#[tokio::test]
async fn what_is_not_there_is_said_in_docker_words() {
    let Some(registry) = Registry::start(false) else {
        return;
    };
    let (client, nobody) = (client(), Credentials::default());
    let there = reference(registry.at("app:v1"));
    push(&client, &there, "amd64", &nobody).await;
    let absent = reference(registry.at("app:v2"));
    let error = client
        .resolve(&absent, &amd64(), &nobody)
        .await
        .expect_err("no such tag");
    let expected = format!(
        "manifest for {} not found: manifest unknown: manifest unknown",
        registry.at("app:v2")
    );
    assert_eq!(error.to_string(), expected);
    let blob = Descriptor {
        digest: Digest::of("absent"),
        ..push(&client, &there, "amd64", &nobody).await.1
    };
    let error = client
        .fetch_blob(&there, &blob, &nobody)
        .await
        .map(drop)
        .expect_err("no such blob");
    assert!(
        matches!(error, RegistryError::BlobUnknown { .. }),
        "{error}"
    );
    assert!(
        client
            .tags(&reference(registry.at("nothing")), &nobody)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn uploads_are_compared_with_what_was_announced() {
    let Some(registry) = Registry::start(false) else {
        return;
    };
    let (client, nobody) = (client(), Credentials::default());
    let to = reference(registry.at("app"));
    let content = vec![1u8; 300_000];
    let (digest, size) = (Digest::of(&content), content.len() as u64);
    let wrong = Some(Digest::of("else"));
    let error = client
        .upload_blob(&to, wrong, Cursor::new(content.clone()), None, &nobody)
        .await
        .expect_err("digest");
    assert!(
        matches!(error, RegistryError::DigestMismatch { found, .. } if found == digest),
        "{error}"
    );
    for wrong in [size - 1, size + 1, 0] {
        let outcome = client
            .upload_blob(
                &to,
                None,
                Cursor::new(content.clone()),
                Some(wrong),
                &nobody,
            )
            .await;
        assert!(
            matches!(outcome, Err(RegistryError::SizeMismatch { .. })),
            "{wrong}: {outcome:?}"
        );
    }
    assert!(
        !client
            .blob_exists(&to, &digest, &nobody)
            .await
            .expect("exists")
    );
    let failing = tokio_util::io::StreamReader::new(futures_util::stream::iter([
        Ok(bytes::Bytes::from(content)),
        Err(std::io::Error::other("disk on fire")),
    ]));
    let error = client
        .upload_blob(&to, None, failing, None, &nobody)
        .await
        .expect_err("source");
    assert!(
        matches!(&error, RegistryError::UploadSource { detail, .. } if detail == "disk on fire"),
        "{error}"
    );
    let empty = client
        .upload_blob(&to, None, Cursor::new(Vec::new()), Some(0), &nobody)
        .await
        .expect("empty");
    assert_eq!((empty.digest, empty.size), (Digest::of(""), 0));
}

#[tokio::test]
async fn a_password_is_asked_for_and_taken() {
    let Some(registry) = Registry::start(true) else {
        return;
    };
    let client = client();
    let to = reference(registry.at("private/app:v1"));
    let ann = Credentials::basic("ann", "pw");
    let (manifest, layer) = push(&client, &to, "amd64", &ann).await;
    let resolved = client.resolve(&to, &amd64(), &ann).await.expect("resolve");
    assert_eq!(resolved.top.0.digest, manifest.digest);
    assert_eq!(
        read(&client, &to, &layer, &ann).await.len() as u64,
        layer.size
    );

    // The right credentials of others must not serve those without.
    let error = client
        .resolve(&to, &amd64(), &Credentials::default())
        .await
        .expect_err("anonymous");
    assert!(
        error.to_string().starts_with("pull access denied for "),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("unauthorized: authentication required"),
        "{error}"
    );
    let error = client
        .resolve(&to, &amd64(), &Credentials::basic("ann", "no"))
        .await
        .expect_err("wrong password");
    assert!(
        matches!(error, RegistryError::Unauthorized { .. }),
        "{error}"
    );
    let outcome = client
        .upload_blob(
            &to,
            None,
            Cursor::new(vec![1]),
            None,
            &Credentials::default(),
        )
        .await;
    assert!(
        matches!(outcome, Err(RegistryError::Unauthorized { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn loopback_may_speak_tls_without_trust() {
    let Some(registry) = Registry::start_tls() else {
        return;
    };
    let (client, nobody) = (client(), Credentials::default());
    let tagged = reference(registry.at("some/app:v1"));
    let (manifest, layer) = push(&client, &tagged, "amd64", &nobody).await;
    let resolved = client
        .resolve(&tagged, &amd64(), &nobody)
        .await
        .expect("resolve");
    assert_eq!(resolved.top.0.digest, manifest.digest);
    assert_eq!(
        read(&client, &tagged, &layer, &nobody).await.len() as u64,
        layer.size
    );
}
