"""Runs the benchmark where nothing it does can stay behind.

The inner process has a mount, network, process and cgroup namespace of its own: bridges, firewall rules,
mounts and stray processes end with it. Only its cgroups are visible from outside; the outer process removes them.
"""

import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
REMOVAL_SECONDS = 20


class Hierarchy:
    """One mounted cgroup hierarchy, and the directory of it that this run gets."""

    def __init__(self, filesystem, mount_point, options, own_path):
        self.filesystem = filesystem
        self.mount_point = Path(mount_point)
        self.options = options
        self.parent = self.mount_point / own_path.lstrip("/")
        self.directory = self.parent / f"wharf-bench-{os.getpid()}"

    def create(self):
        """Makes the directory; a cpuset takes processes only once it has CPUs and memory nodes."""
        self.directory.mkdir()
        for name in ("cpuset.cpus", "cpuset.mems"):
            if self.filesystem == "cgroup" and (self.parent / name).exists():
                (self.directory / name).write_text((self.parent / name).read_text())

    def join(self):
        """Moves the calling process into the directory."""
        (self.directory / "cgroup.procs").write_text("0")

    def remove(self):
        """Removes the directory and all below it, waiting for processes that are still ending."""
        deadline = time.monotonic() + REMOVAL_SECONDS
        while self.directory.exists():
            for path, _, _ in os.walk(self.directory, topdown=False):
                try:
                    os.rmdir(path)
                except OSError as error:
                    if time.monotonic() > deadline:
                        print(f"bench: cannot remove cgroup {path}: {error.strerror}", file=sys.stderr)
                        return
            time.sleep(0.05)


def hierarchies():
    """Returns the cgroup hierarchies below /sys/fs/cgroup with this process's place in each (see cgroups(7))."""
    places = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        places[controllers] = path
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        mount_point = fields.split()[4]
        filesystem, _, options = tail.split()[:3]
        if filesystem not in ("cgroup", "cgroup2") or not mount_point.startswith(str(CGROUP_ROOT)):
            continue
        names = [name for name in options.split(",") if name in places or name.startswith("name=") or "," not in name]
        key = "" if filesystem == "cgroup2" else next((c for c in places if c and set(c.split(",")) <= set(names)), None)
        if key is not None:
            found.append(Hierarchy(filesystem, mount_point, key, places[key]))
    return found


def is_pure_v2(found):
    """Tells whether the machine has the unified hierarchy only."""
    return any(h.filesystem == "cgroup2" and h.mount_point == CGROUP_ROOT for h in found)


def run_inside(arguments):
    """Runs bench/run again with `arguments` in namespaces of its own. Returns its exit status."""
    found = hierarchies()
    flags = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    # A v2 group that holds processes gives no controllers to its children, so there the peers use the host's tree.
    own = [] if is_pure_v2(found) else found
    if own:
        flags.append("--cgroup")

    def join_all():
        for hierarchy in own:
            hierarchy.join()

    made = []
    try:
        for hierarchy in own:
            hierarchy.create()
            made.append(hierarchy)
        child = subprocess.Popen(["unshare", *flags, sys.executable, *arguments], preexec_fn=join_all)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: child.kill())
        return child.wait()
    finally:
        for hierarchy in made:
            hierarchy.remove()


def become_init(work):
    """Runs `work()` in a child and reaps, as the first process of a process namespace must. Never returns."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = work()
        except Exception:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status or 0)
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def mount(*arguments):
    """Calls mount(8); raises with its message if it fails."""
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"mount {' '.join(map(str, arguments))}: {done.stderr.strip()}")


def prepare_namespaces():
    """Mounts a /sys that shows the new network namespace and cgroups that begin at this run's own; sets lo up."""
    found = hierarchies()
    places = [(h.filesystem, h.mount_point, h.options) for h in found]
    pure_v2 = is_pure_v2(found)
    mount("-t", "sysfs", "sysfs", "/sys")
    if pure_v2:
        mount("-t", "cgroup2", "cgroup2", CGROUP_ROOT)
    else:
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", CGROUP_ROOT)
        for filesystem, mount_point, controllers in places:
            mount_point.mkdir()
            if filesystem == "cgroup2":
                mount("-t", "cgroup2", "cgroup2", mount_point)
            else:
                options = f"none,{controllers}" if controllers.startswith("name=") else controllers
                mount("-t", "cgroup", "-o", options, "cgroup", mount_point)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
