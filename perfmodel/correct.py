"""Online correction: what runs took, against what was predicted, as one bounded factor per (device, model).

The factor is exp(c). Each run of a pipeline gives e = ln(measured / predicted with the factors as they are), of which
every sub-task gets its share of the pipeline's predicted time as weight w. With S and W as the decayed sums of
w·(c + e) and w, c = S / (W + PRIOR): the mean of a normal posterior whose prior says "the model is right" with the
weight of PRIOR runs. Runs older than about 1 / (1 - DECAY) fade, so that it follows clocks and temperature. e is cut to
±STEP first (Huber), so that one stalled run moves little, and c to ±LIMIT.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

DECAY, PRIOR, STEP = 0.95, 2.0, math.log(2.0)
#: A correction is at most this factor, up or down: beyond it the model is wrong and has to be fitted anew.
BOUND = 3.0
LIMIT = math.log(BOUND)
#: Runs shorter than this are noise of clocks and wake-ups, in seconds.
SHORTEST = 50e-6
#: Runs after which factors are written without being asked.
EVERY = 32
VERSION = 1


@dataclass(slots=True)
class _State:
    weight: float = 0.0
    sum: float = 0.0

    @property
    def log_factor(self) -> float:
        return max(-LIMIT, min(LIMIT, self.sum / (self.weight + PRIOR)))


class Correction:
    """Factors of one fitted model on one machine, written every ``EVERY`` runs and by ``save``. Thread-safe. ``base``:
    the identity of the fitted model; factors learned over another one are dropped. ``path``: where they are kept (None:
    nowhere)."""

    def __init__(self, base: str = "", path: Path | None = None):
        self.base, self.path = base, path
        self._states: dict[tuple[str, str], _State] = {}
        self._lock = threading.Lock()
        self._changed = 0  # runs that are not on disk
        self.runs = 0  # that this process has learned from
        if path is not None:
            self._load(path)

    @property
    def learned(self) -> bool:
        """There is a factor that is not 1."""
        return bool(self._states)

    def factor(self, device: str, model: str) -> float:
        """What a predicted time is multiplied by, within [1/BOUND, BOUND]."""
        state = self._states.get((device, model))
        return 1.0 if state is None else math.exp(state.log_factor)

    def observe(self, parts: Sequence[tuple[str, str, float]], measured: float) -> None:
        """A pipeline took ``measured`` seconds. ``parts``: device, model and uncorrected prediction in seconds of each
        sub-task that ran one after another. What can't be learned from (too short, not finite) is passed over."""
        if not (math.isfinite(measured) and measured >= SHORTEST):
            return
        with self._lock:
            predicted = [(d, m, t * self.factor(d, m)) for d, m, t in parts if t > 0.0 and math.isfinite(t)]
            sum_ = math.fsum(t for _, _, t in predicted)
            if sum_ <= 0.0:
                return
            error = max(-STEP, min(STEP, math.log(measured / sum_)))
            shares: dict[tuple[str, str], float] = {}
            for device, model, t in predicted:
                shares[device, model] = shares.get((device, model), 0.0) + t / sum_
            for key, share in shares.items():
                state = self._states.setdefault(key, _State())
                kept = DECAY**share
                target = max(-LIMIT, min(LIMIT, state.log_factor + error))
                state.weight = kept * state.weight + share
                state.sum = kept * state.sum + share * target
            self._changed += 1
            self.runs += 1
        if self._changed >= EVERY:
            self.flush()

    def flush(self) -> None:
        """Write the factors if that is possible: they can be learned again."""
        with suppress(OSError):
            self.save()

    def save(self) -> None:
        """Write the factors, if any changed: into a new file that then takes the old one's place."""
        if self.path is None or not self._changed:
            return
        with self._lock:
            self._changed = 0
            states = {f"{device} {model}": [s.weight, s.sum] for (device, model), s in sorted(self._states.items())}
        text = json.dumps({"version": VERSION, "base": self.base, "states": states}, indent=1)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(name, self.path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise

    def _load(self, path: Path) -> None:
        """Factors can be learned anew, so that a file that can't be used costs a warning and no query."""
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            if value["version"] != VERSION or value["base"] != self.base:
                return  # of another layout, or over another model
            for key, (weight, sum_) in value["states"].items():
                device, model = key.split(" ", 1)
                if not (math.isfinite(sum_) and 0.0 <= weight < math.inf):
                    raise ValueError(f"{key}: {weight}, {sum_}")
                self._states[device, model] = _State(float(weight), float(sum_))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            self._states.clear()
            warnings.warn(
                f"corrections of the performance model in {path} are damaged and are not used ({error!r}); they are "
                "learned anew and the file is replaced",
                stacklevel=3,
            )
