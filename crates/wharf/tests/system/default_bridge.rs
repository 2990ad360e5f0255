//! The setting `bridge`: a default network on a device of the user's, and none at all.

use crate::harness::{Client, Daemon};
use crate::helpers::{address, exec, sleeper};
use std::process::Command;

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A bridge on the host that goes when the test ends.
struct Bridge(String);

impl Drop for Bridge {
    fn drop(&mut self) {
        ip(&format!("link del {}", self.0));
    }
}

#[test]
fn the_default_network_lies_on_a_bridge_of_the_user() {
    let bridge = Bridge(format!("brt{}", std::process::id()));
    // Of the test's own, so that several run at once.
    let third = std::process::id() % 200;
    let name = &bridge.0;
    ip(&format!("link add {name} type bridge"));
    ip(&format!("link set {name} up"));
    ip(&format!("addr add 10.234.{third}.5/24 dev {name}"));
    let mut d = Daemon::prepared();
    let settings = format!(r#"{{"bridge": "{name}", "fixed-cidr": "10.234.{third}.128/25"}}"#);
    let file = d.write("daemon.json", settings);
    let launch = |d: &mut Daemon| d.launch_with(&["--config-file", file.to_str().unwrap()]);
    launch(&mut d);
    d.import("busybox");
    let shown = d.ok(
        Client::Wharf,
        "network inspect -f '{{json .IPAM.Config}} {{index .Options \"com.docker.network.bridge.name\"}}' bridge",
    );
    let expected = format!(
        r#"[{{"Subnet":"10.234.{third}.0/24","IPRange":"10.234.{third}.128/25","Gateway":"10.234.{third}.5"}}] {name}"#
    );
    assert_eq!(shown, expected);
    sleeper(&d, Client::Wharf, "one", &[]);
    for _ in 0..2 {
        let routes = exec(&d, "one", "ip route; ip -o -4 addr show eth0");
        for part in [
            format!("default via 10.234.{third}.5 "),
            format!("10.234.{third}.128/24"),
        ] {
            assert!(routes.contains(&part), "{part} in {routes}");
        }
        assert!(ip(&format!("-o link show master {name}")).contains("veth"));
        d.kill();
        launch(&mut d);
    }
    d.ok(Client::Wharf, "rm -f one");
    d.stop();
    // The device and its address are the user's.
    let left = ip(&format!("-o -4 addr show {name}"));
    assert!(left.contains(&format!("10.234.{third}.5/24")), "{left}");
    // Without the setting the default network has a bridge of its own again.
    d.launch();
    let shown = d.ok(
        Client::Wharf,
        "network inspect -f '{{index .Options \"com.docker.network.bridge.name\"}}' bridge",
    );
    assert!(shown.starts_with("wh"), "{shown}");
}

#[test]
fn without_a_default_network_containers_have_only_themselves() {
    let mut d = Daemon::prepared();
    let file = d.write("daemon.json", r#"{"bridge": "none"}"#);
    d.launch_with(&["--config-file", file.to_str().unwrap()]);
    d.import("busybox");
    let ok = |arguments: &str| d.ok(Client::Wharf, arguments);
    let networks = ok("network ls --format '{{.Name}}'");
    assert_eq!(networks, "host\nnone");
    assert_eq!(ok("run --rm busybox ls /sys/class/net"), "lo");
    sleeper(&d, Client::Wharf, "alone", &[]);
    assert_eq!(
        ok("inspect -f '{{.HostConfig.NetworkMode}}' alone"),
        "bridge"
    );
    ok("network create own");
    ok("network connect own alone");
    assert_eq!(exec(&d, "alone", "ls /sys/class/net"), "eth0\nlo");
    d.fails(
        Client::Wharf,
        "network connect bridge alone",
        1,
        "network bridge not found",
    );
    d.write(
        "context/Dockerfile",
        "FROM busybox\nRUN ls /sys/class/net > /nets\n",
    );
    ok("build -q -t made context");
    assert_eq!(ok("run --rm made cat /nets"), "lo");
}

#[test]
fn a_bridge_that_cannot_be_set_up_keeps_no_daemon_from_starting() {
    let mut d = Daemon::with_busybox();
    sleeper(&d, Client::Wharf, "stays", &[]);
    let device = d.ok(
        Client::Wharf,
        "network inspect -f '{{index .Options \"com.docker.network.bridge.name\"}}' bridge",
    );
    d.kill();
    ip(&format!("link del {device}"));
    let other = Bridge(device.clone());
    ip(&format!("link add {device} type veth"));
    d.launch();
    assert!(d.log().contains(&device), "{}", d.log());
    assert_eq!(exec(&d, "stays", "echo on"), "on");
    d.fails(Client::Wharf, "run --rm busybox true", 125, &device);
    drop(other);
    sleeper(&d, Client::Wharf, "comes", &[]);
    assert_ne!(
        address(&d, "comes", "bridge"),
        address(&d, "stays", "bridge")
    );
    let gateway = "ping -c 1 -W 5 $(ip route | awk '/default/ {print $3}')";
    assert!(exec(&d, "stays", gateway).contains("1 packets received"));
}
