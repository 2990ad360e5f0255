"""Measures: contenders take turns, so that a machine that is busy for a moment is busy for all of them."""

import statistics
import sys
import time
from dataclasses import dataclass, field


@dataclass
class Series:
    """The runs of one contender at one workload; `failure` says why there are none."""

    seconds: list = field(default_factory=list)
    cpu_seconds: list = field(default_factory=list)
    #: Of several at once: the longest time of one by the median of all, for each run.
    tails: list = field(default_factory=list)
    failure: str = ""

    @property
    def median(self):
        return statistics.median(self.seconds)


def measure(workload, contenders, runs, warm_ups, seconds):
    """Returns a `Series` for the label of each contender that takes part in the workload.

    After `seconds` no further turn begins, but each contender has one that counts.
    """
    deadline = time.monotonic() + seconds
    result = {c.label: Series() for c in contenders if workload.kind in c.kinds}
    racing = []
    for contender in contenders:
        if contender.label in result and _guarded(workload.set_up, contender, result):
            racing.append(contender)
    for turn in range(-warm_ups, runs):
        if turn > 0 and time.monotonic() > deadline:
            break
        for contender in list(racing):
            if not _guarded(lambda c: _run_once(workload, c, result[c.label], turn >= 0), contender, result):
                racing.remove(contender)
    for contender in contenders:
        if contender.label in result:
            try:
                workload.tear_down(contender)
            except (OSError, RuntimeError) as error:
                print(f"bench: {workload.name}: {contender.label}: {error}", file=sys.stderr)
    for label, series in result.items():
        text = series.failure or f"{series.median * 1000:.1f} ms ({len(series.seconds)} runs{tail_text(series)})"
        print(f"bench: {workload.name}: {label}: {text}", file=sys.stderr, flush=True)
    return result


def tail_text(series):
    """Returns the words about the slowest of several at once, nothing for single commands."""
    return f", slowest {statistics.median(series.tails):.1f} × median" if series.tails else ""


def _run_once(workload, contender, series, counts):
    workload.before(contender)
    if workload.idle_seconds:
        time.sleep(workload.idle_seconds)
    done = contender.must(workload.words(contender), workload.copies)
    workload.after(contender)
    if counts:
        series.seconds.append(done.seconds)
        series.cpu_seconds.append(done.cpu_seconds)
        if workload.copies > 1:
            series.tails.append(done.tail)


def _guarded(work, contender, result):
    """Runs `work`; a failure takes the contender out of the workload with its reason. Tells whether it went well."""
    try:
        work(contender)
    except (OSError, RuntimeError) as error:
        result[contender.label] = Series(failure=str(error))
        return False
    return True
