//! What create requests lead to: the answer, what inspect shows, how the start goes, and the OCI spec.
//!
//! The recorded daemon had other names for some things (its runtime, its layers); [`Names`] turns both
//! sides into the same words. What a field is called or how it is written where the meaning is the same is
//! settled in [`normal_spec`].

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::text;
use crate::live::Daemon;
use crate::{Document, Vector, Verdict};

/// Name of the recorded daemon's host.
const RECORDED_HOST: &str = "vm";
/// Name of the recorded daemon's default runtime.
const RECORDED_RUNTIME: &str = "spy";
/// Parts of a spec that are compared as sets.
const UNORDERED: [&str; 6] = [
    "bounding",
    "effective",
    "permitted",
    "options",
    "namespaces",
    "rlimits",
];

/// Sends all requests to one daemon, a container after the other.
pub(super) fn check(document: &Document) -> Result<Vec<Verdict>, String> {
    let daemon = Daemon::start()?;
    let verdicts = document.vectors.iter().map(|vector| {
        let mut story = Story::new(&daemon);
        let verdict = story.check(vector);
        story.remove();
        verdict
    });
    Ok(verdicts.collect())
}

/// One container's life.
struct Story<'a> {
    daemon: &'a Daemon,
    id: String,
    problems: Vec<String>,
}

impl<'a> Story<'a> {
    fn new(daemon: &'a Daemon) -> Self {
        Self {
            daemon,
            id: String::new(),
            problems: Vec::new(),
        }
    }

    fn check(&mut self, vector: &Vector) -> Verdict {
        let expected = &vector.expected;
        self.create(&vector.input["create"], expected)?;
        if !self.id.is_empty() && expected["create_status"] == 201 {
            self.inspect(expected)?;
            self.spec(expected)?;
            self.start(expected)?;
        }
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(self.problems.join("; "))
    }

    fn remove(&self) {
        if !self.id.is_empty() {
            let path = format!("/v1.51/containers/{}?force=1&v=1", self.id);
            let _gone_already = self.daemon.ask("DELETE", &path);
        }
    }

    fn same(&mut self, what: &str, found: &Value, expected: &Value) {
        if found != expected {
            self.problems
                .push(format!("{what}: found {found} instead of {expected}"));
        }
    }

    fn create(&mut self, request: &Value, expected: &Value) -> Verdict {
        let reply = self
            .daemon
            .ask_json("POST", "/v1.51/containers/create", request)?;
        self.same(
            "create status",
            &json!(reply.status),
            &expected["create_status"],
        );
        if reply.status == 201 {
            let answer = reply.json();
            text(&answer, "Id").clone_into(&mut self.id);
            if expected["create_status"] == 201 {
                self.same("warnings", &answer["Warnings"], &expected["warnings"]);
            }
        }
        if reply.status != 201 || expected["create_status"] != 201 {
            self.same(
                "create error",
                &json!(reply.message()),
                &expected["create_error"],
            );
        }
        Ok(())
    }

    fn inspect(&mut self, expected: &Value) -> Verdict {
        let path = format!("/v1.51/containers/{}/json", self.id);
        let mut found = self.daemon.ask("GET", &path)?.json();
        let names = Names::of(self.daemon, &found);
        let mut wanted = expected["inspect"].clone();
        normal_inspect(&mut found);
        normal_inspect(&mut wanted);
        names.apply(&mut found);
        let mut differences = Vec::new();
        compare("inspect", &found, &wanted, &mut differences);
        self.problems.extend(differences);
        Ok(())
    }

