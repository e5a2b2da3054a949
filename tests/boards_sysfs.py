"""Files of /sys, /proc and /etc as Jetson boards and x86 machines have them, written under a folder for tests.

Names, units and layouts are those of the kernel's documentation, of device trees and of recorded output; the values are
made up so that every sum can be done in the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from finequery.jetson.telemetry import files


def write(root: Path, tree: Mapping[str, object]) -> Path:
    """Files by path; numbers become text with the kernel's line end."""
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def ina3221(
    chip: str, hwmon: int, rails: Mapping[str, tuple[int, int]], interval: int | None = None
) -> dict[str, object]:
    """A power monitor: by rail, mV and mA. Channels 4 to 7 are shunt voltages, which are no rails."""
    folder = f"sys/bus/i2c/drivers/ina3221/{chip}/hwmon/hwmon{hwmon}"
    tree: dict[str, object] = {f"{folder}/name": "ina3221", f"{folder}/in7_label": "sum of shunt voltages"}
    if interval is not None:
        tree[f"{folder}/update_interval"] = interval
    for n, (rail, (millivolts, milliamperes)) in enumerate(rails.items(), 1):
        tree |= {
            f"{folder}/in{n}_label": rail,
            f"{folder}/in{n}_input": millivolts,
            f"{folder}/curr{n}_input": milliamperes,
            f"{folder}/in{n + 3}_input": 7,
        }
    return tree


NVPMODEL = """# a comment
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=MODE_10W >
< POWER_MODEL ID=2 NAME=MODE_15W >
< POWER_MODEL ID=3 NAME=MODE_30W_ALL >
< PM_CONFIG DEFAULT=2 >"""


def cpufreq(policy: int, cores: str, now: int, least: int, most: int, highest: int, governor: str) -> dict[str, object]:
    """A cluster of cores; MHz, which cpufreq has in kHz."""
    folder = f"sys/devices/system/cpu/cpufreq/policy{policy}"
    return {
        f"{folder}/affected_cpus": cores,
        f"{folder}/scaling_cur_freq": now * 1000,
        f"{folder}/scaling_min_freq": least * 1000,
        f"{folder}/scaling_max_freq": most * 1000,
        f"{folder}/cpuinfo_max_freq": highest * 1000,
        f"{folder}/scaling_governor": governor,
    }


def devfreq(name: str, now: int, least: int, most: int, steps: str, load: int | None) -> dict[str, object]:
    """An integrated GPU; MHz, which devfreq has in Hz, and thousandths."""
    folder = f"sys/class/devfreq/{name}"
    tree: dict[str, object] = {
        f"{folder}/cur_freq": now * 10**6,
        f"{folder}/min_freq": least * 10**6,
        f"{folder}/max_freq": most * 10**6,
        f"{folder}/available_frequencies": " ".join(f"{step}000000" for step in steps.split()),
        f"{folder}/governor": "nvhost_podgov",
    }
    return tree | ({f"{folder}/device/load": load} if load is not None else {})


def zone(number: int, kind: str, temperature: int, passive: int | None = None) -> dict[str, object]:
    """A thermal zone; m°C."""
    folder = f"sys/class/thermal/thermal_zone{number}"
    tree: dict[str, object] = {f"{folder}/type": kind, f"{folder}/temp": temperature}
    if passive is not None:
        tree |= {
            f"{folder}/trip_point_0_type": "critical",
            f"{folder}/trip_point_0_temp": 104500,
            f"{folder}/trip_point_1_type": "passive",
            f"{folder}/trip_point_1_temp": passive,
        }
    return tree


def cooling(number: int, kind: str, state: int, most: int = 3) -> dict[str, object]:
    """A cooling device."""
    folder = f"sys/class/thermal/cooling_device{number}"
    return {f"{folder}/type": kind, f"{folder}/cur_state": state, f"{folder}/max_state": most}


def proc(busy: int = 30, idle: int = 60, wait: int = 10, load: float = 0.1) -> dict[str, object]:
    """/proc/stat and the load average."""
    return {
        "proc/stat": f"cpu  {busy} 0 0 {idle} {wait} 0 0 0 5 5\ncpu0 {busy} 0 0 {idle} {wait} 0 0 0 5 5",
        "proc/loadavg": f"{load} {load} {load} 1/100 4711",
    }


