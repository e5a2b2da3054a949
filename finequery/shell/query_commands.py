"""Dot commands for where queries run, and for what the last one took."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING

from finequery.errors import NotSupportedError, ProgrammingError
from finequery.settings import find as find_setting
from finequery.shell.commands import choice, command, literal
from finequery.shell.shell import Shell

if TYPE_CHECKING:
    from finequery.relation import Relation

DEVICES = ("auto", "cpu", "gpu")
OBJECTIVES = ("latency", "energy", "edp")
WIDTH = 79


def _set(shell: Shell, name: str, value: str) -> None:
    shell.run(f"set {name} = {literal(value)}")


@command(".device [auto|cpu|gpu]", "|".join(DEVICES))
def device(shell: Shell, name: str | None = None) -> None:
    """Where queries run, and what this machine has.

    auto lets the performance model choose for each pipeline.
    """
    if name is not None:
        _set(shell, "device", choice("device", name, DEVICES))
        return
    from finequery.jetson.device import report

    shell.output.text(f"device = {shell.connection.settings['device']}\n\n{report()}")


@command(".board [NAME|none]", "board")
def board(shell: Shell, name: str | None = None) -> None:
    """Simulate a board; without a name, list them.

    none ends it. Answers stay this machine's. Places, times and joules are then the
    simulator's: see .plan, .timer and .energy. NAME:MODE is a power mode, as in
    agx-xavier:15W.
    """
    from finequery.jetson import board as boards

    if name is not None:
        _set(shell, "board", "" if name.lower() in ("none", "off", "") else name)
        return
    current = shell.connection.settings["board"]
    lines = [f"simulating {current}" if current else "no board is simulated", ""]
    for one in boards.names():
        modes = boards.modes(one) if one != "host" else []
        title = "this machine" if one == "host" else boards.load(one).title
        lines.append(f"{'*' if current.partition(':')[0] == one else ' '} {one:<14}{title}")
        if len(modes) > 1:
            text = "modes: " + ", ".join(modes)
            lines += textwrap.wrap(text, WIDTH, initial_indent=" " * 16, subsequent_indent=" " * 23)
    shell.output.text("\n".join(lines))


@command(".objective [NAME]", "|".join(OBJECTIVES))
def objective(shell: Shell, name: str | None = None) -> None:
    """What placement makes small: latency, energy or edp.

    edp is the product of energy and delay.
    """
    if name is None:
        shell.output.text(shell.connection.settings["objective"])
    else:
        _set(shell, "objective", choice("objective", name, OBJECTIVES))


@command(".settings [NAME]", "setting")
def settings(shell: Shell, name: str | None = None) -> None:
    """Settings with their values, origins and meanings.

    SQL's SET changes them, RESET sets them back:

    set threads = 2;
    """
    rows = shell.connection._session.settings.rows()
    if name is not None:
        rows = [row for row in rows if row[0] == find_setting(name).name]
    room = max(len(row[0]) for row in rows)
    lines = []
    for key, value, _, source, description in rows:
        place = "" if source == "default" else f"  ({source})"
        lines.append(f"{key:<{room}} = {value or repr(value)}{place}")
        lines += textwrap.wrap(description, WIDTH, initial_indent="    ", subsequent_indent="    ")
    shell.output.text("\n".join(lines))


def _last(shell: Shell) -> Relation:
    """The last query, bound again."""
    if shell.last is None:
        raise ProgrammingError("There was no query yet", hint="Run one; then this shows what it took.")
    return shell.bind(shell.last)


@command(".plan [FILE]", "file")
def plan(shell: Shell, path: str | None = None) -> None:
    """The last query's plan with times and timeline.

    The query is run again. With a FILE that ends in .svg or .png the timeline, which
    says which device did what when, is drawn there.
    """
    from finequery.planner.timeline import of_run

    relation = _last(shell)
    text = relation.explain(analyze=True)
    ran = relation._session.ran
    assert relation.plan is not None and ran is not None
    timeline = of_run(relation.plan.root, ran)
    if path is not None:
        try:
            timeline.save(path)
        except ValueError as error:
            raise ProgrammingError(f"'{path}': {error}") from None
        shell.output.text(f"The timeline is in {os.path.expanduser(path)}")
        return
    shell.output.text(f"{text}\n\n{timeline.text(WIDTH)}")


@command(".energy")
def energy(shell: Shell) -> None:
    """The last query's energy.

    The query is run again, as often as it takes. The machine's sensors are read
    (finequery devices names them), at rest first; it says so where there are none, or
    where the query is too short. A simulated board's joules are the simulator's, and
    say so.
    """
    from finequery.energy import measure, of_simulated

    relation = _last(shell)
    if not shell.connection.settings["board"]:
        text = shell.last or ""
        found = measure(lambda: shell.run(text))
    else:
        from finequery.planner.scheduler import Scheduler

        relation.execute()
        ran = relation._session.ran
        scheduler = None if ran is None else ran.scheduler
        if not isinstance(scheduler, Scheduler) or scheduler.run is None:
            raise NotSupportedError("The simulator has no run of this query")
        found = of_simulated(scheduler.run)
    shell.output.text("\n".join(textwrap.wrap(str(found), WIDTH)))
