"""What is measured: each workload is one client command, with untimed work before and after it."""

from collections.abc import Callable
from dataclasses import dataclass

from . import fixtures
from .contenders import COMMITTED, SAVED

IDLE_SECONDS = 0.5


def nothing(_contender):
    """Does no untimed work."""


@dataclass(frozen=True)
class Workload:
    """One row of the results. `goal` is the largest wished ratio to the best peer, as `1/goal` (None: no goal)."""

    name: str
    title: str
    kind: str
    goal: float | None
    #: Returns the words of the timed client command.
    words: Callable
    #: Untimed: once before the first run, before and after each run, once after the last.
    set_up: Callable = nothing
    before: Callable = nothing
    after: Callable = nothing
    tear_down: Callable = nothing
    idle_seconds: float = 0.0


def do(*operations):
    """Returns a function that runs the client once for each operation of a contender, and fails if one fails."""
    def work(contender):
        for operation in operations:
            contender.must(operation(contender))
    return work


def attempt(*operations):
    """Like `do`, but a failure does not matter (what is to be removed may not be there)."""
    def work(contender):
        for operation in operations:
            contender.run(operation(contender))
    return work


def forget_builds(contender):
    """Removes the built image, and what the builder keeps of it."""
    for words in contender.forget_builds():
        contender.run(words)


def container(contender):
    """Returns the name of a contender's container; contenders may share a store."""
    return "bench-" + contender.label.split()[0].rstrip(",")


def remove_saved(contender):
    """Removes the archive the last run wrote."""
    (contender.settings.work / f"{contender.engine}-saved.tar").unlink(missing_ok=True)


def run_workload(name, title, goal, network, idle_seconds=0.0):
    return Workload(name, title, "run", goal, lambda c: c.run_true(network), idle_seconds=idle_seconds)


def cold_build(name, title, goal, network):
    return Workload(name, title, "build", goal, lambda c: c.build(False, network), after=forget_builds)


def forget_files(contender):
    """Removes the built image and all that is known of the files it was built from."""
    forget_builds(contender)
    fixtures.touch_files(contender.settings.work / "files")


def change_file(contender):
    """Changes one of the files that are built from."""
    fixtures.change_file(contender.settings.work / "files")


def build_of(context, cached):
    return lambda c: c.build(cached, None, context)


def build_workloads():
    """Returns the rows about contexts with many files, parallel stages and packages."""
    warm = do(build_of("files", True))
    return [
        Workload("files-cold", "build, COPY of 50,000 files, cold", "build", 3, build_of("files", True), before=forget_files,
                 tear_down=forget_builds),
        Workload("files-unchanged", "… unchanged", "build", 10, build_of("files", True), set_up=warm, tear_down=forget_builds),
        Workload("files-changed", "… one file changed", "build", 8, build_of("files", True), set_up=warm, before=change_file,
                 tear_down=forget_builds),
        Workload("stages", "build, four independent stages of 1 s", "build", 1, build_of("stages", False), after=forget_builds),
        Workload("apt", "build, apt-get install of 30 packages", "build", 1 / 0.7, build_of("apt", False), after=forget_builds),
    ]


def all_workloads():
    """Returns every workload in the order of the table."""
    remove_container = attempt(lambda c: c.remove_container(container(c)))
    return [
        Workload("version", "`version`", "run", None, lambda c: ["version"]),
        run_workload("run", "`run --rm busybox true`", 8, None),
        run_workload("run-idle", "… after 0.5 s of idling", 8, None, IDLE_SECONDS),
        run_workload("run-none", "`run --rm --network none busybox true`", 6, "none"),
        run_workload("run-none-idle", "… after 0.5 s of idling", 6, "none", IDLE_SECONDS),
        Workload("exec", "`exec` of `true`", "exec", 6, lambda c: c.exec_true(container(c)),
                 set_up=do(lambda c: c.start_container(container(c), "none")), tear_down=remove_container),
        cold_build("build", "build, 10 small RUN, no cache", 6, None),
        cold_build("build-host", "… with `--network host`", 6, "host"),
        Workload("build-cached", "the same, fully cached", "build", 3, lambda c: c.build(True, None),
                 set_up=do(lambda c: c.build(True, None)), tear_down=forget_builds),
        *build_workloads(),
        Workload("commit", "commit of a 1 KiB change", "commit", 4, lambda c: c.commit(container(c)),
                 set_up=do(lambda c: c.prepare_change(container(c))), before=do(lambda c: c.change(container(c))),
                 after=attempt(lambda c: c.remove_image(COMMITTED)), tear_down=remove_container),
        Workload("load", "load of {size} MiB", "archive", 2, lambda c: c.load(),
                 before=attempt(lambda c: c.remove_image(SAVED)), tear_down=attempt(lambda c: c.remove_image(SAVED))),
        Workload("save", "save of {size} MiB", "archive", 2, lambda c: c.save(), set_up=do(lambda c: c.load()),
                 before=remove_saved, tear_down=attempt(lambda c: c.remove_image(SAVED))),
    ]
