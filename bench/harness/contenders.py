"""Who is measured: how each engine is started, and how it spells each operation of a workload."""

import re
import resource
import time
from pathlib import Path

from .runner import Runner, tail

BUSYBOX = "localhost/bench-busybox:latest"
DEBIAN = "localhost/bench-debian:latest"
BUILT = "localhost/bench-built:latest"
COMMITTED = "localhost/bench-committed:latest"
SAVED = "localhost/bench-saved:latest"
MANY = "localhost/bench-many"
#: On the registry that the run itself serves.
PUSHED = "127.0.0.1:5000/bench/pushed:latest"
#: What the names of many containers begin with.
BURST = "bench-many"
IDLE = ["sleep", "100000"]
START_SECONDS = 30
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ALL = frozenset({"run", "exec", "build", "commit", "archive", "registry"})


class Unavailable(Exception):
    """Why a contender is not measured here."""


class Contender:
    """One engine as its user sees it: a client command with docker's words. Subclasses say what differs."""

    label = ""
    #: Kinds of workloads it takes part in.
    kinds = ALL
    #: Contenders with the same engine share its daemon and its store; the first one prepares them.
    engine = ""

    def __init__(self, settings, engines):
        self.settings = settings
        self.environment = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}
        self.client = []
        #: Process id of the daemon, None for an engine without one.
        self.daemon = None
        #: The work directory as the engine sees it.
        self.view = "/mnt"
        #: The engine's runner, if another contender has prepared the engine.
        self.runner = engines.get(self.engine)

    def prepare(self, engines):
        """Starts the engine and gives it the image, unless another contender of the same engine has."""
        if self.runner is not None:
            return
        self.runner = self.enter()
        try:
            self.start()
            self.must(["import", f"{self.view}/busybox.tar", BUSYBOX])
            if (self.settings.work / "debian.tar").exists():
                self.must(["import", f"{self.view}/debian.tar", DEBIAN])
        except (Unavailable, OSError, RuntimeError):
            self.stop()
            self.runner.close()
            raise
        engines[self.engine] = self.runner

    def enter(self):
        """Returns a runner in the engine's root."""
        return Runner(self.settings.peers, self.settings.work)

    def start(self):
        """Starts daemons, where the engine has any."""

    def stop(self):
        """Ends the daemon."""
        if self.daemon:
            self.runner.stop(self.daemon)

    def versions(self):
        """Returns the version of each part as text."""
        return ""

    def binary_kib(self):
        """Returns the size in KiB of all programs that the engine needs, None where that is not one file of ours."""
        return None

    def run(self, words, copies=1):
        """Runs the client with `words`, `copies` times at once, and returns the `Finished`."""
        return self.runner.time([*self.client, *words], self.environment, copies)

    def must(self, words, copies=1):
        """Runs the client with `words`; a failure is a `RuntimeError` with the client's own message."""
        done = self.run(words, copies)
        if done.status != 0:
            raise RuntimeError(f"{self.label} {' '.join(words)}: exit {done.status}: {last_lines(done.output)}")
        return done

    def output(self, argv):
        """Returns what another program of the engine's root prints, or nothing if it fails."""
        try:
            done = self.runner.time(argv, self.environment)
        except OSError:
            return ""
        return done.output if done.status == 0 else ""

    def wait_until_up(self, log, words):
        """Waits until the client's `words` succeed, which tells that the daemon serves."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not self.runner.alive(self.daemon):
                raise Unavailable(f"its daemon ended: {tail(log)}")
            if self.run(words).status == 0:
                return
            time.sleep(0.1)
        raise Unavailable(f"its daemon did not answer within {START_SECONDS} s: {tail(log)}")

    # The operations. Each returns the client's words.

    def run_true(self, network):
        return ["run", "--rm", *network_flag(network), BUSYBOX, "true"]

    def start_container(self, name, network=None):
        return ["run", "-d", "--name", name, *network_flag(network), BUSYBOX, *IDLE]

    def create_container(self, name):
        return ["create", "--name", name, BUSYBOX, "true"]

    def remove_container(self, name):
        return ["rm", "-f", name]

    def exec_true(self, name):
        return ["exec", name, "true"]

    def build(self, cached, network, context="context"):
        return ["build", *([] if cached else ["--no-cache"]), *network_flag(network), "-t", BUILT, f"{self.view}/{context}"]

    def forget_builds(self):
        return [["rmi", "-f", BUILT]]

    def prepare_change(self, name):
        return self.start_container(name, "none")

    def change(self, name, command):
        return ["exec", name, "sh", "-c", command]

    def commit(self, name):
        return ["commit", name, COMMITTED]

    def remove_image(self, name):
        return ["rmi", "-f", name]

    def save(self):
        return ["save", "-o", f"{self.view}/{self.engine}-saved.tar", SAVED]

    def load(self, archive):
        return ["load", "-i", f"{self.view}/{archive}.tar"]

    def push(self):
        return ["push", PUSHED]

    def pull(self):
        return ["pull", PUSHED]


class Wharf(Contender):
    label = "wharf"
    engine = "wharf"

    def enter(self):
        if not self.settings.wharf:
            raise Unavailable("no binary; build it and name it with --wharf")
        return Runner(None, self.settings.work)

    def start(self):
        self.view = str(self.settings.work)
        directory = Path(self.view, "wharf")
        socket = directory / "wharf.sock"
        log = str(directory / "log")
        directory.mkdir()
        self.client = [str(self.settings.wharf)]
        self.environment["DOCKER_HOST"] = f"unix://{socket}"
        self.daemon = self.runner.start([*self.client, "daemon", "--socket", str(socket), "--root", str(directory / "root"),
                                 "--run-dir", str(directory / "run")], self.environment, log)
        self.wait_until_up(log, ["version"])

    def binary_kib(self):
        return self.settings.wharf.stat().st_size // 1024

    def forget_builds(self):
        return [["rmi", "-f", BUILT], ["builder", "prune", "-af"]]

    def versions(self):
        return first_line(self.output([*self.client, "--version"])) or "wharf"


class Docker(Contender):
    label = "docker"
    engine = "docker"
    buildkit = "1"

    def __init__(self, settings, engines):
        super().__init__(settings, engines)
        self.client = ["/usr/bin/docker", "-H", "unix:///run/docker.sock"]
        self.environment["DOCKER_BUILDKIT"] = self.buildkit

    def start(self):
        directory = self.settings.work / "docker"
        directory.mkdir()
        log = str(directory / "log")
        self.daemon = self.runner.start(
            ["/usr/sbin/dockerd", "--data-root", "/mnt/docker/data", "--exec-root", "/run/docker", "--pidfile", "/run/docker.pid",
             "--host", "unix:///run/docker.sock", "--storage-driver", "overlay2"], self.environment, "/mnt/docker/log")
        self.wait_until_up(log, ["version"])

    def forget_builds(self):
        return [["rmi", "-f", BUILT], ["builder", "prune", "-af"]]

    def versions(self):
        engine = self.must(["version", "--format", "{{.Client.Version}}/{{.Server.Version}}"]).output.strip()
        return (f"docker client/engine {engine}, {numbered('containerd', self.output(['/usr/bin/containerd', '--version']))}, "
                f"{numbered('runc', self.output(['/usr/sbin/runc', '--version']))}, "
                f"{numbered('buildx', self.output(['/usr/libexec/docker/cli-plugins/docker-buildx', 'version']))}, overlay2")


class DockerClassic(Docker):
    """The same daemon with the builder that came before BuildKit."""

    label = "docker, classic builder"
    kinds = frozenset({"build"})
    buildkit = "0"

    def prepare(self, engines):
        if self.runner is None:
            raise Unavailable("it is a builder of docker, and docker is not measured")

    def stop(self):
        """Does nothing: the daemon is docker's."""

    def forget_builds(self):
        return [["rmi", "-f", BUILT], ["image", "prune", "-f"]]

    def versions(self):
        return ""


