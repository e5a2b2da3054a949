"""What may stand on a side of a comparison, and how it is written.

``this``, ``this:cpu``, ``this:gpu``
    The machine that runs: as FineQuery places queries there, or one device alone. Measured.
``agx-xavier``, ``agx-xavier:15W``, ``h100:gpu``, ``agx-xavier:15W:cpu``
    A board of the library, in a power mode, as FineQuery places queries there or one device alone. Simulated.
``FILE.json``
    What this command or ``finequery bench`` wrote on another machine: measured or simulated, as the file says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from finequery.compare.result import Facts, Result, read
from finequery.errors import NotSupportedError, OperationalError
from finequery.jetson import board as boards
from finequery.jetson.board import Board

THIS = "this"
DEVICES = ("auto", "cpu", "gpu")


@dataclass(frozen=True, slots=True)
class Side:
    """A side: ``file`` has a result, else ``board`` is simulated, else this machine is measured on ``device``."""

    text: str
    device: str = "auto"
    board: Board | None = None
    file: Result | None = None

    @property
    def measured(self) -> bool:
        """Whether this machine has to run it."""
        return self.board is None and self.file is None


def side(text: str) -> Side:
    """A side as it is written. Raises OperationalError, FileError or DataError for what there is not."""
    if text.lower().endswith(".json"):
        return Side(text, file=with_board(read(Path(text).expanduser())))
    name, _, rest = text.strip().partition(":")
    mode, _, device = rest.rpartition(":")
    if device.lower() not in DEVICES:
        mode, device = rest, "auto"
    device = device.lower()
    if name.lower() == THIS:
        if mode:
            raise OperationalError(
                f'This machine is {", ".join(f"{THIS}:{d}" for d in DEVICES[1:])} or {THIS}, not "{text}"'
            )
        return Side(text, device)
    try:
        board = boards.load(f"{name}:{mode}" if mode else name)
    except OperationalError as error:
        error.hint = (
            f"{error.hint or ''} Other sides: {THIS}, {THIS}:cpu, {THIS}:gpu, and result files (.json).".strip()
        )
        raise
    if device == "gpu" and board.gpu is None:
        raise NotSupportedError(f'The board "{board.name}" has no GPU, so "{text}" is nothing to compare')
    return Side(text, device, board)


def board_facts(board: Board, device: str, simulated: bool, title: str = "") -> Facts:
    """What is known of a board."""
    said = ("price.usd", "price.host_usd", "power.tdp_w", "memory.peak_gbs", "gpu_memory.peak_gbs")
    mode = f" {board.mode}" if ":" in board.name else ""
    alone = {"auto": "", "cpu": ", CPU only", "gpu": ", GPU only"}[device]
    return Facts(
        title=title or f"{board.short_title}{mode}{alone}",
        device=device,
        simulated=simulated,
        discrete=board.discrete,
        board=board.name,
        peak_gbs=board.peak_gbs,
        usd=board.price.usd,
        host_usd=board.price.host_usd,
        tdp_w=board.power.tdp_w,
        sources={path: board.sources[path] for path in said if path in board.sources},
        estimates=len(board.estimates()),
    )


def with_board(result: Result) -> Result:
    """A result whose file names a board, but not what it costs and draws: as the library has it."""
    facts = result.facts
    if not facts.board or facts.peak_gbs:
        return result
    known = board_facts(boards.load(facts.board), facts.device, facts.simulated)
    return replace(result, facts=replace(known, model=facts.model))


def with_price(result: Result, usd: float | None) -> Result:
    """A result with another price of the whole machine."""
    if usd is None:
        return result
    sources = {**result.facts.sources, "price.usd": "given on the command line"}
    sources.pop("price.host_usd", None)
    return replace(result, facts=replace(result.facts, usd=usd, host_usd=0.0, sources=sources))
