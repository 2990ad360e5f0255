//! Addresses of containers: those that are asked for, and those that are given.

use crate::harness::{Client, Daemon, clients};
use crate::helpers::{address, exec, sleeper};
use std::sync::atomic::{AtomicU8, Ordering};

/// Returns the start of a subnet that no other test of this machine should have.
pub fn subnet_start() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let second = 64 + std::process::id() % 128;
    format!("10.{second}.{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn addresses_are_as_asked() {
    for client in clients() {
        let d = Daemon::with_busybox();
        let start = subnet_start();
        let subnet = format!("{start}.0/24");
        let range = format!("{start}.128/25");
        let gateway = format!("{start}.254");
        d.ok(
            client,
            &[
                "network",
                "create",
                "--subnet",
                &subnet,
                "--ip-range",
                &range,
                "--gateway",
                &gateway,
                "--aux-address",
                &format!("router={start}.128"),
                "--ipv6",
                "fixed",
            ],
        );
        let config = d.ok(
            client,
            "network inspect --format '{{json .IPAM.Config}}' fixed",
        );
        for part in [&subnet, &range, &gateway, &format!("{start}.128")] {
            assert!(config.contains(part.as_str()), "{part} in {config}");
        }
        let ip = format!("{start}.77");
        let shown = d.ok(
            client,
            &[
                "run",
                "--rm",
                "--network",
                "fixed",
                "--ip",
                &ip,
                "--mac-address",
                "02:11:22:33:44:55",
                "busybox",
                "ip",
                "addr",
            ],
        );
        assert!(
            shown.contains(&format!("{ip}/24")) && shown.contains("02:11:22:33:44:55"),
            "{shown}"
        );
        assert!(shown.contains("inet6 fd"), "{shown}");
        sleeper(&d, client, "holder", &["--network", "fixed"]);
        assert_eq!(address(&d, "holder", "fixed"), format!("{start}.129"));
        let taken = format!("{start}.129");
        d.fails(
            client,
            &[
                "run",
                "--rm",
                "--network",
                "fixed",
                "--ip",
                &taken,
                "busybox",
                "true",
            ],
            125,
            "Address already in use",
        );
        d.fails(
            client,
            "run --rm --network fixed --ip 192.0.2.1 busybox true",
            125,
            "no configured subnet or ip-range contain the IP address 192.0.2.1",
        );
        d.fails(
            client,
            &["network", "create", "--subnet", &range, "other"],
            1,
            "Pool overlaps with other one on this address space",
        );
        d.ok(client, "network create free");
        let free = d.ok(
            client,
            "network inspect --format '{{(index .IPAM.Config 0).Subnet}}' free",
        );
        let inside = free.replace(".0.0/16", ".9.9").replace(".0/20", ".9");
        d.fails(
            client,
            &["run", "--rm", "--network", "free", "--ip", &inside, "busybox", "true"],
            125,
            "user specified IP address is supported only when connecting to networks with user configured subnets",
        );
        d.fails(
            client,
            "run --rm --ip 172.17.0.99 busybox true",
            125,
            "supported on user",
        );
    }
}

/// A network with a range and no gateway has its gateway at the range's beginning; what was set aside is given to nobody;
/// a container that starts has the lowest address that is free.
#[test]
fn addresses_of_ranges_are_kept_apart_and_given_from_below() {
    let d = Daemon::with_busybox();
    let start = subnet_start();
    let subnet = format!("{start}.0/24");
    let create = |more: &[&str]| {
        let mut line = vec!["network", "create", "--subnet", &subnet];
        line.extend(more.iter().flat_map(|value| ["--aux-address", value]));
        line.push("ranged");
        d.fails(Client::Wharf, &line, 1, "Address already in use");
    };
    let (first, second) = (format!("a={start}.9"), format!("b={start}.9"));
    create(&[&first, &second]);
    create(&[&first, &format!("b={start}.1")]);
    let range = format!("{start}.64/26");
    let aside = format!("router={start}.66");
    d.ok(
        Client::Wharf,
        &[
            "network",
            "create",
            "--subnet",
            &subnet,
            "--ip-range",
            &range,
            "--aux-address",
            &aside,
            "ranged",
        ],
    );
    for name in ["one", "two"] {
        sleeper(&d, Client::Wharf, name, &["--network", "ranged"]);
    }
    let routes = exec(&d, "one", "ip route");
    assert!(
        routes.contains(&format!("default via {start}.64 ")),
        "{routes}"
    );
    let addresses = || ["one", "two"].map(|name| address(&d, name, "ranged"));
    let given = [format!("{start}.65"), format!("{start}.67")];
    assert_eq!(addresses(), given);
    d.ok(Client::Wharf, "stop -t 0 one two");
    d.ok(Client::Wharf, "start two");
    d.ok(Client::Wharf, "start one");
    let [first, second] = given;
    assert_eq!(addresses(), [second, first]);
    let set_aside = format!("{start}.66");
    d.fails(
        Client::Wharf,
        &[
            "run",
            "--rm",
            "--network",
            "ranged",
            "--ip",
            &set_aside,
            "busybox",
            "true",
        ],
        125,
        "Address already in use",
    );
}