def xavier(root: Path) -> Path:
    """AGX Xavier on JetPack 5 in its mode of 15 W, with the rails of linux tegra194-p2888.dtsi, 9 W in all."""
    return write(
        root,
        {
            **ina3221("1-0040", 3, {"GPU": (10_000, 200), "CPU": (10_000, 300), "SOC": (10_000, 100)}, 430),
            **ina3221("1-0041", 4, {"CV": (10_000, 0), "VDDRQ": (10_000, 100), "SYS5V": (5_000, 400)}, 430),
            **cpufreq(0, "0 1", 1200, 115, 1200, 2266, "schedutil"),
            **cpufreq(2, "2 3", 800, 115, 1200, 2266, "schedutil"),
            **devfreq("17000000.gv11b", 318, 114, 675, "114 318 675 1377", 450),
            **zone(0, "CPU-therm", 41500, 95500),
            **zone(1, "GPU-therm", 40000),
            **zone(2, "PMIC-Die", 100000),
            **zone(10, "Tboard_tegra", -256000),
            **cooling(0, "pwm-fan", 2),
            **cooling(1, "gpu-throttle-alert", 0),
            **proc(),
            "sys/devices/system/cpu/present": "0-7",
            "sys/devices/system/cpu/online": "0-3",
            "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet",
            "etc/nvpmodel.conf": NVPMODEL,
            "etc/nv_tegra_release": "# R35 (release), REVISION: 5.0",
        },
    )


def orin(root: Path) -> Path:
    """AGX Orin on JetPack 6, at full clocks after jetson_clocks: rails of linux tegra234-p3701.dtsi."""
    first = {"VDD_GPU_SOC": (20_000, 250), "VDD_CPU_CV": (20_000, 100), "VIN_SYS_5V0": (5_000, 800)}
    return write(
        root,
        {
            **ina3221("1-0040", 3, first),
            **ina3221("1-0041", 4, {"NC": (0, 0), "VDDQ_VDD2_1V8AO": (5_000, 200)}),
            **cpufreq(0, "0 1 2 3", 2201, 2201, 2201, 2201, "schedutil"),
            **devfreq("17000000.gpu", 1300, 1300, 1300, "306 1300", 800),
            **zone(0, "cpu-thermal", 51687, 99000),
            **zone(1, "gpu-thermal", 48500),
            **proc(),
            "sys/devices/system/cpu/present": "0-3",
            "sys/devices/system/cpu/online": "0-3",
            "var/lib/nvpmodel/status": "pmode:0000",
            "etc/nvpmodel.conf": NVPMODEL,
        },
    )


def orin_nano(root: Path) -> Path:
    """Orin Nano: one rail of the whole module's input."""
    rails = {"VDD_IN": (5_000, 1_600), "VDD_CPU_GPU_CV": (5_000, 500), "VDD_SOC": (5_000, 300)}
    return write(root, {**ina3221("1-0040", 1, rails, 430), **proc()})


def rapl(root: Path, package: int, dram: int, most: int = 1_000_000) -> Path:
    """Counters of a processor, in µJ, with those that stand within or around others."""
    folder = "sys/class/powercap/intel-rapl:"
    tree: dict[str, object] = {}
    for zone_, name, value in (
        ("0", "package-0", package),
        ("0:0", "core", 7),
        ("0:1", "dram", dram),
        ("1", "psys", 9),
    ):
        tree |= {
            f"{folder}{zone_}/name": name,
            f"{folder}{zone_}/energy_uj": value,
            f"{folder}{zone_}/max_energy_range_uj": most,
        }
    return write(root, {**tree, **proc()})


def root_only(monkeypatch: pytest.MonkeyPatch, *endings: str) -> None:
    """Files whose paths end so may not be read, as for a user who is not root (tests may run as root)."""
    real = files.read_bytes

    def read_bytes(path: str) -> bytes:
        if path.endswith(endings):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(files, "read_bytes", read_bytes)
