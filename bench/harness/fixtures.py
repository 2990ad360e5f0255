"""The inputs that every contender gets: a build context, and an archive of an image in the form `docker save` writes."""

import hashlib
import io
import json
import os
import random
import tarfile

from .contenders import BUSYBOX, SAVED

STEPS = 10
LAYERS = 4
FILE_BYTES = 256 << 10
CREATED = "2024-01-01T00:00:00Z"


def make_context(directory):
    """Writes the Dockerfile with ten RUN steps that each write one small file."""
    directory.mkdir()
    steps = "".join(f"RUN echo {number} >/file-{number}\n" for number in range(STEPS))
    (directory / "Dockerfile").write_text(f"FROM {BUSYBOX}\n{steps}")


def make_archive(path, size_mib):
    """Writes an image of `size_mib` MiB in `LAYERS` layers of 256 KiB files, the same bytes every time."""
    layers = []
    for number in range(LAYERS):
        layer = path.with_name(f"layer-{number}.tar")
        layers.append((layer, _write_layer(layer, number, (size_mib << 20) // LAYERS)))
    config = json.dumps({
        "architecture": _architecture(), "os": "linux", "created": CREATED, "config": {"Cmd": ["/none"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for _, digest in layers]},
        "history": [{"created": CREATED, "created_by": f"layer {number}"} for number in range(LAYERS)],
    }).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [SAVED],
                            "Layers": [f"{digest}/layer.tar" for _, digest in layers]}]).encode()
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for layer, digest in layers:
            archive.add(layer, f"{digest}/layer.tar")
            layer.unlink()
        for name, content in ((config_name, config), ("manifest.json", manifest)):
            _add(archive, name, content)


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