class Podman(Contender):
    label = "podman"
    engine = "podman"
    binary = "/usr/bin/podman"
    #: crun takes a machine with v1 controllers and a mounted v2 hierarchy for one it cannot run on.
    hidden = ("/sys/fs/cgroup/unified",)

    def __init__(self, settings, engines):
        super().__init__(settings, engines)
        self.environment["PODMAN_IGNORE_CGROUPSV1_WARNING"] = "1"
        self.client = [self.binary, "--root", "/mnt/podman/storage", "--runroot", "/run/podman", "--storage-driver", "overlay",
                       "--runtime", "crun", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]

        self.environment["CONTAINERS_CONF_OVERRIDE"] = "/mnt/containers.conf"

    def enter(self):
        # Build steps otherwise ask for more files and processes than root without CAP_SYS_RESOURCE may have.
        limits = [f'"{name}={hard}:{hard}"' for name, hard in (("nofile", hard_limit(resource.RLIMIT_NOFILE)),
                                                              ("nproc", hard_limit(resource.RLIMIT_NPROC)))]
        (self.settings.work / "containers.conf").write_text(f"[containers]\ndefault_ulimits = [{', '.join(limits)}]\n")
        return Runner(self.settings.peers, self.settings.work, self.hidden)

    def push(self):
        return ["push", "--tls-verify=false", PUSHED]

    def pull(self):
        return ["pull", "--tls-verify=false", PUSHED]

    def forget_builds(self):
        return [["rmi", "-f", BUILT], ["image", "prune", "-f"]]

    def versions(self):
        return (f"{numbered('podman', self.output([self.binary, '--version']))}, "
                f"{numbered('crun', self.output(['/usr/bin/crun', '--version']))}, "
                f"{numbered('conmon', self.output(['/usr/bin/conmon', '--version']))}, "
                f"{numbered('netavark', self.output(['/usr/lib/podman/netavark', '--version']))}")


