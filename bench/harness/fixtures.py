"""The inputs that every contender gets: a build context, and an archive of an image in the form `docker save` writes."""

import hashlib
import io
import json
import os
import random
import shutil
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path

from .contenders import BUSYBOX, DEBIAN, MANY, PUSHED, SAVED

STEPS = 10
LAYERS = 4
PUSHED_LAYERS = 8
LONG_STEPS = 28
MANY_IMAGES = 500
DANGLING_IMAGES = 200
FILE_BYTES = 256 << 10
CREATED = "2024-01-01T00:00:00Z"
FILES = 50_000
FILES_PER_DIRECTORY = 100
SMALL_FILE_BYTES = 1 << 10
STAGES = 4
STAGE_SECONDS = 1
#: With what they need, about thirty packages that debian:bookworm-slim does not have.
PACKAGES = ("curl", "git", "less", "make", "patch")


def make_context(directory):
    """Writes the Dockerfile with ten RUN steps that each write one small file."""
    directory.mkdir()
    steps = "".join(f"RUN echo {number} >/file-{number}\n" for number in range(STEPS))
    (directory / "Dockerfile").write_text(f"FROM {BUSYBOX}\n{steps}")


def make_files(directory):
    """Writes 50,000 files of 1 KiB in 500 directories, and a Dockerfile that copies all of them."""
    directory.mkdir()
    source = random.Random(0)
    for number in range(FILES):
        parent = directory / "files" / str(number // FILES_PER_DIRECTORY)
        parent.mkdir(parents=True, exist_ok=True)
        (parent / str(number)).write_bytes(source.randbytes(SMALL_FILE_BYTES))
    (directory / "Dockerfile").write_text(f"FROM {BUSYBOX}\nCOPY files /files\nRUN true\n")


def touch_files(directory):
    """Gives every file of `make_files` new times, so that nothing an engine knows of them holds."""
    for path in (directory / "files").glob("*/*"):
        os.utime(path)


def change_file(directory):
    """Gives one file of `make_files` other bytes."""
    (directory / "files" / "0" / "0").write_bytes(os.urandom(SMALL_FILE_BYTES))


def make_steps(directory):
    """Writes a Dockerfile of `LONG_STEPS` steps of several kinds, as long ones have them."""
    directory.mkdir()
    kinds = ("RUN echo {0} >/file-{0}", "ENV NUMBER_{0}={0}", "COPY part /part-{0}", "WORKDIR /work-{0}")
    steps = "".join(kinds[number % len(kinds)].format(number) + "\n" for number in range(LONG_STEPS))
    (directory / "part").write_text("part\n")
    (directory / "Dockerfile").write_text(f"FROM {BUSYBOX}\n{steps}")


def make_large(directory, size_mib):
    """Writes a context with one file of `size_mib` MiB, and twice as much that its `.dockerignore` leaves out."""
    (directory / "ignored").mkdir(parents=True)
    for path, mib in [(directory / "file", size_mib), *((directory / "ignored" / str(n), 1) for n in range(2 * size_mib))]:
        with open(path, "wb") as file:
            for _ in range(mib):
                file.write(os.urandom(1 << 20))
    (directory / ".dockerignore").write_text("ignored\n")
    (directory / "Dockerfile").write_text(f"FROM {BUSYBOX}\nCOPY file /\n")


def touch_large(directory):
    """Gives the file of `make_large` a new time."""
    os.utime(directory / "file")


def make_stages(directory):
    """Writes a Dockerfile with four stages that need nothing of each other and take a second each."""
    directory.mkdir()
    stages = "".join(f"FROM {BUSYBOX} AS stage-{number}\nRUN sleep {STAGE_SECONDS}; echo {number} >/result-{number}\n" for number in range(STAGES))
    copies = "".join(f"COPY --from=stage-{number} /result-{number} /\n" for number in range(STAGES))
    (directory / "Dockerfile").write_text(f"{stages}FROM {BUSYBOX}\n{copies}")


def download_packages(images):
    """Downloads the Debian packages of the apt workload into `images`/packages once; needs the network."""
    directory = images / "packages"
    if directory.exists():
        return
    with tempfile.TemporaryDirectory(prefix="wharf-bench-") as root:
        subprocess.run(["tar", "-xf", images / "debian.tar", "-C", root], check=True)
        shutil.copy("/etc/resolv.conf", Path(root, "etc/resolv.conf"))
        os.mknod(Path(root, "dev/null"), stat.S_IFCHR, os.makedev(1, 3))
        # apt fetches as a user of its own.
        os.chmod(Path(root, "dev/null"), 0o666)
        os.chmod(root, 0o755)
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["chroot", root, "apt-get", "update"], **quiet)
        subprocess.run(["chroot", root, "apt-get", "-y", "--no-install-recommends", "-o", "APT::Keep-Downloaded-Packages=true",
                        "--download-only", "install", *PACKAGES], **quiet)
        part = directory.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        for package in Path(root, "var/cache/apt/archives").glob("*.deb"):
            shutil.copy(package, part)
        part.rename(directory)


