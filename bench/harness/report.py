"""Writes the results: a Markdown section for people, a JSON document for programs."""

import dataclasses
import os
import time

from .measure import tail_text


def best_peer(series):
    """Returns the label and the median of the fastest contender that is not wharf, or None."""
    medians = {label: one.median for label, one in series.items() if label != "wharf" and one.seconds}
    return min(medians.items(), key=lambda pair: pair[1]) if medians else None


def table(rows, labels):
    """Returns the Markdown table of times. `rows`: pairs of a workload and its series."""
    lines = ["| workload (ms: median, min–max) | " + " | ".join(labels) + " | best peer | wharf / best peer | goal |",
             "| --- |" + " ---: |" * len(labels) + " --- | ---: | ---: |"]
    for workload, series in rows:
        cells = [_times(series.get(label)) for label in labels]
        best = best_peer(series)
        own = series.get("wharf")
        ratio = f"{own.median / best[1]:.2f}" if best and own and own.seconds else "–"
        goal = f"≤ {1 / workload.goal:.2f}" if workload.goal else "–"
        lines.append(f"| {workload.title} | " + " | ".join(cells) + f" | {best[0] if best else '–'} | {ratio} | {goal} |")
    return "\n".join(lines)


def memory_table(memory, labels):
    """Returns the Markdown table of memory figures."""
    lines = ["| MiB (memory: PSS) | " + " | ".join(labels) + " |", "| --- |" + " ---: |" * len(labels)]
    for key, title in (("fresh_kib", "idle daemon, just started"), ("used_kib", "idle daemon, after the workloads"),
                       ("shim_kib", "beside each running container"), ("daemon_growth_kib", "growth of the daemon a container"), ("binary_kib", "the binary")):
        cells = [f"{memory[label][key] / 1024:.2f}" if memory.get(label, {}).get(key) is not None else "–" for label in labels]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def markdown(facts, rows, memory, labels):
    """Returns the whole section: circumstances, tables, and every contender or workload that failed with its reason."""
    lines = [f"## {facts['date']}", "",
             f"- machine: {facts['machine']}", f"- load average: {facts['load_before']} before, {facts['load_after']} after",
             f"- command: `{facts['command']}`", *(f"- {text}" for text in facts["versions"]), "",
             table(rows, labels), ""]
    shown = [label for label in labels if label in memory]
    if shown:
        lines += [memory_table(memory, shown), ""]
    failures = [f"- {label}: not measured: {reason}" for label, reason in facts["unavailable"].items()]
    failures += [f"- {workload.name}: {label}: {one.failure}" for workload, series in rows for label, one in series.items() if one.failure]
    if failures:
        lines += ["Not measured:", "", *failures, ""]
    return "\n".join(lines)


def document(facts, rows, memory):
    """Returns all that was measured as a JSON-ready dictionary; times in seconds, memory in KiB."""
    return {"facts": facts, "memory": memory,
            "workloads": {w.name: {label: dataclasses.asdict(one) for label, one in series.items()} for w, series in rows}}


def machine():
    """Returns the kernel, the processors and the memory in words."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    hierarchy = "v2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "v1"
    return f"Linux {os.uname().release} {os.uname().machine}, {os.cpu_count()} CPUs, {memory_gib:.0f} GiB, cgroup {hierarchy}"


def load():
    """Returns the load average of the last minute."""
    return f"{os.getloadavg()[0]:.2f}"


def today():
    """Returns the date and the minute in UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def _times(series):
    if series is None:
        return ""
    if series.failure:
        return "failed"
    low, high = min(series.seconds) * 1000, max(series.seconds) * 1000
    digits = 0 if low >= 100 else 1
    return f"**{series.median * 1000:.{digits}f}** {low:.{digits}f}–{high:.{digits}f}{tail_text(series)}"
