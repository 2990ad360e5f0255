"""Rows about containers: starts, `exec`, and lists of many."""

from .contenders import BURST
from .workload import Workload, attempt, container, do

IDLE_SECONDS = 0.5
AT_ONCE = 50
CONTAINERS = 300


def run_rows():
    """Returns the rows of `version`, `run`, `exec` and `ps`."""
    return [
        Workload("version", "`version`", "run", None, lambda c: ["version"]),
        _run("run", "`run --rm busybox true`", 8, None),
        _run("run-idle", "… after 0.5 s of idling", 8, None, IDLE_SECONDS),
        _run("run-none", "`run --rm --network none busybox true`", 6, "none"),
        _run("run-none-idle", "… after 0.5 s of idling", 6, "none", IDLE_SECONDS),
        _run("run-at-once", f"{AT_ONCE} `run --rm busybox true` at once", 8, None, copies=AT_ONCE),
        Workload("exec", "`exec` of `true`", "exec", 6, lambda c: c.exec_true(container(c)),
                 set_up=do(lambda c: c.start_container(container(c), "none")),
                 tear_down=attempt(lambda c: c.remove_container(container(c)))),
        Workload("ps", f"`ps -a` with {CONTAINERS} containers", "run", 5, lambda c: ["ps", "-a"],
                 set_up=_create_many, tear_down=attempt(lambda c: ["rm", "-f", *_many_names()])),
    ]


def _run(name, title, goal, network, idle_seconds=0.0, copies=1):
    return Workload(name, title, "run", goal, lambda c: c.run_true(network), idle_seconds=idle_seconds, copies=copies)


def _many_names():
    return [f"{BURST}-{number}" for number in range(CONTAINERS)]


def _create_many(contender):
    for name in _many_names():
        contender.must(contender.create_container(name))
