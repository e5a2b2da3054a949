"""``finequery bench diff``: two files of results, query by query."""

from __future__ import annotations

from dataclasses import dataclass

from finequery.bench import spread
from finequery.bench.engines import OURS
from finequery.bench.record import Results
from finequery.bench.report import columns, ms
from finequery.bench.spread import Bounds
from finequery.errors import DataError

#: What two runs may differ by before anybody cares.
LEAST = 0.03
#: Parts of the machine's description that make figures incomparable where they differ, and of its conditions.
MACHINE = ("cpu", "architecture", "cores", "memory_gb", "threads_used", "board")
CONDITIONS = ("governor", "gpu_governor", "mode", "cores_online", "clocks", "throttled")
#: How far load averages may lie apart, in running processes.
LOAD = 1.0


@dataclass(frozen=True, slots=True)
class Change:
    """A query in both files. ``ratio`` is the later time over the earlier one, None where either has none."""

    query: str
    before: float | None
    after: float | None
    ratio: Bounds | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """What two files say of an engine. ``mean`` is the geometric mean of the ratios."""

    engine: str
    changes: list[Change]
    mean: Bounds | None


def verdict(ratio: Bounds | None, least: float = LEAST) -> str:
    """Whether the later times are ``faster`` or ``slower`` than noise and ``least`` explain, or the ``same``."""
    if ratio is None:
        return "-"
    if ratio.high < 1.0 / (1.0 + least):
        return "faster"
    return "slower" if ratio.low > 1.0 + least else "same"


def worse(change: Change, least: float = LEAST) -> bool:
    """Whether a query became slower, or has no answer where it had one."""
    return verdict(change.ratio, least) == "slower" or (change.before is not None and change.after is None)


def check(before: Results, after: Results) -> None:
    """Refuse to compare what cannot be: raises DataError."""
    for what in ("suite", "scale"):
        a, b = getattr(before, what), getattr(after, what)
        if a != b:
            raise DataError(f"Results of unlike {what}s can't be compared: {a} and {b}")
    if before.simulated != after.simulated:
        found = before if before.simulated else after
        raise DataError(
            f"One file is simulated ({found.board}), the other measured",
            hint="finequery compare puts a machine beside a board.",
        )


def warnings(before: Results, after: Results) -> list[str]:
    """What makes the two runs unlike, or either unfair: machines, conditions, versions of packages."""
    found = [
        f"unlike machines: {name} was {before.machine.get(name)}, then {after.machine.get(name)}"
        for name in MACHINE
        if before.machine.get(name) != after.machine.get(name)
    ]
    found += [
        f"unlike conditions: {name} was {before.conditions.get(name)}, then {after.conditions.get(name)}"
        for name in CONDITIONS
        if before.conditions.get(name) != after.conditions.get(name)
    ]
    loads = [results.machine.get("load_average") for results in (before, after)]
    if loads[0] and loads[1] and abs(loads[0][0] - loads[1][0]) > LOAD:
        found.append(f"unlike conditions: the load average was {loads[0][0]:.1f}, then {loads[1][0]:.1f}")
    engines = [", ".join(results.engines) for results in (before, after)]
    if engines[0] != engines[1]:
        found.append(f"unlike conditions: {engines[0]} took turns, then {engines[1]}")
    versions = [results.machine.get("versions", {}) for results in (before, after)]
    found += [
        f"{name} was {old}, then {versions[1][name]}"
        for name, old in versions[0].items()
        if name not in ("finequery", "python") and versions[1].get(name, old) != old
    ]
    for when, results in (("before", before), ("after", after)):
        found += [f"{when}: {text}" for text in results.conditions.get("warnings", ())]
    return found


def differences(before: Results, after: Results) -> list[Difference]:
    """What changed, for every engine in both files."""
    return [_engine(before, after, name) for name in before.engines if name in after.engines]


def _engine(before: Results, after: Results, engine: str) -> Difference:
    queries = list(dict.fromkeys([*before.engines[engine], *after.engines[engine]]))
    changes = [_change(before, after, engine, query) for query in queries]
    ratios = [change.ratio for change in changes if change.ratio is not None]
    return Difference(engine, changes, spread.geometric_mean(ratios) if ratios else None)


def _change(before: Results, after: Results, engine: str, query: str) -> Change:
    entries = [results.engines[engine].get(query) for results in (before, after)]
    times = [results.seconds(engine, query) for results in (before, after)]
    medians = [spread.median(found) if found else None for found in times]
    old, new = medians
    if old is None or new is None:
        sides = [side for side, found in (("before", old), ("after", new)) if found is None]
        problem = next((str(e["problem"]).splitlines()[0] for e in entries if e and "problem" in e), "")
        note = f"not {' nor '.join(sides)}" + (f": {problem}" if problem else "")
        return Change(query, old and old.value, new and new.value, None, note)
    rows = [entry.get("rows") for entry in entries if entry]
    note = f"rows: {rows[0]}, then {rows[1]}" if rows[0] != rows[1] else ""
    return Change(query, old.value, new.value, spread.ratio(new, old), note)


def show(before: Results, after: Results, least: float = LEAST) -> str:
    """All of it as text. Of engines other than FineQuery only the mean: what an engine changed by that is the same in
    both files is the machine's doing, and FineQuery's change is given over it."""
    lines = [f"warning: {text}" for text in warnings(before, after)]
    if before.simulated:
        lines.append(f"simulated: {before.board}, then {after.board}")
    found = differences(before, after)
    mine = next((one for one in found if one.engine == OURS), None)
    lines += ["", *_table(mine, least)] if mine is not None else []
    for other in found:
        if other is mine or other.mean is None:
            continue
        lines.append(f"{other.engine}: {_interval(other.mean)} by the geometric mean")
        versions = [results.machine.get("versions", {}).get(other.engine) for results in (before, after)]
        if versions[0] == versions[1] and mine is not None and mine.mean is not None:
            over = spread.ratio(mine.mean, other.mean)
            lines[-1] += f", of the same version: the machine's doing. {OURS} over it: {_interval(over)}"
    return "\n".join(lines).strip("\n")


def _table(found: Difference, least: float) -> list[str]:
    table = [["query", "before ms", "after ms", "ratio", "from", "to", "verdict"]]
    for change in found.changes:
        times = ["-" if seconds is None else ms(seconds) for seconds in (change.before, change.after)]
        ratio = ["-", "", ""] if change.ratio is None else [f"{number:.2f}" for number in change.ratio]
        words = verdict(change.ratio, least) + (f"; {change.note}" if change.note else "")
        table.append([change.query, *times, *ratio, words])
    if found.mean is not None:
        numbers = [f"{number:.2f}" for number in found.mean]
        table.append(["geometric mean", "", "", *numbers, verdict(found.mean, least)])
    counts = [verdict(change.ratio, least) for change in found.changes]
    last = ", ".join(f"{counts.count(word)} {word}" for word in ("faster", "slower", "same"))
    bounds = f"ratios are after over before, with bounds of {spread.CONFIDENCE:.0%} from the spread within each file"
    return [*columns(table), "", f"{last}; {bounds}"]


def _interval(ratio: Bounds) -> str:
    return f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
