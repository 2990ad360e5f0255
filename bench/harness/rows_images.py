"""Rows about images: `commit`, archives, a registry, and lists of many."""

from . import fixtures, registry
from .contenders import COMMITTED, MANY, PUSHED, SAVED
from .workload import Workload, attempt, container, do

SMALL_CHANGE = "head -c 1024 /dev/urandom >/change"
#: Number of files of the row with many.
FILES = 20_000
MANY_FILES = f"mkdir /many; i=0; while [ $i -lt {FILES} ]; do echo $i >/many/$i; i=$((i+1)); done"


def image_rows():
    """Returns the rows of `commit`, `save`, `load`, `push`, `pull`, `images`, `rmi` and `image prune`."""
    return [*_commit_rows(), *_archive_rows(), *_registry_rows(), *_list_rows()]


def _commit_rows():
    forget = attempt(lambda c: c.remove_image(COMMITTED))
    remove_container = attempt(lambda c: c.remove_container(container(c)))
    prepare = lambda c: c.prepare_change(container(c))

    def row(name, title, goal, before, set_up):
        return Workload(name, title, "commit", goal, lambda c: c.commit(container(c)), set_up=set_up, before=before,
                        after=forget, tear_down=remove_container)

    def changed(command):
        return lambda c: c.change(container(c), command(c))

    small = do(changed(lambda c: SMALL_CHANGE))
    large = do(prepare, changed(lambda c: f"head -c {c.settings.size_mib << 20} /dev/urandom >/change"))
    return [
        row("commit", "commit of a 1 KiB change", 4, small, do(prepare)),
        row("commit-large", "commit of one file of {size} MiB", 2, attempt(), large),
        row("commit-many", f"commit of {FILES:,} small files", 4, attempt(), do(prepare, changed(lambda c: MANY_FILES))),
    ]


def _archive_rows():
    forget = attempt(lambda c: c.remove_image(SAVED))
    load = do(lambda c: c.load("archive"))
    return [
        Workload("load", "load of {size} MiB", "archive", 2, lambda c: c.load("archive"), before=forget, tear_down=forget),
        Workload("save", "save of {size} MiB", "archive", 2, lambda c: c.save(), set_up=load, before=_remove_saved, tear_down=forget),
        Workload("rmi", "rmi of {size} MiB", "archive", 5, lambda c: c.remove_image(SAVED), before=load),
    ]


def _registry_rows():
    load = do(lambda c: c.load("layers"))
    forget = attempt(lambda c: c.remove_image(PUSHED))
    empty = lambda c: registry.empty(c.settings.work / "registry")
    return [
        Workload("push", "push of 8 layers, {size} MiB", "registry", 2, lambda c: c.push(), set_up=load, before=empty, tear_down=forget),
        Workload("pull", "pull of 8 layers, {size} MiB", "registry", 2, lambda c: c.pull(), set_up=do(lambda c: c.load("layers"), lambda c: c.push()),
                 before=forget, tear_down=forget),
    ]


def _list_rows():
    return [
        Workload("images", f"`images` with {fixtures.MANY_IMAGES} images", "archive", 5, lambda c: ["images"],
                 set_up=do(lambda c: c.load("many")),
                 tear_down=attempt(lambda c: ["rmi", "-f", *(f"{MANY}:{number}" for number in range(fixtures.MANY_IMAGES))])),
        Workload("prune", f"`image prune` of {fixtures.DANGLING_IMAGES} dangling images", "archive", 5, lambda c: ["image", "prune", "-f"],
                 before=do(lambda c: c.load("dangling"))),
    ]


def _remove_saved(contender):
    """Removes the archive the last run wrote."""
    (contender.settings.work / f"{contender.engine}-saved.tar").unlink(missing_ok=True)
