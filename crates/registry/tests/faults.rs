//! What a faulty or hostile registry may do, and what the client makes of it.

#![allow(
    clippy::disallowed_methods,
    reason = "a test prepares its files itself"
)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::script::{Reply, Request, Server};
use support::{amd64, client, reference};
use tokio::io::AsyncReadExt as _;
use wharf_image::{Descriptor, Digest, media_type};
use wharf_registry::{Client, ClientOptions, Credentials, MAX_DOCUMENT_BYTES, RegistryError};

fn nobody() -> Credentials {
    Credentials::default()
}

fn blob(content: &[u8]) -> Descriptor {
    let text = format!(
        r#"{{"digest":"{}","size":{}}}"#,
        Digest::of(content),
        content.len()
    );
    serde_json::from_str(&text).expect("descriptor")
}

const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux"}"#;

fn manifest() -> Vec<u8> {
    let config = Digest::of(CONFIG);
    format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{config}","size":{}}},"layers":[]}}"#,
        CONFIG.len()
    )
    .into_bytes()
}

/// Answers as a registry with one small image under any name.
fn small_registry(request: &Request) -> Reply {
    if request.target.contains("/blobs/") {
        return Reply::new(200, CONFIG);
    }
    Reply::new(200, manifest()).with("Content-Type", media_type::OCI_MANIFEST)
}

async fn read(
    client: &Client,
    server: &Server,
    blob: &Descriptor,
) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    let mut stream = client
        .fetch_blob(&reference(server.at("app")), blob, &nobody())
        .await?;
    match stream.read_to_end(&mut bytes).await {
        Ok(_) => Ok(bytes),
        Err(error) => Err(RegistryError::from_io(error, "")),
    }
}

async fn resolve(server: &Server) -> Result<wharf_registry::Resolved, RegistryError> {
    client()
        .resolve(&reference(server.at("app:v1")), &amd64(), &nobody())
        .await
}

