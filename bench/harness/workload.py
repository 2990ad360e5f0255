"""A workload: one client command that is timed, with untimed work before and after it."""

from collections.abc import Callable
from dataclasses import dataclass


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
    #: How many of the command run at once; the time is that until the last has ended.
    copies: int = 1


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


def container(contender):
    """Returns the name of a contender's container; contenders may share a store."""
    return "bench-" + contender.label.split()[0].rstrip(",")
