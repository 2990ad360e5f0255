//! Every field of the body of `POST /containers/create`: each is honoured, refused, or without effect as with
//! docker. A field that is known and dropped in silence is a defect.

use crate::harness::{Client, Daemon};
use crate::raw::call;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What becomes of a field.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// The OCI runtime spec has this text, and without the field it has not.
    Spec(&'static str),
    /// The spec lacks this text, and without the field it has it.
    NotInSpec(&'static str),
    /// It comes back from inspect; what the engine itself does by it is shown by another test.
    Kept,
    /// The create call fails with this status and text.
    Refused(u16, &'static str),
    /// The start fails with this text.
    RefusedAtStart(&'static str),
    /// It is discarded with this warning.
    Warned(&'static str),
    /// Docker takes it and does nothing by it on Linux; so do we.
    NoEffect,
}

use Fate::{Kept, NoEffect, NotInSpec, Refused, RefusedAtStart, Spec, Warned};

/// Where the keys of `HostConfig` lie.
const FIELDS: &str = "HostConfig.";

/// Returns each field with a value and its fate.
fn fields() -> Vec<(&'static str, Value, Fate)> {
    let mount = |more: Value| {
        let mut mount = json!({"Type": "bind", "Source": "/tmp", "Target": "/m"});
        for (key, value) in more.as_object().unwrap() {
            mount[key] = value.clone();
        }
        json!([mount])
    };
    let device = "/dev/null";
    vec![
        ("Hostname", json!("h1"), Spec(r#""hostname":"h1""#)),
        ("Domainname", json!("d1"), Spec(r#""domainname":"d1""#)),
        ("User", json!("1234"), Spec(r#""uid":1234"#)),
        ("AttachStdin", json!(true), Kept),
        ("AttachStdout", json!(true), Kept),
        ("AttachStderr", json!(true), Kept),
        ("ExposedPorts", json!({"81/tcp": {}}), Kept),
        ("Tty", json!(true), Spec(r#""terminal":true"#)),
        ("OpenStdin", json!(true), Kept),
        ("StdinOnce", json!(true), Kept),
        ("Env", json!(["A9=1"]), Spec("A9=1")),
        ("Cmd", json!(["x1"]), Spec(r#""x1""#)),
        ("Healthcheck", json!({"Test": ["CMD", "true"]}), Kept),
        ("ArgsEscaped", json!(true), NoEffect),
        (
            "Image",
            json!("nosuch"),
            Refused(404, "No such image: nosuch"),
        ),
        ("Volumes", json!({"/v9": {}}), Spec("/v9")),
        ("WorkingDir", json!("/w9"), Spec("/w9")),
        ("Entrypoint", json!(["/e9"]), Spec("/e9")),
        ("NetworkDisabled", json!(true), Kept),
        ("MacAddress", json!("02:42:0a:00:00:09"), Kept),
        ("OnBuild", json!(["RUN true"]), Kept),
        ("Labels", json!({"a": "b"}), Kept),
        ("StopSignal", json!("INT"), Kept),
        ("StopTimeout", json!(3), Kept),
        ("Shell", json!(["/s"]), Kept),
        ("HostConfig.Binds", json!(["/tmp:/b9"]), Spec("/b9")),
        ("HostConfig.ContainerIDFile", json!("/x"), Kept),
        (
            "HostConfig.LogConfig",
            json!({"Type": "local", "Config": {}}),
            Kept,
        ),
        (
            "HostConfig.LogConfig",
            json!({"Type": "gelf", "Config": {}}),
            Refused(400, "gelf"),
        ),
        (
            "HostConfig.NetworkMode",
            json!("host"),
            NotInSpec(r#""type":"network""#),
        ),
        (
            "HostConfig.PortBindings",
            json!({"80/tcp": [{"HostIp": "", "HostPort": "18080"}]}),
            Kept,
        ),
        (
            "HostConfig.RestartPolicy",
            json!({"Name": "on-failure", "MaximumRetryCount": 2}),
            Kept,
        ),
        ("HostConfig.AutoRemove", json!(true), Kept),
        ("HostConfig.VolumeDriver", json!("local"), Kept),
        ("HostConfig.VolumesFrom", json!(["base"]), Spec("/of-base")),
        ("HostConfig.ConsoleSize", json!([11, 22]), Kept),
        (
            "HostConfig.Annotations",
            json!({"k9": "v9"}),
            Spec(r#""k9":"v9""#),
        ),
        (
            "HostConfig.CapAdd",
            json!(["SYS_TIME"]),
            Spec("CAP_SYS_TIME"),
        ),
        ("HostConfig.CapDrop", json!(["KILL"]), NotInSpec("CAP_KILL")),
        (
            "HostConfig.CgroupnsMode",
            json!("private"),
            Spec(r#""type":"cgroup"}"#),
        ),
        ("HostConfig.Dns", json!(["10.0.0.2"]), Kept),
        ("HostConfig.DnsOptions", json!(["ndots:1"]), Kept),
        ("HostConfig.DnsSearch", json!(["example.com"]), Kept),
        ("HostConfig.ExtraHosts", json!(["other:10.0.0.1"]), Kept),
        ("HostConfig.GroupAdd", json!(["4242"]), Spec("4242")),
        (
            "HostConfig.IpcMode",
            json!("host"),
            NotInSpec(r#""type":"ipc""#),
        ),
        ("HostConfig.Cgroup", json!("x"), NoEffect),
        ("HostConfig.Links", json!(["base:al"]), Kept),
        (
            "HostConfig.OomScoreAdj",
            json!(501),
            Spec(r#""oomScoreAdj":501"#),
        ),
        (
            "HostConfig.PidMode",
            json!("host"),
            NotInSpec(r#""type":"pid""#),
        ),
        ("HostConfig.Privileged", json!(true), Spec("CAP_SYS_BOOT")),
        ("HostConfig.PublishAllPorts", json!(true), Kept),
        (
            "HostConfig.ReadonlyRootfs",
            json!(true),
            Spec(r#""readonly":true"#),
        ),
        (
            "HostConfig.SecurityOpt",
            json!(["no-new-privileges"]),
            Spec(r#""noNewPrivileges":true"#),
        ),
        (
            "HostConfig.SecurityOpt",
            json!(["seccomp=unconfined"]),
            NotInSpec("SCMP_ACT_ERRNO"),
        ),
        (
            "HostConfig.SecurityOpt",
            json!(["nonsense=x"]),
            Refused(500, "invalid --security-opt 2"),
        ),
        (
            "HostConfig.StorageOpt",
            json!({"size": "1G"}),
            Refused(500, "--storage-opt is supported only for overlay over xfs"),
        ),
        ("HostConfig.Tmpfs", json!({"/t9": "size=1m"}), Spec("/t9")),
        (
            "HostConfig.UTSMode",
            json!("host"),
            NotInSpec(r#""type":"uts""#),
        ),
        ("HostConfig.UsernsMode", json!("host"), Kept),
        (
            "HostConfig.UsernsMode",
            json!("private"),
            Refused(400, "invalid user namespace mode"),
        ),
        ("HostConfig.ShmSize", json!(1_048_576), Spec("size=1048576")),
        (
            "HostConfig.Sysctls",
            json!({"kernel.msgmax": "1009"}),
            Spec("1009"),
        ),
        (
            "HostConfig.Runtime",
            json!("nosuch"),
            Refused(400, "unknown or invalid runtime name: nosuch"),
        ),
        (
            "HostConfig.Isolation",
            json!("hyperv"),
            Refused(400, "linux only supports 'default'"),
        ),
        ("HostConfig.CpuShares", json!(513), Spec(r#""shares":513"#)),
        (
            "HostConfig.Memory",
            json!(67_108_864),
            Spec(r#""limit":67108864"#),
        ),
        (
            "HostConfig.NanoCpus",
            json!(500_000_000),
            Spec(r#""quota":50000"#),
        ),
        ("HostConfig.CgroupParent", json!("/p9"), Spec(r#""/p9/"#)),
        (
            "HostConfig.CpuPeriod",
            json!(50_000),
            Spec(r#""period":50000"#),
        ),
        (
            "HostConfig.CpuQuota",
            json!(20_000),
            Spec(r#""quota":20000"#),
        ),
        ("HostConfig.CpusetCpus", json!("0"), Spec(r#""cpus":"0""#)),
        ("HostConfig.CpusetMems", json!("0"), Spec(r#""mems":"0""#)),
        (
            "HostConfig.Devices",
            json!([{"PathOnHost": device, "PathInContainer": "/dev/x9", "CgroupPermissions": "r"}]),
            Spec("/dev/x9"),
        ),
        (
            "HostConfig.DeviceCgroupRules",
            json!(["c 42:* rmw"]),
            Spec(r#""major":42"#),
        ),
        (
            "HostConfig.DeviceRequests",
            json!([{"Driver": "nvidia", "Count": 1, "Capabilities": [["gpu"]]}]),
            RefusedAtStart("could not select device driver"),
        ),
        // Gone from Linux; docker drops it from version 1.42 on.
        ("HostConfig.KernelMemory", json!(50_000_000), NoEffect),
        (
            "HostConfig.KernelMemoryTCP",
            json!(50_000_000),
            Refused(501, "KernelMemoryTCP"),
        ),
        (
            "HostConfig.MemoryReservation",
            json!(33_554_432),
            Spec(r#""reservation":33554432"#),
        ),
        ("HostConfig.MemorySwap", json!(-1), Spec(r#""swap":-1"#)),
        (
            "HostConfig.MemorySwappiness",
            json!(11),
            Spec(r#""swappiness":11"#),
        ),
        (
            "HostConfig.OomKillDisable",
            json!(true),
            Spec(r#""disableOOMKiller":true"#),
        ),
        ("HostConfig.PidsLimit", json!(77), Spec(r#""limit":77"#)),
        (
            "HostConfig.Ulimits",
            json!([{"Name": "nofile", "Soft": 101, "Hard": 202}]),
            Spec(r#""hard":202"#),
        ),
        ("HostConfig.CpuCount", json!(2), NoEffect),
        (
            "HostConfig.CpuPercent",
            json!(2),
            Warned("linux does not support CPU percent. Percent discarded."),
        ),
        (
            "HostConfig.IOMaximumIOps",
            json!(2),
            Refused(
                400,
                "QoS maximum IOPs configuration is not supported on linux",
            ),
        ),
        (
            "HostConfig.IOMaximumBandwidth",
            json!(2),
            Refused(
                400,
                "QoS maximum bandwidth configuration is not supported on linux",
            ),
        ),
        (
            "HostConfig.MaskedPaths",
            json!([]),
            NotInSpec("/proc/timer_list"),
        ),
        (
            "HostConfig.ReadonlyPaths",
            json!([]),
            NotInSpec("/proc/sysrq-trigger"),
        ),
        ("HostConfig.Init", json!(true), Kept),
        ("HostConfig.Mounts", mount(json!({})), Spec(r#""/m""#)),
        (
            "HostConfig.Mounts",
            mount(json!({"ReadOnly": true})),
            Spec(r#""rro""#),
        ),
        (
            "HostConfig.Mounts",
            mount(json!({"Consistency": "cached"})),
            Kept,
        ),
        (
            "HostConfig.Mounts",
            mount(json!({"BindOptions": {"Propagation": "rslave"}})),
            Kept,
        ),
        (
            "HostConfig.Mounts",
            mount(json!({"BindOptions": {"NonRecursive": true}})),
            Spec(r#"["bind""#),
        ),
        (
            "HostConfig.Mounts",
            mount(json!({"Source": "/var/tmp/wharf-no-such-dir"})),
            Refused(400, "bind source path does not exist"),
        ),
        (
            "HostConfig.Mounts",
            mount(json!({"ReadOnly": true, "BindOptions": {"ReadOnlyForceRecursive": true}})),
            Spec(r#""rro""#),
        ),
        (
            "HostConfig.Mounts",
            mount(json!({"ReadOnly": true, "BindOptions": {"ReadOnlyNonRecursive": true}})),
            Kept,
        ),
        (
            "HostConfig.Mounts",
            json!([{"Type": "volume", "Source": "v1", "Target": "/m", "VolumeOptions": {"Labels": {"a": "b"}, "NoCopy": true}}]),
            Spec(r#""/m""#),
        ),
        (
            "HostConfig.Mounts",
            json!([{"Type": "volume", "Source": "v2", "Target": "/m", "VolumeOptions": {"DriverConfig": {"Name": "nosuch"}}}]),
            Refused(404, "plugin \"nosuch\" not found"),
        ),
        (
            "HostConfig.Mounts",
            json!([{"Type": "tmpfs", "Target": "/m", "TmpfsOptions": {"SizeBytes": 1_048_577, "Mode": 448, "Options": [["exec"]]}}]),
            Spec("size=1048577"),
        ),
        (
            "HostConfig.Mounts",
            json!([{"Type": "image", "Source": "busybox", "Target": "/m", "ImageOptions": {"Subpath": "etc"}}]),
            Spec(r#""/m""#),
        ),
        (
            "HostConfig.Mounts",
            json!([{"Type": "cluster", "Source": "x", "Target": "/m"}]),
            Refused(400, "cluster"),
        ),
        (
            "HostConfig.Mounts",
            json!([{"Type": "npipe", "Source": "x", "Target": "/m"}]),
            Refused(400, "npipe"),
        ),
        (
            "NetworkingConfig.EndpointsConfig",
            json!({"own": {"IPAMConfig": {"IPv4Address": "10.231.77.9"}}}),
            Kept,
        ),
        (
            "NetworkingConfig.EndpointsConfig",
            json!({"own": {"IPAMConfig": {"IPv4Address": "x"}}}),
            Refused(400, "x"),
        ),
        (
            "NetworkingConfig.EndpointsConfig",
            json!({"own": {"IPAMConfig": {"LinkLocalIPs": ["169.254.9.9"]}}}),
            Kept,
        ),
        (
            "NetworkingConfig.EndpointsConfig",
            json!({"own": {"Links": ["base:al"]}}),
            Kept,
        ),
        (
            "NetworkingConfig.EndpointsConfig",
            json!({"own": {"Aliases": ["al"]}}),
            Kept,
        ),
        (
            "NetworkingConfig.EndpointsConfig",
            json!({"own": {"MacAddress": "02:42:0a:00:00:09"}}),
            Kept,
        ),
        (
            "NetworkingConfig.EndpointsConfig",
            json!({"own": {"GwPriority": 9}}),
            Kept,
        ),
        (
            "NetworkingConfig.EndpointsConfig",
            json!({"own": {"DriverOpts": {"a": "b"}}}),
            Kept,
        ),
    ]
}

/// Fields whose fate depends on the kernel's support or on a block device; tested with the limits.
const BY_KERNEL: [&str; 8] = [
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "BlkioWeight",
    "BlkioWeightDevice",
    "BlkioDeviceReadBps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteIOps",
];

fn body(field: &str, value: &Value) -> Value {
    let mut body = json!({
        "Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "bridge"},
    });
    match field {
        "HostConfig.MemorySwap" | "HostConfig.OomKillDisable" => {
            body["HostConfig"]["Memory"] = json!(67_108_864);
        }
        "HostConfig.ConsoleSize" => body["Tty"] = json!(true),
        "NetworkingConfig.EndpointsConfig" => body["HostConfig"]["NetworkMode"] = json!("own"),
        _ => {}
    }
    let mut place = &mut body;
    for part in field.split('.') {
        place = &mut place[part];
    }
    *place = value.clone();
    body
}

/// Tells whether what was asked for is in what was answered.
fn is_kept(asked: &Value, answered: &Value) -> bool {
    match (asked, answered) {
        (Value::Object(asked), Value::Object(answered)) => asked
            .iter()
            .all(|(key, value)| answered.get(key).is_some_and(|found| is_kept(value, found))),
        (Value::Array(asked), Value::Array(answered)) => asked
            .iter()
            .all(|value| answered.iter().any(|found| is_kept(value, found))),
        (Value::String(asked), Value::String(answered)) => {
            // Links come back with both names in full.
            asked == answered || answered == "/base:/fields/al"
        }
        (asked, answered) => asked == answered,
    }
}

fn create(d: &Daemon, body: &Value) -> (u16, Value) {
    let path = "/v1.51/containers/create?name=fields";
    let answer = call(d, "POST", path, &body.to_string()).unwrap();
    (answer.status, answer.json())
}

fn get(d: &Daemon, what: &str) -> Value {
    let path = format!("/v1.51/containers/fields/{what}");
    call(d, "GET", &path, "").unwrap().json()
}

fn remove(d: &Daemon) {
    call(d, "DELETE", "/v1.51/containers/fields?force=1&v=1", "").unwrap();
}

#[test]
fn each_field_is_honoured_refused_or_of_no_effect_as_with_docker() {
    let d = Daemon::with_busybox();
    d.ok(Client::Wharf, "network create --subnet 10.231.77.0/24 own");
    d.ok(
        Client::Wharf,
        "run -d --name base -v /of-base busybox sleep 1000",
    );
    let mut wrong = Vec::new();
    for (field, value, fate) in fields() {
        let asked = body(field, &value);
        let mut plain = body(field, &Value::Null);
        plain["Image"] = json!("busybox");
        let base = if matches!(fate, Spec(_) | NotInSpec(_)) {
            let (status, answer) = create(&d, &plain);
            assert_eq!(status, 201, "{field}: {answer}");
            let base = get(&d, "spec").to_string();
            remove(&d);
            base
        } else {
            String::new()
        };
        let (status, answer) = create(&d, &asked);
        let message = answer["message"].as_str().unwrap_or_default().to_owned();
        let right = match fate {
            Refused(wanted, text) => status == wanted && message.contains(text),
            _ if status != 201 => false,
            Spec(text) => get(&d, "spec").to_string().contains(text) && !base.contains(text),
            NotInSpec(text) => !get(&d, "spec").to_string().contains(text) && base.contains(text),
            Kept => {
                let inspect = get(&d, "json");
                let mut found = match field.split_once('.') {
                    None => &inspect["Config"],
                    Some(("NetworkingConfig", _)) => &inspect["NetworkSettings"],
                    Some(_) => &inspect["HostConfig"],
                };
                let key = field.rsplit('.').next().unwrap();
                let key = if key == "EndpointsConfig" {
                    "Networks"
                } else {
                    key
                };
                if field == "MacAddress" {
                    found = &inspect["NetworkSettings"]["Networks"]["bridge"];
                }
                is_kept(&value, &found[key])
            }
            RefusedAtStart(text) => {
                let answer = call(&d, "POST", "/v1.51/containers/fields/start", "").unwrap();
                answer.status >= 400 && answer.json()["message"].to_string().contains(text)
            }
            Warned(text) => answer["Warnings"].to_string().contains(text),
            NoEffect => true,
        };
        if !right {
            wrong.push(format!("{field} {value}: {fate:?}: {status} {answer}"));
        }
        remove(&d);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What inspect shows of a container can be asked for; every such key is in the table.
#[test]
fn the_table_of_fields_is_complete() {
    let d = Daemon::with_busybox();
    let (status, answer) = create(&d, &body("Tty", &json!(true)));
    assert_eq!(status, 201, "{answer}");
    let inspect = get(&d, "json");
    remove(&d);
    let known: BTreeSet<&str> = fields().iter().map(|(field, ..)| *field).collect();
    let keys = |part: &str, prefix: &str| -> Vec<String> {
        let object = inspect[part].as_object().unwrap();
        object.keys().map(|key| format!("{prefix}{key}")).collect()
    };
    let missing: Vec<String> = keys("Config", "")
        .into_iter()
        .chain(keys("HostConfig", FIELDS))
        .filter(|key| !known.contains(key.as_str()))
        .filter(|key| !BY_KERNEL.iter().any(|own| key == &format!("{FIELDS}{own}")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