    fn spec(&mut self, expected: &Value) -> Verdict {
        if expected["oci"].is_null() {
            return Ok(());
        }
        let path = format!("/v1.51/containers/{}/json", self.id);
        let names = Names::of(self.daemon, &self.daemon.ask("GET", &path)?.json());
        let path = format!("/v1.51/containers/{}/spec", self.id);
        let reply = self.daemon.ask("GET", &path)?;
        if reply.status != 200 {
            // The start fails for the same reason; whether it is meant to is judged there.
            return Ok(());
        }
        let mut found = reply.json();
        names.apply(&mut found);
        let found = normal_spec(&found);
        let wanted = normal_spec(&expected["oci"]);
        let mut differences = Vec::new();
        compare("oci", &found, &wanted, &mut differences);
        self.problems.extend(differences);
        Ok(())
    }

    fn start(&mut self, expected: &Value) -> Verdict {
        let path = format!("/v1.51/containers/{}/start", self.id);
        let reply = self.daemon.ask("POST", &path)?;
        self.same(
            "start status",
            &json!(reply.status),
            &expected["start_status"],
        );
        if reply.status != 204 {
            let message = recorded_group(&reply.message().replace(&self.id, "<id>"));
            self.same("start error", &json!(message), &expected["start_error"]);
        }
        if reply.status == 204 && !expected["exit_code"].is_null() {
            let path = format!("/v1.51/containers/{}/wait", self.id);
            let code = self.daemon.ask("POST", &path)?.json();
            self.same("exit code", &code["StatusCode"], &expected["exit_code"]);
        }
        Ok(())
    }
}

/// Random names of this run, and what the recording calls them; longer ones first.
struct Names(Vec<(String, &'static str)>);

impl Names {
    fn of(daemon: &Daemon, inspect: &Value) -> Self {
        let id = text(inspect, "Id");
        let mut names = vec![
            (id.to_owned(), "<id>"),
            (id.get(..12).unwrap_or(id).to_owned(), "<shortid>"),
            (daemon.root().display().to_string(), "<data-root>"),
        ];
        for mount in inspect["Mounts"].as_array().into_iter().flatten() {
            let name = text(mount, "Name");
            if name.len() == 64 {
                names.push((name.to_owned(), "<anon>"));
            }
        }
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Self(names)
    }

    fn apply(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                for (name, word) in &self.0 {
                    *text = text.replace(name.as_str(), word);
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|item| self.apply(item)),
            Value::Object(map) => map.values_mut().for_each(|item| self.apply(item)),
            _ => {}
        }
    }
}

/// Names the control group of the engine as the recording does.
fn recorded_group(message: &str) -> String {
    let Some((before, rest)) = message.split_once("/wharf-") else {
        return message.to_owned();
    };
    let after = rest.split_once('/').map_or("", |(_, after)| after);
    format!("{before}/docker/{after}")
}

fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Settles what depends on the machine, and the runtime's name.
fn normal_inspect(inspect: &mut Value) {
    let host = &mut inspect["HostConfig"];
    if [RECORDED_RUNTIME, "wharf"].contains(&text(host, "Runtime")) {
        host["Runtime"] = json!("<default>");
    }
    if let Some(paths) = host["MaskedPaths"].as_array_mut() {
        paths.retain(|path| !path.as_str().unwrap_or_default().contains("thermal"));
    }
    // Go writes a list that became empty otherwise than one that always was.
    for (key, value) in host.as_object_mut().into_iter().flatten() {
        if key.starts_with("Blkio") && value.as_array().is_some_and(Vec::is_empty) {
            *value = Value::Null;
        }
    }
    let config = &mut inspect["Config"];
    if text(config, "Hostname") == host_name() {
        config["Hostname"] = json!(RECORDED_HOST);
    }
    if let Some(mounts) = inspect["Mounts"].as_array_mut() {
        mounts.sort_by_key(|mount| text(mount, "Destination").to_owned());
        for mount in mounts {
            if mount["Type"] == "image" {
                // Where the layers of an image come together is the engine's own matter.
                mount["Source"] = Value::Null;
            }
        }
    }
}

/// Compares what the recording has; keys it does not have are newer or older than it.
fn compare(place: &str, found: &Value, expected: &Value, differences: &mut Vec<String>) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            for (key, wanted) in expected {
                let found = found.get(key).unwrap_or(&Value::Null);
                compare(&format!("{place}.{key}"), found, wanted, differences);
            }
        }
        (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => {
            for (index, (found, wanted)) in found.iter().zip(expected).enumerate() {
                compare(&format!("{place}[{index}]"), found, wanted, differences);
            }
        }
        (found, expected) if found == expected => {}
        (found, expected) => {
            differences.push(format!("{place}: found {found} instead of {expected}"));
        }
    }
}