/// Answers with a challenge to itself unless the right token is there, and gives tokens out.
fn token_registry(request: &Request) -> Reply {
    if request.target.starts_with("/token") {
        let body = request.body.contains("refresh_token=idt");
        let basic = request.header("authorization") == Some("Basic YW5uOnB3");
        return if body || basic {
            Reply::new(200, r#"{"token":"good","expires_in":300}"#)
        } else {
            Reply::new(401, r#"{"details":"incorrect username or password"}"#)
        };
    }
    if request.header("authorization") == Some("Bearer good") {
        return small_registry(request);
    }
    let host = request.header("host").unwrap_or_default();
    let challenge =
        format!(r#"Bearer realm="http://{host}/token",service="svc",scope="repository:app:pull""#);
    Reply::new(
        401,
        r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
    )
    .with("WWW-Authenticate", challenge)
}

#[tokio::test]
async fn tokens_are_fetched_once_per_wish() {
    let server = Server::start(token_registry).await;
    let client = client();
    let app = reference(server.at("app:v1"));
    let ann = Credentials::basic("ann", "pw");
    for _ in 0..2 {
        client.resolve(&app, &amd64(), &ann).await.expect("resolve");
    }
    let requests = server.requests();
    let tokens: Vec<&Request> = requests
        .iter()
        .filter(|request| request.target.starts_with("/token"))
        .collect();
    assert_eq!(tokens.len(), 1, "{requests:?}");
    assert_eq!(
        tokens[0].target,
        "/token?service=svc&scope=repository%3Aapp%3Apull"
    );

    client
        .mount_blob(&app, &Digest::of("x"), &reference(server.at("base")), &ann)
        .await
        .expect_err("200 is no mount");
    let requests = server.requests();
    let scopes =
        "/token?service=svc&scope=repository%3Aapp%3Apull%2Cpush&scope=repository%3Abase%3Apull";
    assert!(
        requests.iter().any(|request| request.target == scopes),
        "{requests:?}"
    );
}

#[tokio::test]
async fn identity_and_registry_tokens_are_used() {
    let server = Server::start(token_registry).await;
    let app = reference(server.at("app:v1"));
    let identity = Credentials {
        identity_token: Some("idt".to_owned()),
        ..nobody()
    };
    client()
        .resolve(&app, &amd64(), &identity)
        .await
        .expect("identity token");
    let requests = server.requests();
    let token = requests
        .iter()
        .find(|request| request.target == "/token")
        .expect("token request");
    assert_eq!(token.method, "POST");
    assert_eq!(
        token.body,
        "grant_type=refresh_token&service=svc&client_id=wharf&scope=repository%3Aapp%3Apull&refresh_token=idt"
    );
    let registry = Credentials {
        registry_token: Some("good".to_owned()),
        ..nobody()
    };
    let server = Server::start(token_registry).await;
    let app = reference(server.at("app:v1"));
    client()
        .resolve(&app, &amd64(), &registry)
        .await
        .expect("registry token");
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.header("authorization") == Some("Bearer good"))
    );
}

#[tokio::test]
async fn refused_credentials_are_said() {
    let server = Server::start(token_registry).await;
    let app = reference(server.at("app:v1"));
    let wrong = Credentials::basic("ann", "wrong");
    let error = client()
        .resolve(&app, &amd64(), &wrong)
        .await
        .expect_err("wrong password");
    let expected = "incorrect username or password: log in to ";
    assert!(error.to_string().starts_with(expected), "{error}");
    let error = client()
        .resolve(&app, &amd64(), &nobody())
        .await
        .expect_err("anonymous");
    assert!(
        error.to_string().starts_with("pull access denied for "),
        "{error}"
    );
    let server = Server::start(|_| {
        Reply::new(
            403,
            r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#,
        )
    });
    let error = resolve(&server.await).await.expect_err("denied");
    let expected = "repository does not exist or may require 'docker login': denied: requested access to the resource is denied";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[tokio::test]
async fn expired_tokens_are_replaced() {
    static ISSUED: AtomicUsize = AtomicUsize::new(0);
    let server = Server::start(|request| {
        if request.target.starts_with("/token") {
            let number = ISSUED.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::new(
                200,
                format!(r#"{{"access_token":"t{number}","expires_in":3600}}"#),
            );
        }
        // Each token is refused after its first use for a manifest.
        let newest = format!("Bearer t{}", ISSUED.load(Ordering::SeqCst));
        if request.header("authorization") == Some(newest.as_str())
            && !request.target.ends_with("/again")
        {
            return small_registry(request);
        }
        ISSUED.fetch_add(1, Ordering::SeqCst);
        let host = request.header("host").unwrap_or_default();
        Reply::new(401, "").with(
            "WWW-Authenticate",
            format!(r#"Bearer realm="http://{host}/token""#),
        )
    })
    .await;
    let client = client();
    client
        .resolve(&reference(server.at("app:v1")), &amd64(), &nobody())
        .await
        .expect("first");
    ISSUED.fetch_add(1, Ordering::SeqCst);
    client
        .resolve(&reference(server.at("app:v1")), &amd64(), &nobody())
        .await
        .expect("second");
    // A registry that refuses for ever is asked twice, not for ever.
    let error = client
        .resolve(&reference(server.at("app:again")), &amd64(), &nobody())
        .await
        .expect_err("refused");
    assert!(matches!(error, RegistryError::PullDenied { .. }), "{error}");
}

#[tokio::test]
async fn wrong_digests_and_sizes_are_found() {
    let server = Server::start(|_| Reply::new(200, "wrong")).await;
    let error = read(&client(), &server, &blob(b"right"))
        .await
        .expect_err("digest");
    assert!(
        matches!(error, RegistryError::DigestMismatch { found, .. } if found == Digest::of("wrong")),
        "{error}"
    );
    let server = Server::start(|_| Reply::new(200, "right and more")).await;
    let error = read(&client(), &server, &blob(b"right"))
        .await
        .expect_err("too long");
    assert!(
        matches!(error, RegistryError::SizeMismatch { expected: 5, .. }),
        "{error}"
    );
    let server = Server::start(|_| Reply::new(200, "rig")).await;
    let error = read(&client(), &server, &blob(b"right"))
        .await
        .expect_err("too short");
    assert!(
        matches!(
            error,
            RegistryError::SizeMismatch {
                expected: 5,
                found: 3,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn broken_downloads_are_taken_up_again() {
    const CONTENT: &[u8] = b"0123456789";
    for honours_range in [true, false] {
        let server = Server::start(move |request| {
            let range = request
                .header("range")
                .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
            let start: usize = range.map_or(0, |start| start.parse().expect("number"));
            if start == 0 {
                return Reply::new(200, &CONTENT[..3]).claiming(Some(CONTENT.len()));
            }
            // Breaks off once more, then gives the rest.
            let end = if start == 3 { 7 } else { CONTENT.len() };
            if honours_range {
                let range = format!("bytes {start}-{}/{}", CONTENT.len() - 1, CONTENT.len());
                Reply::new(206, &CONTENT[start..end])
                    .claiming(Some(CONTENT.len() - start))
                    .with("Content-Range", range)
            } else {
                Reply::new(200, &CONTENT[..end]).claiming(Some(CONTENT.len()))
            }
        })
        .await;
        assert_eq!(
            read(&client(), &server, &blob(CONTENT))
                .await
                .expect("content"),
            CONTENT,
            "{honours_range}"
        );
        let requests = server.requests();
        let ranges: Vec<Option<&str>> = requests
            .iter()
            .map(|request| request.header("range"))
            .collect();
        assert_eq!(ranges, [None, Some("bytes=3-"), Some("bytes=7-")]);
    }
    let server = Server::start(|request| match request.header("range") {
        None => Reply::new(200, &CONTENT[..3]).claiming(Some(CONTENT.len())),
        Some(_) => Reply::new(206, &CONTENT[5..]).with("Content-Range", "bytes 5-9/10"),
    });
    let error = read(&client(), &server.await, &blob(CONTENT))
        .await
        .expect_err("wrong range");
    assert!(matches!(error, RegistryError::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn downloads_that_never_go_on_are_given_up() {
    let server = Server::start(|_| Reply::new(200, "012").claiming(Some(10))).await;
    let error = read(&client(), &server, &blob(b"0123456789"))
        .await
        .expect_err("truncated");
    assert!(matches!(error, RegistryError::Connect { .. }), "{error}");
}

#[tokio::test]
async fn oversized_documents_are_refused() {
    let huge = vec![b' '; usize::try_from(MAX_DOCUMENT_BYTES).expect("size") + 1];
    for claimed in [Some(huge.len()), None] {
        let huge = huge.clone();
        let server = Server::start(move |_| Reply::new(200, huge.clone()).claiming(claimed)).await;
        let error = resolve(&server).await.expect_err("manifest");
        assert!(
            matches!(
                error,
                RegistryError::TooLarge {
                    limit_bytes: MAX_DOCUMENT_BYTES,
                    ..
                }
            ),
            "{error}"
        );
    }
    let server = Server::start(|_| {
        let digest = Digest::of("x");
        let size = MAX_DOCUMENT_BYTES + 1;
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":{size}}},"layers":[]}}"#
        );
        Reply::new(200, text)
    })
    .await;
    let error = resolve(&server).await.expect_err("config");
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn manifests_are_verified() {
    let other = Digest::of("other").to_string();
    let lying = move |request: &Request| {
        small_registry(request).with("Docker-Content-Digest", other.clone())
    };
    let error = resolve(&Server::start(lying).await)
        .await
        .expect_err("header");
    assert!(
        matches!(error, RegistryError::DigestMismatch { .. }),
        "{error}"
    );
    let malformed =
        |request: &Request| small_registry(request).with("Docker-Content-Digest", "sha256:../../x");
    let error = resolve(&Server::start(malformed).await)
        .await
        .expect_err("malformed header");
    assert!(matches!(error, RegistryError::Protocol { .. }), "{error}");

    let server = Server::start(small_registry).await;
    let by_digest = reference(server.at("app")).with_digest(Digest::of("other"));
    let error = client()
        .resolve(&by_digest, &amd64(), &nobody())
        .await
        .expect_err("digest");
    assert!(
        matches!(error, RegistryError::DigestMismatch { .. }),
        "{error}"
    );

    for body in [
        r#"{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}"#,
        r#"{"schemaVersion":1,"fsLayers":[]}"#,
        "<html></html>",
        "",
    ] {
        let server = Server::start(move |_| {
            Reply::new(200, body).with("Content-Type", media_type::OCI_INDEX)
        })
        .await;
        let error = resolve(&server).await.expect_err(body);
        assert!(
            matches!(error, RegistryError::Document { .. }),
            "{body}: {error}"
        );
    }
}

#[tokio::test]
async fn generic_content_types_are_looked_into() {
    let server = Server::start(|request| {
        let mut reply = small_registry(request);
        reply.headers.clear();
        reply.with("Content-Type", "application/json; charset=utf-8")
    });
    let resolved = resolve(&server.await).await.expect("resolve");
    assert_eq!(resolved.top.0.media_type, media_type::OCI_MANIFEST);
}

#[tokio::test]
async fn indexes_in_indexes_are_followed_to_a_depth() {
    for (depth, is_taken) in [(0, true), (4, true), (5, false)] {
        let mut top = manifest();
        let mut documents = vec![top.clone()];
        for _ in 0..depth {
            let (digest, size) = (Digest::of(&top), top.len());
            // No media type: what the entry is shows only when it is fetched.
            let platform = r#""platform":{"os":"linux","architecture":"amd64"}"#;
            top = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}","size":{size},{platform}}}]}}"#).into();
            documents.push(top.clone());
        }
        let server = Server::start(move |request| {
            let by_digest =
                |document: &&Vec<u8>| request.target.ends_with(&Digest::of(document).to_string());
            match documents.iter().find(by_digest) {
                Some(document) => Reply::new(200, document.clone()),
                None if request.target.contains("/blobs/") => Reply::new(200, CONFIG),
                None => Reply::new(200, top.clone()),
            }
        });
        let outcome = resolve(&server.await).await;
        assert_eq!(outcome.is_ok(), is_taken, "{depth}: {outcome:?}");
    }
}

#[tokio::test]
async fn entries_without_platform_are_judged_by_their_config() {
    for (architecture, is_taken) in [("amd64", true), ("s390x", false)] {
        let config = format!(r#"{{"architecture":"{architecture}","os":"linux"}}"#);
        let (digest, size) = (Digest::of(&config), config.len());
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":{size}}},"layers":[]}}"#
        );
        let (digest, size) = (Digest::of(&manifest), manifest.len());
        let index =
            format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}","size":{size}}}]}}"#);
        let server = Server::start(move |request| match request.target.as_str() {
            target if target.contains("/blobs/") => Reply::new(200, config.clone()),
            target if target.ends_with(&digest.to_string()) => Reply::new(200, manifest.clone()),
            _ => Reply::new(200, index.clone()),
        });
        let outcome = resolve(&server.await).await;
        assert_eq!(outcome.is_ok(), is_taken, "{architecture}: {outcome:?}");
    }
}

#[tokio::test]
async fn credentials_do_not_follow_redirects_to_other_hosts() {
    let target = Server::start(|_| Reply::new(200, "content")).await;
    let to = target.url("/elsewhere?sig=1");
    let server = Server::start(move |request| {
        if request.header("authorization").is_none() {
            return Reply::new(401, "").with("WWW-Authenticate", "Basic realm=x");
        }
        match request.target.contains("/hop/") {
            true => Reply::new(307, "").with("Location", to.clone()),
            false => Reply::new(302, "").with("Location", "/hop/"),
        }
    })
    .await;
    let ann = Credentials::basic("ann", "pw");
    let mut stream = client()
        .fetch_blob(&reference(server.at("app")), &blob(b"content"), &ann)
        .await
        .expect("blob");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("content");
    assert_eq!(text, "content");
    let last = server.requests().pop().expect("request");
    assert_eq!(
        (last.target.as_str(), last.header("authorization")),
        ("/hop/", Some("Basic YW5uOnB3"))
    );
    let seen = target.requests();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].target.as_str(), seen[0].header("authorization")),
        ("/elsewhere?sig=1", None)
    );
}

#[tokio::test]
async fn redirects_end() {
    let server =
        Server::start(|request| Reply::new(302, "").with("Location", request.target.clone())).await;
    let error = read(&client(), &server, &blob(b"x"))
        .await
        .expect_err("loop");
    assert!(
        matches!(
            error,
            RegistryError::Redirect {
                reason: "too many redirects",
                ..
            }
        ),
        "{error}"
    );
    for location in [
        "http://registry.example/x",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
    ] {
        let server = Server::start(move |_| Reply::new(302, "").with("Location", location)).await;
        let error = read(&client(), &server, &blob(b"x"))
            .await
            .expect_err(location);
        assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
    }
}

#[tokio::test]
async fn upload_sessions_at_other_hosts_see_no_credentials() {
    let target = Server::start(|request| match request.method.as_str() {
        "PUT" => Reply::new(201, ""),
        _ => Reply::new(202, "").with("Location", "/session/2"),
    })
    .await;
    let session = target.url("/session/1?state=s");
    let server = Server::start(move |request| match request.header("authorization") {
        None => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=x"),
        Some(_) => Reply::new(202, "").with("Location", session.clone()),
    })
    .await;
    let ann = Credentials::basic("ann", "pw");
    let content = std::io::Cursor::new(b"content".to_vec());
    let app = reference(server.at("app"));
    let uploaded = client()
        .upload_blob(&app, None, content, Some(7), &ann)
        .await
        .expect("upload");
    assert_eq!((uploaded.digest, uploaded.size), (Digest::of("content"), 7));
    let seen = target.requests();
    assert_eq!(
        (
            seen[0].method.as_str(),
            seen[0].target.as_str(),
            seen[0].body.as_str()
        ),
        ("PATCH", "/session/1?state=s", "content")
    );
    assert!(
        seen[1].target.starts_with("/session/2?digest=sha256%3A"),
        "{}",
        seen[1].target
    );
    assert!(
        seen.iter()
            .all(|request| request.header("authorization").is_none())
    );
}

#[tokio::test]
async fn overload_is_waited_out() {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let server = Server::start(|request| match COUNT.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(503, ""),
        1 => Reply::new(429, "").with("Retry-After", "0"),
        _ => small_registry(request),
    });
    resolve(&server.await).await.expect("third attempt");
}

#[tokio::test]
async fn lasting_overload_is_reported() {
    let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow\u001b[31m down"}]}"#;
    let server = Server::start(move |_| Reply::new(429, body).with("Retry-After", "3600")).await;
    let error = resolve(&server).await.expect_err("rate limit");
    assert_eq!(server.requests().len(), 1, "an hour is not waited for");
    assert_eq!(
        error.to_string(),
        format!(
            "toomanyrequests: slow [31m down: {} limits the rate of requests, try again in 3600 s",
            server.address
        )
    );
    let server = Server::start(|_| Reply::new(500, "oops")).await;
    let error = resolve(&server).await.expect_err("broken");
    assert_eq!(server.requests().len(), 3);
    assert_eq!(
        error.to_string(),
        format!("{} failed to give the manifest: status 500", server.address)
    );
}

#[tokio::test]
async fn tag_lists_are_followed_page_by_page() {
    let server = Server::start(|request| match request.target.as_str() {
        "/v2/app/tags/list?n=1000" => Reply::new(200, r#"{"tags":["a"]}"#)
            .with("Link", r#"</v2/app/tags/list?n=1000&last=a>; rel="next""#),
        "/v2/app/tags/list?n=1000&last=a" => Reply::new(200, r#"{"tags":["b"]}"#),
        "/v2/none/tags/list?n=1000" => Reply::new(200, r#"{"name":"none","tags":null}"#),
        _ => Reply::new(200, "{}").with("Link", r#"<http://127.0.0.1:1/x>; rel="next""#),
    })
    .await;
    let tags = async |path: &str| client().tags(&reference(server.at(path)), &nobody()).await;
    assert_eq!(tags("app").await.expect("tags"), ["a", "b"]);
    assert_eq!(tags("none").await.expect("tags"), [""; 0]);
    let error = tags("away").await.expect_err("other host");
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
}

#[tokio::test]
async fn refused_connections_are_said() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("port");
    let absent = reference(format!("{free}/app"));
    let error = client()
        .resolve(&absent, &amd64(), &nobody())
        .await
        .expect_err("nobody listens");
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot reach registry {free}: ")),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .to_lowercase()
            .contains("connection refused"),
        "{error}"
    );
}

#[tokio::test]
async fn bad_addresses_and_options_are_refused() {
    let error = client()
        .resolve(&reference("foo_bar.com/x"), &amd64(), &nobody())
        .await
        .expect_err("no domain");
    assert!(matches!(error, RegistryError::Address { .. }), "{error}");
    let options = ClientOptions {
        insecure_registries: vec!["http://x".to_owned()],
        ..ClientOptions::default()
    };
    assert!(matches!(
        Client::new(options),
        Err(RegistryError::Setup { .. })
    ));
}

#[tokio::test]
async fn silent_servers_time_out() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    let address = listener.local_addr().expect("address");
    let options = ClientOptions {
        attempts: 1,
        read_timeout: Duration::from_millis(200),
        ..ClientOptions::default()
    };
    let client = Client::new(options).expect("client");
    let silent = reference(format!("{address}/app"));
    let error = client
        .resolve(&silent, &amd64(), &nobody())
        .await
        .expect_err("silence");
    assert!(matches!(error, RegistryError::Connect { .. }), "{error}");
}