def make_debian(images, path):
    """Writes the root file system of an image with a repository of its own in /repository."""
    packages = sorted((images / "packages").glob("*.deb"))
    index = "".join(_package_index(package) for package in packages)
    shutil.copy(images / "debian.tar", path)
    with tarfile.open(path, "a") as archive:
        for package in packages:
            archive.add(package, f"./repository/{package.name}")
        _add(archive, "./repository/Packages", index.encode())
        _add(archive, "./repository/sources.list", b"deb [trusted=yes] file:/repository ./\n")


def _package_index(package):
    control = subprocess.run(["dpkg-deb", "-f", package], check=True, capture_output=True, text=True).stdout
    content = package.read_bytes()
    return f"{control}Filename: ./{package.name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n\n"


def make_apt(directory):
    """Writes a Dockerfile that installs about thirty packages."""
    directory.mkdir()
    apt = "apt-get -o Dir::Etc::sourcelist=/repository/sources.list -o Dir::Etc::sourceparts=/dev/null"
    (directory / "Dockerfile").write_text(
        f"FROM {DEBIAN}\nRUN {apt} update && {apt} install -y --no-install-recommends {' '.join(PACKAGES)}\n")


def make_archive(path, name, size_mib, count):
    """Writes an image of `size_mib` MiB in `count` layers of 256 KiB files, the same bytes every time."""
    layers = []
    for number in range(count):
        layer = path.with_name(f"layer-{number}.tar")
        layers.append((layer, _write_layer(layer, number, (size_mib << 20) // count)))
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for layer, digest in layers:
            archive.add(layer, f"{digest}/layer.tar")
            layer.unlink()
        image = _add_image(archive, [digest for _, digest in layers], "layers", [name])
        _add(archive, "manifest.json", json.dumps([image]).encode())


def make_many(path, count, named):
    """Writes `count` images with the same small layer, with a name each or with none."""
    layer = path.with_name("layer.tar")
    digest = _write_layer(layer, 0, FILE_BYTES)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(layer, f"{digest}/layer.tar")
        layer.unlink()
        images = [_add_image(archive, [digest], f"{path.stem} {number}", [f"{MANY}:{number}"] if named else None)
                  for number in range(count)]
        _add(archive, "manifest.json", json.dumps(images).encode())


def _add_image(archive, digests, command, names):
    """Adds an image's config to an archive and returns the manifest's entry. Another `command` makes another image."""
    config = json.dumps({
        "architecture": _architecture(), "os": "linux", "created": CREATED, "config": {"Cmd": [command]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created": CREATED, "created_by": f"layer {number}"} for number in range(len(digests))],
    }).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    _add(archive, name, config)
    return {"Config": name, "RepoTags": names, "Layers": [f"{digest}/layer.tar" for digest in digests]}


def make_inputs(settings, workloads):
    """Writes what the chosen workloads need below the work directory."""
    work, size_mib = settings.work, settings.size_mib
    names = {w.name for w in workloads}
    makers = (
        ({"files-cold", "files-unchanged", "files-changed"}, lambda: make_files(work / "files")),
        ({"build-28-steps"}, lambda: make_steps(work / "steps")),
        ({"context-large", "context-ignored"}, lambda: make_large(work / "large", size_mib)),
        ({"stages"}, lambda: make_stages(work / "stages")),
        ({"apt"}, lambda: (make_debian(settings.images, work / "debian.tar"), make_apt(work / "apt"))),
        ({"load", "save", "rmi"}, lambda: make_archive(work / "archive.tar", SAVED, size_mib, LAYERS)),
        ({"push", "pull"}, lambda: make_archive(work / "layers.tar", PUSHED, size_mib, PUSHED_LAYERS)),
        ({"images"}, lambda: make_many(work / "many.tar", MANY_IMAGES, True)),
        ({"prune"}, lambda: make_many(work / "dangling.tar", DANGLING_IMAGES, False)),
    )
    make_context(work / "context")
    for users, make in makers:
        if names & users:
            make()


def _write_layer(path, number, size_bytes):
    """Writes one layer: half of each file is random and half repeats, as programs compress to about half."""
    source = random.Random(number)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as layer:
        for index in range(max(1, size_bytes // FILE_BYTES)):
            content = source.randbytes(FILE_BYTES // 2) + source.randbytes(64) * (FILE_BYTES // 2 // 64)
            _add(layer, f"data-{number}/{index // 64}/{index}", content)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add(archive, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o644
    entry.mtime = 1_704_067_200
    archive.addfile(entry, io.BytesIO(content))


def _architecture():
    machines = {"x86_64": "amd64", "aarch64": "arm64"}
    return machines.get(os.uname().machine, os.uname().machine)
