"""Memory: proportional set sizes (PSS, see proc_pid_smaps_rollup(5)) of idle daemons and of what stays beside a container."""

import time
from pathlib import Path

CONTAINERS = 8
SETTLE_SECONDS = 2.0
#: The container's own process; all else that appears with a container belongs to the engine.
CONTAINED = "sleep"


def pss_kib(pid):
    """Returns the PSS of a process in KiB, 0 if it has ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def daemons_kib(contender):
    """Returns the PSS in KiB of a contender's daemon and all its descendants, None if it has no daemon."""
    return sum(pss_kib(pid) for pid in _descendants(contender.daemon)) if contender.daemon else None


def beside_containers(contender):
    """Starts containers and returns, for one of them in KiB, what the engine's new processes take and what its daemons grew by."""
    names = [f"bench-memory-{number}" for number in range(CONTAINERS)]
    try:
        # The first container of an engine may start what is there for all of them.
        contender.must(contender.start_container("bench-memory-first"))
        time.sleep(SETTLE_SECONDS)
        before = _processes()
        # Only what runs now: a daemon's later children are counted as beside the containers.
        daemons = _descendants(contender.daemon) if contender.daemon else []
        daemons_before_kib = sum(map(pss_kib, daemons))
        for name in names:
            contender.must(contender.start_container(name))
        time.sleep(SETTLE_SECONDS)
        new = [pid for pid, name in _processes().items() if pid not in before and name != CONTAINED]
        return {"processes": len(new) / CONTAINERS,
                "shim_kib": sum(pss_kib(pid) for pid in new) / CONTAINERS,
                "daemon_growth_kib": (sum(map(pss_kib, daemons)) - daemons_before_kib) / CONTAINERS if daemons else None}
    finally:
        for name in ["bench-memory-first", *names]:
            contender.run(contender.remove_container(name))


def _descendants(pid):
    """Returns a process and all its descendants, as far as they have not ended meanwhile."""
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


def _processes():
    """Returns the name of each process by its id."""
    found = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                found[int(directory.name)] = (directory / "comm").read_text().strip()
            except OSError:
                continue
    return found
