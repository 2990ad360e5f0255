"""Starts three containers with testcontainers, waits for them, asks each for a page, stops them."""

import time
import urllib.request

from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

SCRIPT = "echo hello {} > /index.html; echo ready; exec httpd -f -p 80 -h /"


def page(container):
    """Returns the page, once the server listens."""
    address = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(80)}/"
    for _ in range(100):
        try:
            return urllib.request.urlopen(address, timeout=5).read().decode()
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nobody answers at {address}")


def container(number):
    """Prepares a container that serves a page of its own."""
    command = ["sh", "-c", SCRIPT.format(number)]
    made = DockerContainer("busybox:latest").with_command(command).with_exposed_ports(80)
    return made.waiting_for(LogMessageWaitStrategy("ready"))


running = [container(number).start() for number in range(3)]
for each in running:
    print(page(each), end="")
    assert each.exec(["true"]).exit_code == 0
for each in running:
    each.stop()
