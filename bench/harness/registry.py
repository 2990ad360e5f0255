"""The registry that images are pushed to and pulled from: docker-registry on the loopback address of the run's own namespace."""

import shutil
import socket
import subprocess
import time

ADDRESS = ("127.0.0.1", 5000)
START_SECONDS = 10


def serve(directory):
    """Starts the registry with its data in `directory`. Returns its process."""
    directory.mkdir()
    # No cache of blobs: `empty` takes them away under the registry.
    config = directory.with_suffix(".yml")
    config.write_text(f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {directory}}}}}\n"
                      f"http: {{addr: '{ADDRESS[0]}:{ADDRESS[1]}'}}\n")
    process = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(ADDRESS).close()
            return process
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise OSError("docker-registry does not listen; install it, or leave push and pull out with --only")


def empty(directory):
    """Removes all that was pushed."""
    shutil.rmtree(directory / "docker", ignore_errors=True)
