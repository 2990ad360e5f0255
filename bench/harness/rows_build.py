"""Rows about builds: small steps, caches, large contexts, parallel stages, packages."""

from . import fixtures
from .workload import Workload, do


def build_rows():
    """Returns the rows of `build`."""
    warm_files, warm_large, warm_steps = (do(_build_of(context, True)) for context in ("files", "large", "steps"))
    return [
        _cold("build", "build, 10 small RUN, no cache", 6, None),
        _cold("build-host", "… with `--network host`", 6, "host"),
        Workload("build-cached", "the same, fully cached", "build", 3, _build_of("context", True),
                 set_up=do(_build_of("context", True)), tear_down=forget_builds),
        Workload("build-28-steps", f"build of {fixtures.LONG_STEPS} steps, fully cached", "build", 3, _build_of("steps", True),
                 set_up=warm_steps, tear_down=forget_builds),
        Workload("files-cold", "build, COPY of 50,000 files, cold", "build", 3, _build_of("files", True),
                 before=_forget_files, tear_down=forget_builds),
        Workload("files-unchanged", "… unchanged", "build", 10, _build_of("files", True), set_up=warm_files,
                 tear_down=forget_builds),
        Workload("files-changed", "… one file changed", "build", 8, _build_of("files", True), set_up=warm_files,
                 before=lambda c: fixtures.change_file(c.settings.work / "files"), tear_down=forget_builds),
        Workload("context-large", "build, COPY of one file of {size} MiB, cold", "build", 2, _build_of("large", True),
                 before=_forget_large, tear_down=forget_builds),
        Workload("context-ignored", "… unchanged, with 2 × {size} MiB that `.dockerignore` leaves out", "build", 3,
                 _build_of("large", True), set_up=warm_large, tear_down=forget_builds),
        Workload("stages", "build, four independent stages of 1 s", "build", 1, _build_of("stages", False), after=forget_builds),
        Workload("apt", "build, apt-get install of 30 packages", "build", 1 / 0.7, _build_of("apt", False), after=forget_builds),
    ]


def forget_builds(contender):
    """Removes the built image, and what the builder keeps of it."""
    for words in contender.forget_builds():
        contender.run(words)


def _cold(name, title, goal, network):
    return Workload(name, title, "build", goal, lambda c: c.build(False, network), after=forget_builds)


def _build_of(context, cached):
    return lambda c: c.build(cached, None, context)


def _forget_files(contender):
    """Removes the built image and all that is known of the files it was built from."""
    forget_builds(contender)
    fixtures.touch_files(contender.settings.work / "files")


def _forget_large(contender):
    forget_builds(contender)
    fixtures.touch_large(contender.settings.work / "large")
