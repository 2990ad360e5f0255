//! The daemon itself: its configuration, its sockets and who may do what on them.

use crate::cut_starts::Parent;
use crate::harness::{Client, Daemon, PATIENCE, eventually};
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Calls a client on another socket of the same daemon.
fn call_on(d: &Daemon, client: Client, host: &str, arguments: &[&str]) -> (i32, String, String) {
    let output = d
        .command(client)
        .env("DOCKER_HOST", host)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn socket_url(d: &Daemon, name: &str) -> String {
    format!("unix://{}", d.path(name).display())
}

/// Sends a request over a unix socket and returns the whole answer.
fn raw(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(path: &Path, url: &str) -> String {
    raw(
        path,
        &format!("GET {url} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"),
    )
}

#[test]
fn flags_over_toml_over_json_and_reload() {
    let mut d = Daemon::prepared();
    d.write(
        "daemon.json",
        r#"{"labels": ["from=json"], "log-opts": {"max-size": "3m"}, "userns-remap": "default"}"#,
    );
    let toml = "log-level = \"warn\"\nlabels = [\"from=toml\"]\n";
    d.write("daemon.toml", toml);
    let files = [d.path("daemon.toml"), d.path("daemon.json")];
    d.launch_with(&[
        "--config-file",
        files[0].to_str().unwrap(),
        "--config-file",
        files[1].to_str().unwrap(),
        "--debug",
        "--log-format",
        "json",
    ]);
    d.import("busybox");
    let info = |d: &Daemon, template: &str| d.ok(Client::Wharf, &["info", "--format", template]);
    assert_eq!(
        info(&d, "{{json .Labels}} {{.Debug}}"),
        r#"["from=toml"] true"#
    );
    assert!(
        d.log()
            .contains("userns-remap has no effect: user namespaces are not supported"),
        "{}",
        d.log()
    );
    let first = d.log().lines().next().unwrap_or_default().to_owned();
    let line: serde_json::Value = serde_json::from_str(&first).expect(&first);
    assert_eq!(line["level"], "WARN");
    d.ok(Client::Wharf, "create --name one busybox");
    let log = "{{json .HostConfig.LogConfig}}";
    assert_eq!(
        d.ok(Client::Wharf, &["inspect", "--format", log, "one"]),
        r#"{"Type":"json-file","Config":{"max-size":"3m"}}"#
    );

    d.write(
        "daemon.toml",
        "labels = [\"after=reload\"]\nroot = \"/elsewhere\"\n",
    );
    d.signal(rustix::process::Signal::HUP);
    eventually("the reload", || d.log().contains("configuration reloaded"));
    assert_eq!(info(&d, "{{json .Labels}}"), r#"["after=reload"]"#);
    assert!(
        !d.log().contains("root changed"),
        "the flag wins: {}",
        d.log()
    );

    d.write("daemon.toml", "labels = [\"nokey\"]\n");
    d.signal(rustix::process::Signal::HUP);
    eventually("the refusal", || d.log().contains("the old one stays"));
    assert_eq!(info(&d, "{{json .Labels}}"), r#"["after=reload"]"#);
    let events = d.ok(
        Client::Wharf,
        "events --since 0 --until 0s --filter event=reload --format {{.Action}}",
    );
    assert_eq!(events, "reload");
}

#[test]
fn a_mistake_in_the_configuration_stops_the_start() {
    let d = Daemon::prepared();
    for (name, text, expected) in [
        ("a.toml", "debgu = true", "debgu"),
        ("b.json", r#"{"debgu": true}"#, "debgu"),
        ("c.json", "{", "c.json"),
        ("d.toml", "hosts = [\"unix:///x?policy=nope\"]", "nope"),
    ] {
        let path = d.write(name, text);
        let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
            .args(["daemon", "--validate", "--config-file"])
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(expected),
            "{name}: {said}"
        );
    }
    let good = d.write("good.toml", "debug = true");
    let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(["daemon", "--validate", "--config-file"])
        .arg(good)
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "configuration OK\n"
    );
}

#[test]
fn sockets_with_policies() {
    let mut d = Daemon::prepared();
    let address = |name: &str| d.path(name).display().to_string();
    let text = format!(
        "[[listen]]\naddress = \"unix://{}\"\n\
         [[listen]]\naddress = \"unix://{}\"\npolicy = \"read-only\"\n\
         [[listen]]\naddress = \"unix://{}\"\npolicy = \"team\"\n\
         [policy.team]\nallow = [\"all\"]\nlabel = \"team=a\"\n",
        address("wharf.sock"),
        address("ro.sock"),
        address("team.sock")
    );
    let file = d.write("daemon.toml", text);
    d.launch_bare(&["--config-file", file.to_str().unwrap()]);
    d.import("busybox");
    d.ok(Client::Wharf, "run -d --name other busybox sleep 100");

    for client in crate::harness::clients() {
        let read_only = socket_url(&d, "ro.sock");
        let (code, names, _) = call_on(&d, client, &read_only, &["ps", "--format", "{{.Names}}"]);
        assert_eq!((code, names.as_str()), (0, "other"));
        let (code, _, said) = call_on(&d, client, &read_only, &["rm", "-f", "other"]);
        assert!(
            code != 0 && said.contains("is not allowed on this socket"),
            "{said}"
        );

        let team = socket_url(&d, "team.sock");
        let (code, names, _) = call_on(&d, client, &team, &["ps", "-a", "--format", "{{.Names}}"]);
        assert_eq!((code, names.as_str()), (0, ""));
        for hidden in [
            &["inspect", "other"][..],
            &["rm", "-f", "other"],
            &["exec", "other", "true"],
        ] {
            let (_, _, said) = call_on(&d, client, &team, hidden);
            assert!(
                said.to_lowercase().contains("no such"),
                "{hidden:?}: {said}"
            );
        }
        for reaching in [
            &["run", "--rm", "--privileged", "busybox", "true"][..],
            &["run", "--rm", "-v", "/:/host", "busybox", "true"],
            &["run", "--rm", "--network", "host", "busybox", "true"],
            &["run", "--rm", "--pid", "host", "busybox", "true"],
            &[
                "volume",
                "create",
                "-o",
                "type=none",
                "-o",
                "o=bind",
                "-o",
                "device=/",
                "v",
            ],
        ] {
            let (code, _, said) = call_on(&d, client, &team, reaching);
            assert!(
                code != 0 && said.contains("not allowed on this socket"),
                "{reaching:?}: {said}"
            );
        }
        let (code, _, said) = call_on(
            &d,
            client,
            &team,
            &[
                "run",
                "--rm",
                "--network",
                "container:other",
                "busybox",
                "true",
            ],
        );
        assert!(
            code != 0 && said.contains("is not one of this socket"),
            "{said}"
        );
        let (code, id, said) = call_on(
            &d,
            client,
            &team,
            &["run", "-d", "--name", "own", "busybox", "sleep", "100"],
        );
        assert_eq!(code, 0, "{said}");
        let (_, names, _) = call_on(&d, client, &team, &["ps", "--format", "{{.Names}}"]);
        assert_eq!(names, "own");
        assert_eq!(
            d.ok(
                client,
                &["inspect", "--format", "{{.Config.Labels.team}}", &id]
            ),
            "a"
        );
        let (code, out, said) = call_on(&d, client, &team, &["exec", "own", "echo", "in"]);
        assert_eq!((code, out.as_str()), (0, "in"), "{said}");
        let (code, _, said) = call_on(&d, client, &team, &["rm", "-f", "own"]);
        assert_eq!(code, 0, "{said}");
    }
}

/// Makes an authority, a server's and a client's certificate below `directory`.
pub fn make_certificates(d: &Daemon) -> bool {
    let script = "set -e; mkdir -p tls; cd tls
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca-key.pem -out ca.pem -subj /CN=ca \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
        for name in server cert; do
            openssl req -newkey rsa:2048 -nodes -keyout $name-key.pem -out $name.csr -subj /CN=$name
            printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n' > ext
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -out $name.pem -extfile ext
        done
        mv cert-key.pem key.pem";
    let made = Command::new("sh")
        .args(["-c", script])
        .current_dir(d.path(""))
        .output()
        .unwrap();
    if !made.status.success() {
        crate::harness::skip("openssl is not installed");
    }
    made.status.success()
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn tcp_with_client_certificates_and_metrics() {
    let mut d = Daemon::prepared();
    if !make_certificates(&d) {
        return;
    }
    let (port, metrics) = (free_port(), free_port());
    let file = |name: &str| d.path("tls").join(name).display().to_string();
    let (ca, certificate, key) = (file("ca.pem"), file("server.pem"), file("server-key.pem"));
    d.launch_with(&[
        "--host",
        &format!("tcp://127.0.0.1:{port}"),
        "--tlsverify",
        "--tlscacert",
        &ca,
        "--tlscert",
        &certificate,
        "--tlskey",
        &key,
        "--metrics-addr",
        &format!("127.0.0.1:{metrics}"),
    ]);
    d.import("busybox");
    let host = format!("tcp://127.0.0.1:{port}");
    let directory = d.path("tls").display().to_string();
    for client in crate::harness::clients() {
        let with_certificate = |arguments: &[&str]| {
            d.command(client)
                .env("DOCKER_HOST", &host)
                .env("DOCKER_TLS_VERIFY", "1")
                .env("DOCKER_CERT_PATH", &directory)
                .args(arguments)
                .stdin(Stdio::null())
                .output()
                .unwrap()
        };
        let output = with_certificate(&["run", "--rm", "busybox", "echo", "over TLS"]);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "over TLS\n",
            "{client:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        // Without a certificate nobody is let in, nor in the clear.
        let ca_only = d.path("ca-only");
        std::fs::create_dir_all(&ca_only).unwrap();
        std::fs::copy(d.path("tls/ca.pem"), ca_only.join("ca.pem")).unwrap();
        let (code, _, said) = call_on(&d, client, &host, &["ps"]);
        assert_ne!(code, 0, "{client:?}: {said}");
    }
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", metrics)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    for expected in [
        "engine_daemon_container_states_containers{state=\"running\"}",
        "wharf_api_requests_total{method=\"POST\",route=\"/containers/create\",code=\"201\"}",
        "process_resident_memory_bytes",
        "# EOF",
    ] {
        assert!(text.contains(expected), "{expected} is missing in\n{text}");
    }
}

#[test]
fn tcp_in_the_clear() {
    let d = Daemon::prepared();
    let refused = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(["daemon", "--host", "tcp://0.0.0.0:0", "--root"])
        .arg(d.path("root"))
        .arg("--run-dir")
        .arg(d.path("run"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("--tlsverify"),
        "{said}"
    );

    let mut d = d;
    let port = free_port();
    d.launch_with(&["--host", &format!("tcp://127.0.0.1:{port}")]);
    assert!(d.log().contains("without TLS"));
    let ask = |header: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request =
            format!("GET /version HTTP/1.1\r\nHost: x\r\n{header}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("").starts_with("HTTP/1.1 200"));
    assert!(ask("Origin: http://evil.example\r\n").starts_with("HTTP/1.1 403"));
}

#[test]
fn sockets_passed_by_the_service_manager() {
    let mut d = Daemon::prepared();
    let listener = UnixListener::bind(d.path("wharf.sock")).unwrap();
    let notify = UnixDatagram::bind(d.path("notify.sock")).unwrap();
    notify.set_read_timeout(Some(PATIENCE)).unwrap();
    let number = listener.as_raw_fd();
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"export LISTEN_PID=$$; exec "$0" "$@""#])
        .arg(env!("CARGO_BIN_EXE_wharf"))
        .args(["daemon", "--host", "fd://wharf.socket"])
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "wharf.socket")
        .env("NOTIFY_SOCKET", d.path("notify.sock"));
    // SAFETY: only dup2 and fcntl happen between fork and exec; the descriptor is open in the child.
    unsafe {
        command.pre_exec(move || pass_as_third(number));
    }
    d.launch_command(command);
    let said = || {
        let mut buffer = [0; 512];
        let count = notify.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    assert!(said().starts_with("READY=1"));
    d.ok(Client::Wharf, "version");
    d.signal(rustix::process::Signal::HUP);
    assert!(said().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert!(said().starts_with("READY=1"));
    d.stop();
    assert!(said().starts_with("STOPPING=1"));
    // The socket is the manager's: it stays, for the next start.
    assert!(d.path("wharf.sock").exists());
    std::fs::remove_file(d.path("wharf.sock")).unwrap();
}

/// Makes an open descriptor number 3, as the service manager passes sockets.
fn pass_as_third(number: i32) -> std::io::Result<()> {
    // SAFETY: the caller's descriptor is open until exec.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    if number == 3 {
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty())?;
        return Ok(());
    }
    // SAFETY: number 3 is replaced whatever it was; it is not closed here.
    let mut third = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(3) });
    rustix::io::dup2(socket, &mut third)?;
    Ok(())
}

#[test]
fn answers_that_every_client_relies_on() {
    let d = Daemon::start();
    let socket = d.path("wharf.sock");
    let ping = raw(
        &socket,
        "HEAD /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n",
    )
    .to_lowercase();
    for header in [
        "api-version: 1.51",
        "ostype: linux",
        "docker-experimental: false",
        "swarm: inactive",
        "builder-version:",
        "cache-control: no-cache, no-store, must-revalidate",
        "pragma: no-cache",
        "content-type: text/plain; charset=utf-8",
    ] {
        assert!(ping.contains(header), "{header} is missing in\n{ping}");
    }
    for (url, status, text) in [
        (
            "/v1.23/info",
            400,
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
        ),
        (
            "/v1.99/info",
            400,
            "client version 1.99 is too new. Maximum supported API version is 1.51",
        ),
        ("/v1.51/nothing", 404, "page not found"),
        ("/info/", 404, "page not found"),
        (
            "/v1.40/swarm",
            503,
            "This node is not a swarm manager. Use \\\"docker swarm init\\\" or \\\"docker swarm join\\\" to connect this node to swarm and try again.",
        ),
        ("/nodes", 503, "not a swarm manager"),
        ("/services/x/logs?stdout=1", 503, "not a swarm manager"),
        ("/tasks", 503, "not a swarm manager"),
        ("/secrets/x", 503, "not a swarm manager"),
        ("/configs", 503, "not a swarm manager"),
        ("/swarm/unlockkey", 503, "not a swarm manager"),
        ("/plugins/x/json", 404, "plugin \\\"x\\\" not found"),
        (
            "/system/df?type=nothing",
            400,
            "unknown object type: nothing",
        ),
    ] {
        let answer = get(&socket, url);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(text),
            "{url}: {answer}"
        );
    }
    assert!(get(&socket, "/v1.24/info").starts_with("HTTP/1.1 200"));
    assert!(get(&socket, "/v1.24/info").contains("BridgeNfIptables"));
    assert!(!get(&socket, "/info").contains("BridgeNfIptables"));
}

#[test]
fn networks_follow_the_settings() {
    let mut d = Daemon::prepared();
    // Of the test's own, so that several run at once.
    let third = std::process::id() % 200;
    let settings = format!(
        r#"{{"bip": "10.232.{third}.1/24", "fixed-cidr": "10.232.{third}.128/25", "mtu": 1400,
            "default-gateway": "10.232.{third}.130", "icc": false,
            "default-address-pools": [{{"base": "10.233.{third}.0/24", "size": 27}}],
            "default-network-opts": {{"bridge": {{"com.docker.network.driver.mtu": "1300"}}}},
            "host-gateway-ips": ["192.0.2.1", "2001:db8::1"], "default-ipc-mode": "shareable"}}"#
    );
    let file = d.write("daemon.json", settings);
    d.launch_with(&["--config-file", file.to_str().unwrap()]);
    d.import("busybox");
    let ok = |arguments: &[&str]| d.ok(Client::Wharf, arguments);
    let script = "ip -4 -o addr show eth0; ip -o link show eth0; ip route; cat /etc/hosts";
    let said = ok(&[
        "run",
        "--rm",
        "--add-host",
        "gw:host-gateway",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    for part in [
        &format!("10.232.{third}.1"),
        "/24",
        "mtu 1400",
        &format!("default via 10.232.{third}.130 "),
        "192.0.2.1\tgw",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    ok(&["network", "create", "own"]);
    let shown =
        "{{(index .IPAM.Config 0).Subnet}} {{index .Options \"com.docker.network.driver.mtu\"}}";
    let own = ok(&["network", "inspect", "-f", shown, "own"]);
    assert_eq!(own, format!("10.233.{third}.0/27 1300"));
    let bridge = ok(&["network", "inspect", "-f", shown, "bridge"]);
    assert_eq!(bridge, format!("10.232.{third}.0/24 1400"));
    let shown = "{{json (index .IPAM.Config 0).AuxiliaryAddresses}} \
        {{index .Options \"com.docker.network.bridge.enable_icc\"}}";
    let bridge = ok(&["network", "inspect", "-f", shown, "bridge"]);
    let expected = format!(r#"{{"DefaultGatewayIPv4":"10.232.{third}.130"}} false"#);
    assert_eq!(bridge, expected);
    let info = ok(&["info"]);
    assert!(
        info.contains(&format!("Base: 10.233.{third}.0/24, Size: 27")),
        "{info}"
    );
    let id = ok(&["create", "busybox"]);
    assert_eq!(
        ok(&["inspect", "-f", "{{.HostConfig.IpcMode}}", &id]),
        "shareable"
    );
    // Other settings count from the next start on.
    d.stop();
    d.launch();
    let bridge = d.ok(
        Client::Wharf,
        "network inspect -f '{{(index .IPAM.Config 0).Subnet}}' bridge",
    );
    assert!(!bridge.starts_with("10.232."), "{bridge}");
}

#[test]
fn containers_follow_the_settings() {
    let mut d = Daemon::prepared();
    let parent = Parent(format!("/wharf-set-{}", std::process::id()));
    let group = &parent.0;
    let denies = d.write(
        "seccomp.json",
        r#"{"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#,
    );
    let settings = format!(
        r#"{{"default-ulimits": {{"nofile": {{"Name": "nofile", "Hard": 77, "Soft": 55}}}},
            "default-shm-size": "8M", "default-cgroupns-mode": "host", "cgroup-parent": "{group}",
            "no-new-privileges": true, "init": true, "ip": "127.0.0.1", "dns": ["192.0.2.53"],
            "dns-opts": ["ndots:3"], "dns-search": ["set.example"], "seccomp-profile": {:?}, "pidfile": {:?},
            "log-driver": "local", "max-concurrent-downloads": 2}}"#,
        denies.display().to_string(),
        d.path("pid").display().to_string(),
    );
    let file = d.write("daemon.json", settings);
    d.launch_with(&["--config-file", file.to_str().unwrap()]);
    d.import("busybox");
    let pid = std::fs::read_to_string(d.path("pid")).unwrap();
    assert_eq!(pid.trim().parse().ok(), d.running_pid());
    for client in crate::harness::clients() {
        let script =
            "ulimit -n; ulimit -Hn; df -k /dev/shm | awk 'NR == 2 {print $2}'; cat /proc/1/comm
            grep NoNewPrivs /proc/self/status; cat /proc/self/cgroup; cat /etc/resolv.conf
            mkdir /made || echo no directory; exec sleep 1000";
        let run = [
            "run", "-d", "-p", "80", "--name", "set", "busybox", "sh", "-c",
        ];
        d.ok(client, &[&run[..], &[script]].concat());
        let mut said = String::new();
        eventually("the container said all", || {
            said = d.ok(client, "logs set");
            said.contains("no directory")
        });
        assert!(said.starts_with("55\n77\n8192\n"), "{said}");
        for part in [
            "NoNewPrivs:\t1",
            &format!("{group}/"),
            "nameserver 192.0.2.53",
            "options ndots:3",
            "search set.example",
        ] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        assert!(
            !said.contains("\nsh\n"),
            "the first process is an init: {said}"
        );
        let port = d.ok(client, "port set 80");
        assert!(
            port.starts_with("127.0.0.1:") && !port.contains('\n'),
            "{port}"
        );
        let driver = d.ok(client, "inspect -f {{.HostConfig.LogConfig.Type}} set");
        assert_eq!(driver, "local");
        d.ok(client, "rm -f set");
    }
    d.stop();
    assert!(!d.path("pid").exists());
}

/// Returns an OCI runtime program that can make containers here.
fn runtime_program() -> Option<std::path::PathBuf> {
    let named = std::env::var("WHARF_TEST_RUNTIMES").unwrap_or_default();
    let named = named.split(':').next().filter(|name| !name.is_empty());
    let usual = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc"];
    let mut candidates = named.into_iter().chain(usual);
    let found = candidates.find(|path| Path::new(path).exists());
    if found.is_none() {
        crate::harness::skip("runc is not installed (set WHARF_TEST_RUNTIMES to its path)");
    }
    found.map(Into::into)
}

#[test]
fn containers_are_made_by_the_runtime_they_ask_for() {
    let Some(program) = runtime_program() else {
        return;
    };
    let mut d = Daemon::prepared();
    let settings = format!(
        r#"{{"runtimes": {{"mine": {{"path": {:?}}}}}, "init-path": {:?}}}"#,
        program.display().to_string(),
        // A small init is a program that runs another: this one says so before.
        d.write("init", "#!/bin/sh\necho init $1\nshift\nexec \"$@\"\n")
            .display()
            .to_string()
    );
    let file = d.write("daemon.json", settings);
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(d.path("init"), executable).unwrap();
    d.launch_with(&["--config-file", file.to_str().unwrap()]);
    d.import("busybox");
    for client in crate::harness::clients() {
        let listed = d.ok(client, "info -f '{{json .Runtimes}}'");
        assert!(listed.contains(r#""mine""#), "{listed}");
        let script = "read line; echo got $line; cat /etc/hostname; exit 7";
        let run = [
            "run",
            "-i",
            "--runtime",
            "mine",
            "-h",
            "named",
            "-m",
            "64m",
            "--name",
            "cc",
            "-p",
            "80",
            "-v",
            "v:/v",
            "busybox",
            "sh",
            "-c",
            script,
        ];
        let ran = d.call_with_input(client, &run, b"word\n");
        assert_eq!(
            (ran.code, ran.stdout.trim_end()),
            (7, "got word\nnamed"),
            "{}",
            ran.stderr
        );
        assert_eq!(
            d.ok(client, "inspect -f {{.HostConfig.Runtime}} cc"),
            "mine"
        );
        d.ok(client, "rm -v cc");
        let with_init = ["run", "--rm", "--init", "--runtime", "mine", "busybox"];
        let with_init = [&with_init[..], &["sh", "-c", "echo ran; exit 3"]].concat();
        let ran = d.call(client, &with_init);
        let found = (ran.code, ran.stdout.as_str());
        assert_eq!(found, (3, "init --\nran\n"), "{}", ran.stderr);
        d.ok(client, "run -d --runtime mine --name ss busybox sleep 1000");
        assert_eq!(d.ok(client, "exec ss echo inside"), "inside");
        d.fails(client, "exec ss /nope", 127, "no such file or directory");
        d.ok(client, "pause ss");
        d.ok(client, "unpause ss");
        d.ok(client, "stop -t 0 ss");
        assert_eq!(d.ok(client, "inspect -f {{.State.ExitCode}} ss"), "137");
        d.ok(client, "start ss");
        d.ok(client, "rm -f ss");
        d.fails(
            client,
            "run --rm --runtime mine busybox nope",
            127,
            "executable file not found in $PATH",
        );
        d.fails(
            client,
            "run --rm --runtime nosuch busybox true",
            125,
            "unknown or invalid runtime name: nosuch",
        );
        d.ok(client, "volume prune -f -a");
    }
}
