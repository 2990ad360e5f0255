"""The command: options, the run from start to end, and its clean-up."""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from . import fixtures, isolation, memory, registry, report
from .contenders import CONTENDERS, Unavailable
from .measure import measure
from .workloads import all_workloads

REPOSITORY = Path(__file__).resolve().parents[2]
INSIDE = "WHARF_BENCH_INSIDE"
#: Options whose values are paths: the recorded command names the option, not the path.
PATH_OPTIONS = {"--wharf": "BINARY", "--peers": "DIR", "--images": "DIR", "--work": "DIR", "--json": "FILE"}
SETTLE_SECONDS = 2.0


def main():
    """Runs the benchmark and returns the exit status: 0 if something was measured and nothing failed."""
    settings = parse(sys.argv[1:])
    if os.geteuid() != 0:
        sys.exit("bench: needs root")
    if INSIDE in os.environ:
        settings.work = Path(os.environ.pop(INSIDE))
        isolation.become_init(lambda: run(settings))
    if any(w.name == "apt" for w in chosen(settings)):
        fixtures.download_packages(settings.images)
    if settings.work:
        settings.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="wharf-bench-", dir=settings.work))
    os.environ[INSIDE] = str(work)
    try:
        return isolation.run_inside([str(REPOSITORY / "bench" / "run"), *sys.argv[1:]])
    finally:
        # Processes of an interrupted run may still write while they end.
        shutil.rmtree(work, ignore_errors=True)
        if work.exists():
            shutil.rmtree(work)


def parse(arguments):
    """Returns the settings; paths are absolute."""
    environment = os.environ.get
    parser = argparse.ArgumentParser(
        prog="bench/run", description="Times wharf, docker, podman and buildah side by side. The table goes to standard output.")
    parser.add_argument("--wharf", type=Path, default=environment("WHARF") or default_binary(), help="wharf's binary (default: target/release/wharf)")
    parser.add_argument("--peers", type=Path, default=environment("WHARF_BENCH_PEERS"), help="root made by bench/make-peers (or WHARF_BENCH_PEERS)")
    parser.add_argument("--images", type=Path, default=environment("WHARF_BENCH_IMAGES"), help="directory made by scripts/make-base-images (or WHARF_BENCH_IMAGES)")
    parser.add_argument("--work", type=Path, help="where the engines keep their data while they are measured (default: the temporary directory)")
    parser.add_argument("--json", type=Path, default=REPOSITORY / "target" / "bench.json", help="file for the raw results (default: target/bench.json)")
    parser.add_argument("-n", "--runs", type=int, default=10, help="measured runs of each workload (default: 10)")
    parser.add_argument("--warm-ups", type=int, default=1, help="runs before them that do not count (default: 1)")
    parser.add_argument("--size-mib", type=int, default=300, help="size of the image that is saved and loaded (default: 300)")
    parser.add_argument("--only", action="append", metavar="WORKLOAD", choices=[w.name for w in all_workloads()], help="only this workload; may be repeated")
    parser.add_argument("--without", action="append", default=[], metavar="CONTENDER", choices=[c.label for c in CONTENDERS], help="leave out this contender; may be repeated")
    parser.add_argument("--minutes", type=float, default=40, help="about how long the workloads may take: slow ones get fewer runs then (default: 40)")
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    settings = parser.parse_args(arguments)
    if settings.runs < 1 or settings.warm_ups < 0 or settings.size_mib < 1 or settings.minutes <= 0:
        parser.error("--runs and --size-mib must be at least 1, --warm-ups at least 0, --minutes more than 0")
    for name in ("wharf", "peers", "images", "work", "json"):
        path = getattr(settings, name)
        setattr(settings, name, path and Path(path).resolve())
    if not settings.images or not (settings.images / "busybox.tar").exists():
        parser.error("no busybox.tar; make it with scripts/make-base-images DIR and give --images DIR")
    if settings.wharf and not os.access(settings.wharf, os.X_OK):
        parser.error(f"{settings.wharf} is not a program; build wharf or give another --wharf")
    return settings


