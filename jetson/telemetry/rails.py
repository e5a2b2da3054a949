"""Which supply rails of a Jetson add up to the whole."""

from __future__ import annotations

from collections.abc import Mapping

#: Rails that are the input of the module or the board: Nano, TX2; Xavier NX, Orin NX, Orin Nano; Thor.
INPUTS = ("VIN", "VDD_IN", "POM_5V_IN")
#: Rails that stand within another one. AGX Orin: the memory's is fed from VIN_SYS_5V0 (Jetson Linux Developer Guide
#: R36.4, "Software-Based Power Consumption Modeling").
WITHIN = ("VDDQ_VDD2_1V8AO",)


def total(rails: Mapping[str, float]) -> tuple[float | None, str]:
    """Watts of the whole, and which rails those are. A rail of the input is the whole; AGX boards have none, and the
    whole is the sum of those that do not stand within another."""
    for name in INPUTS:
        if name in rails:
            return rails[name], name
    parts = [name for name in rails if name not in WITHIN]
    return (sum(rails[name] for name in parts), " + ".join(parts)) if parts else (None, "")