/// Brings a spec into a form in which equal containers have equal specs, whoever wrote it.
fn normal_spec(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let mut result = Map::new();
    normal_process(&mut spec);
    let mut linux = spec["linux"].take();
    let mut sysctl = linux["sysctl"].take();
    let domain = match sysctl["kernel.domainname"].as_str() {
        // Docker has no other way to say it.
        Some(name) => name.to_owned(),
        None => text(&spec, "domainname").to_owned(),
    };
    if let Some(map) = sysctl.as_object_mut() {
        map.remove("kernel.domainname");
    }
    let hostname = match text(&spec, "hostname") {
        name if name == host_name() => RECORDED_HOST.to_owned(),
        name => name.to_owned(),
    };
    result.insert("hostname".into(), json!(hostname));
    result.insert("domainname".into(), json!(domain));
    result.insert("sysctl".into(), without_nothing(sysctl));
    result.insert("process".into(), spec["process"].take());
    result.insert("readonly".into(), json!(spec["root"]["readonly"] == true));
    result.insert(
        "annotations".into(),
        without_nothing(spec["annotations"].take()),
    );
    result.insert("mounts".into(), normal_mounts(&spec["mounts"]));
    normal_linux(&mut linux);
    result.insert("linux".into(), linux);
    sorted(&mut result);
    Value::Object(result)
}

fn without_nothing(value: Value) -> Value {
    match value {
        Value::Object(map) if map.is_empty() => Value::Null,
        Value::Array(list) if list.is_empty() => Value::Null,
        value => value,
    }
}

fn normal_process(spec: &mut Value) {
    let mounts = spec["mounts"].as_array().cloned().unwrap_or_default();
    let has_init = mounts
        .iter()
        .any(|mount| mount["destination"] == "/sbin/docker-init");
    let host = format!("HOSTNAME={}", host_name());
    let process = &mut spec["process"];
    let mut args = super::strings(&process["args"]);
    if has_init {
        // The small init is the shim's own here.
        args.drain(..2);
    }
    let mut env = super::strings(&process["env"]);
    // The recorded runtime adds it by itself.
    env.retain(|variable| !variable.starts_with("HOME="));
    for variable in &mut env {
        if *variable == host {
            *variable = format!("HOSTNAME={RECORDED_HOST}");
        }
    }
    let flag = |key: &str| json!(process[key] == true);
    let sets = &process["capabilities"];
    let user = &process["user"];
    *process = json!({
        "args": args, "env": env, "cwd": process["cwd"], "terminal": flag("terminal"),
        "noNewPrivileges": flag("noNewPrivileges"), "rlimits": without_nothing(process["rlimits"].clone()),
        "oomScoreAdj": process["oomScoreAdj"], "consoleSize": process["consoleSize"],
        "user": { "uid": user["uid"], "gid": user["gid"], "additionalGids": user["additionalGids"] },
        "capabilities": {
            "bounding": sets["bounding"], "effective": sets["effective"], "permitted": sets["permitted"],
        },
    });
}