class Buildah(Podman):
    """Builds and commits with podman's store but without podman."""

    label = "buildah"
    kinds = frozenset({"build", "commit"})
    binary = "/usr/bin/buildah"

    def __init__(self, settings, engines):
        super().__init__(settings, engines)
        self.environment["BUILDAH_RUNTIME"] = "crun"
        self.client = [self.binary, "--root", "/mnt/podman/storage", "--runroot", "/run/podman", "--storage-driver", "overlay"]

    def prepare(self, engines):
        if self.runner is None:
            raise Unavailable("it is measured with podman's store, and podman is not measured")
        self.must(["images"])

    def build(self, cached, network, context="context"):
        layers = ["--layers"] if cached else ["--no-cache"]
        return ["build", *layers, "--isolation", "oci", *network_flag(network), "-t", BUILT, f"/mnt/{context}"]

    def forget_builds(self):
        return [["rmi", "-f", BUILT], ["rmi", "--prune"]]

    def prepare_change(self, name):
        return ["from", "--name", name, BUSYBOX]

    def change(self, name, command):
        return ["run", "--isolation", "oci", "--network", "none", name, "sh", "-c", command]

    def remove_container(self, name):
        return ["rm", name]

    def versions(self):
        return numbered("buildah", self.output([self.binary, "--version"]))


CONTENDERS = (Wharf, Docker, DockerClassic, Podman, Buildah)


def network_flag(network):
    """Returns the flags for a network mode; None is the engine's default."""
    return ["--network", network] if network else []


def hard_limit(name):
    """Returns this process's hard limit of a resource, -1 for none."""
    return resource.getrlimit(name)[1]


def numbered(name, text):
    """Returns the program's name and the first version number in what it printed about itself."""
    match = re.search(r"\d+\.\d+(\.\d+)?", text)
    return f"{name} {match.group(0)}" if match else f"{name} (unknown version)"


def first_line(text):
    """Returns the first line of a text."""
    return text.strip().split("\n", 1)[0]


def last_lines(text, lines=3):
    """Returns the end of a text as one line."""
    return " | ".join(text.strip().splitlines()[-lines:])