def chosen(settings):
    """Returns the workloads that are to be measured."""
    return [w for w in all_workloads() if not settings.only or w.name in settings.only]


def default_binary():
    """Returns the release build if there is one."""
    binary = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"), "release", "wharf")
    return binary if binary.exists() else None


def run(settings):
    """Does the whole measurement inside the namespaces."""
    isolation.prepare_namespaces()
    shutil.copy(settings.images / "busybox.tar", settings.work / "busybox.tar")
    workloads = chosen(settings)
    fixtures.make_inputs(settings, workloads)
    server = registry.serve(settings.work / "registry") if any(w.kind == "registry" for w in workloads) else None
    facts = {"date": report.today(), "machine": report.machine(), "load_before": report.load(), "command": shown_command(sys.argv[1:])}
    contenders, facts["unavailable"] = prepare(settings)
    figures = {}
    try:
        facts["versions"] = [text for text in (c.versions() for c in contenders) if text]
        rows = race(settings, workloads, contenders, figures)
    finally:
        for contender in reversed(contenders):
            contender.stop()
        if server:
            server.kill()
    facts["load_after"] = report.load()
    settings.json.parent.mkdir(parents=True, exist_ok=True)
    settings.json.write_text(json.dumps(report.document(facts, rows, figures), indent=1) + "\n")
    print(report.markdown(facts, rows, figures, [c.label for c in contenders]))
    failed = any(one.failure for _, series in rows for one in series.values())
    return 1 if failed or not contenders else 0


def prepare(settings):
    """Starts every contender. Returns those that run here, and for each other one the reason."""
    ready, unavailable, engines = [], {}, {}
    for kind in CONTENDERS:
        if kind.label in settings.without:
            continue
        try:
            if kind.engine != "wharf" and not settings.peers:
                raise Unavailable("no root with peers; make one with bench/make-peers DIR and give --peers DIR")
            contender = kind(settings, engines)
            contender.prepare(engines)
            ready.append(contender)
        except (Unavailable, OSError, RuntimeError) as error:
            unavailable[kind.label] = str(error)
            print(f"bench: {kind.label}: not measured: {error}", file=sys.stderr, flush=True)
    return ready, unavailable


def race(settings, workloads, contenders, figures):
    """Measures memory and the workloads. Returns a row for each workload and fills `figures` with memory."""
    with_containers = [] if settings.no_memory else [c for c in contenders if "run" in c.kinds]
    time.sleep(SETTLE_SECONDS)
    for contender in with_containers:
        figures[contender.label] = {"fresh_kib": memory.daemons_kib(contender), "binary_kib": contender.binary_kib()}
    rows = []
    end = time.monotonic() + settings.minutes * 60
    for number, workload in enumerate(workloads):
        # What fast workloads leave over goes to those that come later.
        share = max(0.0, end - time.monotonic()) / (len(workloads) - number)
        titled = workload.__class__(**{**workload.__dict__, "title": workload.title.format(size=settings.size_mib)})
        rows.append((titled, measure(workload, contenders, settings.runs, settings.warm_ups, share)))
    time.sleep(SETTLE_SECONDS)
    for contender in with_containers:
        own = figures[contender.label]
        own["used_kib"] = memory.daemons_kib(contender)
        try:
            own.update(memory.beside_containers(contender))
        except (OSError, RuntimeError) as error:
            print(f"bench: memory: {contender.label}: {error}", file=sys.stderr)
    return rows


def shown_command(arguments):
    """Returns the command line without this machine's paths."""
    shown, rest = ["bench/run"], iter(arguments)
    for word in rest:
        name, equals, _ = word.partition("=")
        if name in PATH_OPTIONS:
            shown.append(f"{name} {PATH_OPTIONS[name]}")
            if not equals:
                next(rest, None)
        else:
            shown.append(word)
    return " ".join(shown)