/// Returns mounts by destination.
fn normal_mounts(mounts: &Value) -> Value {
    let mut normal = BTreeMap::new();
    for mount in mounts.as_array().into_iter().flatten() {
        let destination = text(mount, "destination");
        if destination == "/sbin/docker-init" {
            continue;
        }
        let mut options = super::strings(&mount["options"]);
        // The default.
        options.retain(|option| option != "rw");
        let (mut kind, mut source) = (mount["type"].clone(), mount["source"].clone());
        if kind == "overlay" || text(mount, "source").contains("/overlay2/") {
            // An image: its layers are mounted by the daemon there, by the shim here.
            (kind, source) = (json!("image"), Value::Null);
            options = vec!["ro".to_owned()];
        }
        if destination == "/dev/shm" && text(mount, "source").ends_with("/mounts/shm") {
            // Docker mounts memory that may be shared on the host first; here it is found again through
            // the container.
            (kind, source) = (json!("tmpfs"), json!("shm"));
            options = ["mode=1777", "nodev", "noexec", "nosuid", "size=67108864"]
                .map(str::to_owned)
                .to_vec();
        }
        options.sort_unstable();
        normal.insert(
            destination.to_owned(),
            json!({ "type": kind, "source": source, "options": options }),
        );
    }
    json!(normal)
}

fn normal_linux(linux: &mut Value) {
    let mut resources = linux["resources"].take();
    if let Some(memory) = resources["memory"].as_object_mut() {
        // No limit at all, said or not said.
        memory.retain(|key, value| !(key == "swap" && *value == -1));
    }
    let rules = match resources["devices"].as_array() {
        // Docker lists its own rules twice, and before "everything" for privileged containers.
        Some(rules) if rules.last() == Some(&json!({"allow": true, "access": "rwm"})) => {
            vec![json!("all")]
        }
        Some(rules) => unique(rules),
        None => Vec::new(),
    };
    let mut masked = super::strings(&linux["maskedPaths"]);
    masked.retain(|path| !path.contains("thermal"));
    let mut namespaces = linux["namespaces"].as_array().cloned().unwrap_or_default();
    // Containers see the host's clocks here.
    namespaces.retain(|namespace| namespace["type"] != "time");
    let cgroup = text(linux, "cgroupsPath")
        .trim_start_matches('/')
        .to_owned();
    let cgroup = match cgroup.split_once('/') {
        Some((engine, rest)) if engine.starts_with("wharf") => format!("docker/{rest}"),
        _ => cgroup,
    };
    let all_devices = rules == [json!("all")];
    *linux = json!({
        "cgroupsPath": cgroup,
        "maskedPaths": masked,
        "readonlyPaths": super::strings(&linux["readonlyPaths"]),
        "namespaces": namespaces,
        "devices": if all_devices { Value::Null } else { without_nothing(linux["devices"].clone()) },
        "rules": rules,
        "memory": without_nothing(resources["memory"].take()),
        "cpu": without_nothing(resources["cpu"].take()),
        "pids": resources["pids"],
        "blockIO": without_nothing(resources["blockIO"].take()),
        "seccomp": normal_filter(&linux["seccomp"]),
        "rootfsPropagation": match text(linux, "rootfsPropagation") {
            // What a container's root is without any word.
            "rprivate" => "",
            other => other,
        },
    });
}

fn unique(rules: &[Value]) -> Vec<Value> {
    let mut seen: Vec<Value> = Vec::new();
    for rule in rules {
        if !seen.contains(rule) {
            seen.push(rule.clone());
        }
    }
    seen
}

/// Replaces the default filter by a word; architectures that are the machine's own say nothing.
fn normal_filter(filter: &Value) -> Value {
    match filter {
        Value::String(_) => json!("default"),
        Value::Object(map)
            if map
                .get("syscalls")
                .is_some_and(|calls| calls.to_string().len() > 4096) =>
        {
            json!("default")
        }
        Value::Object(map) => {
            let mut map = map.clone();
            map.remove("architectures");
            Value::Object(map)
        }
        other => other.clone(),
    }
}

/// Sorts the lists whose order means nothing.
fn sorted(map: &mut Map<String, Value>) {
    for (key, value) in map {
        if UNORDERED.contains(&key.as_str())
            && let Some(list) = value.as_array_mut()
        {
            list.sort_by_key(Value::to_string);
        }
        if let Some(inner) = value.as_object_mut() {
            sorted(inner);
        }
    }
}
