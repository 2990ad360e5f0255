"""A process for each engine that lives in the engine's root and times its commands.

A client is started with posix_spawn from a small process that is already in the right mount namespace, so that no
chroot, shell or large fork is part of what is measured.
"""

import ctypes
import json
import os
import resource  # noqa: F401  os.wait4 needs it, and cannot import it in another root
import signal
import statistics
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from .isolation import mount

CLONE_NEWNS = 0x0002_0000
PIVOT_ROOT_NUMBERS = {"x86_64": 155, "aarch64": 41}
MNT_DETACH = 2
COMMAND_SECONDS = 600
STOP_SECONDS = 30
OUTPUT_BYTES = 4096
LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class Finished:
    """One finished command: wall time, CPU time of the command itself (not of daemons), exit status, end of its output.

    Of several at once: the time until the last has ended, the sum of CPU times, the status of one that failed if one did.
    `tail` is the longest time of one by the median, 1 for a single command.
    """

    seconds: float
    cpu_seconds: float
    status: int
    output: str
    tail: float = 1.0


class Runner:
    """The caller's side: sends requests to the process and reads answers, one JSON document a line."""

    def __init__(self, root, work, hidden=()):
        """`root`: the peer's root file system, or None for the machine's own; `work`: shown in it as /mnt."""
        request_end, self._requests = os.pipe()
        self._answers, answer_end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _serve_until_closed(root, work, hidden, request_end, answer_end, (self._requests, self._answers))
        os.close(request_end)
        os.close(answer_end)
        self._answers = os.fdopen(self._answers, "r")
        self._read_answer()

    def time(self, argv, environment, copies=1):
        """Runs `argv` (its first word an absolute path) to its end, `copies` times at once, and returns a `Finished`."""
        return Finished(**self._ask({"do": "time", "argv": argv, "environment": environment, "copies": copies}))

    def start(self, argv, environment, log):
        """Starts a daemon with its output in the file `log`. Returns its process id."""
        return self._ask({"do": "start", "argv": argv, "environment": environment, "log": log})["pid"]

    def alive(self, pid):
        """Tells whether a daemon of this runner still runs."""
        return self._ask({"do": "alive", "pid": pid})["alive"]

    def stop(self, pid):
        """Ends a daemon with SIGTERM, and with SIGKILL if that takes too long."""
        self._ask({"do": "stop", "pid": pid})

    def close(self):
        """Ends the process."""
        os.close(self._requests)
        os.waitpid(self.pid, 0)

    def _ask(self, request):
        os.write(self._requests, (json.dumps(request) + "\n").encode())
        return self._read_answer()

    def _read_answer(self):
        line = self._answers.readline()
        if not line:
            raise OSError("the engine's runner ended; its message is above")
        answer = json.loads(line)
        if "error" in answer:
            raise OSError(answer["error"])
        return answer


def enter_root(root, work, hidden):
    """Makes `root` the root of a new mount namespace, with /proc, /sys, /dev and an empty /run and /tmp."""
    if LIBC.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")
    mount("--make-rprivate", "/")
    if root is None:
        return
    mount("--bind", root, root)
    for name in ("proc", "sys", "dev"):
        mount("--rbind", f"/{name}", f"{root}/{name}")
    for name in ("run", "tmp"):
        mount("-t", "tmpfs", "tmpfs", f"{root}/{name}")
    mount("--bind", work, f"{root}/mnt")
    for path in hidden:
        if os.path.ismount(root + path) and LIBC.umount2((root + path).encode(), MNT_DETACH) != 0:
            raise OSError(ctypes.get_errno(), f"umount {path}")
    os.chdir(root)
    if LIBC.syscall(PIVOT_ROOT_NUMBERS[os.uname().machine], b".", b".") != 0:
        raise OSError(ctypes.get_errno(), "pivot_root")
    LIBC.umount2(b".", MNT_DETACH)
    os.chdir("/")


def _serve_until_closed(root, work, hidden, request_end, answer_end, others):
    for descriptor in others:
        os.close(descriptor)
    # The answers of other runners' requests must not keep their pipes open here; posix_spawn closes them for clients.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    answers = os.fdopen(answer_end, "w")

    def answer(document):
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    try:
        enter_root(root and str(root), str(work), hidden)
        answer({})
        for line in os.fdopen(request_end, "r"):
            request = json.loads(line)
            try:
                answer(ACTIONS[request.pop("do")](**request))
            except (OSError, TimeoutError) as error:
                answer({"error": str(error)})
    except OSError as error:
        answer({"error": f"cannot enter the root: {error}"})
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(0)


def _time(argv, environment, copies):
    output = os.memfd_create("output")
    actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
               (os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    began = {}
    # A process group of their own: a daemon of this runner may end meanwhile, and is not to be reaped here.
    group = 0
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(group, signal.SIGKILL))
    begin = time.perf_counter()
    for _ in range(copies):
        now = time.perf_counter()
        child = os.posix_spawn(argv[0], argv, environment, file_actions=actions, setpgroup=group)
        group = group or child
        began[child] = now
    signal.alarm(COMMAND_SECONDS)
    cpu_seconds, failed, times = 0.0, 0, []
    while began:
        child, status, usage = os.wait4(-group, 0)
        times.append(time.perf_counter() - began.pop(child))
        cpu_seconds += usage.ru_utime + usage.ru_stime
        failed = os.waitstatus_to_exitcode(status) or failed
    seconds = time.perf_counter() - begin
    signal.alarm(0)
    size = os.fstat(output).st_size
    text = os.pread(output, OUTPUT_BYTES, max(0, size - OUTPUT_BYTES)).decode(errors="replace")
    os.close(output)
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "status": failed, "output": text,
            "tail": max(times) / statistics.median(times)}


def _start(argv, environment, log):
    actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
               (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
               (os.POSIX_SPAWN_DUP2, 1, 2)]
    return {"pid": os.posix_spawn(argv[0], argv, environment, file_actions=actions)}


def _alive(pid):
    try:
        return {"alive": os.waitpid(pid, os.WNOHANG) == (0, 0)}
    except ChildProcessError:
        return {"alive": False}


def _stop(pid):
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        deadline = time.monotonic() + seconds
        if _alive(pid)["alive"]:
            os.kill(pid, number)
        while time.monotonic() < deadline:
            if not _alive(pid)["alive"]:
                return {}
            time.sleep(0.02)
    return {}


ACTIONS = {"time": _time, "start": _start, "alive": _alive, "stop": _stop}


def tail(path, lines=5):
    """Returns the last lines of a log, for a message about a daemon that did not start."""
    try:
        return " | ".join(Path(path).read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
