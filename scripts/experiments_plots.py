"""Plots as SVG, drawn by hand: bars by query, and lines over a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from finequery.planner.timeline import COLOURS

_LEFT, _TOP, _BOTTOM = 46, 40, 34


def _frame(title: str, width: int, height: int, names: Sequence[str]) -> list[str]:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        'font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="14" font-size="12">{escape(title)}</text>',
    ]
    x = _LEFT
    for name, colour in zip(names, COLOURS):
        parts.append(f'<rect x="{x}" y="21" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 14}" y="30">{escape(name)}</text>')
        x += 24 + 7 * len(name)
    return parts


def _axis(parts: list[str], top: float, width: int, height: int) -> float:
    """Horizontal lines at round values; gives pixels for a unit."""
    scale = (height - _TOP - _BOTTOM) / top
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1e3, 1e4, 1e9) if top / s <= 6)
    for n in range(int(top / step) + 1):
        y = height - _BOTTOM - n * step * scale
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{width - 8}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{n * step:g}</text>')
    return scale


def bars(title: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], cap: float) -> str:
    """Groups of bars; one above ``cap`` ends there, with its value written at its top."""
    width, height = max(_LEFT + 10 + 34 * len(labels), 420), 220
    parts = _frame(title, width, height, list(series))
    scale = _axis(parts, min(cap, max(max(s) for s in series.values()) * 1.02), width, height)
    group = (width - _LEFT - 10) / len(labels)
    wide = group * 0.8 / len(series)
    for i, label in enumerate(labels):
        x = _LEFT + i * group
        parts.append(f'<text x="{x + group / 2:.1f}" y="{height - 20}" text-anchor="middle">{escape(label)}</text>')
        for n, values in enumerate(series.values()):
            tall = min(values[i], cap) * scale
            at = x + group * 0.1 + n * wide
            y = height - _BOTTOM - tall
            parts.append(
                f'<rect x="{at:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" fill="{COLOURS[n]}">'
                f"<title>{values[i]:.3g}</title></rect>"
            )
            if values[i] > cap:
                parts.append(f'<text x="{at:.1f}" y="{y - 2:.1f}" font-size="8">{values[i]:.1f}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def lines(title: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], under: str = "") -> str:
    """A line for each series over labels that stand at equal distances."""
    width, height = 460, 240
    parts = _frame(title, width, height, list(series))
    scale = _axis(parts, max(max(s) for s in series.values()) * 1.02, width, height)
    step = (width - _LEFT - 30) / max(len(labels) - 1, 1)
    for i, label in enumerate(labels):
        at = f'x="{_LEFT + i * step:.1f}" y="{height - 20}" text-anchor="middle"'
        parts.append(f"<text {at}>{escape(label)}</text>")
    parts.append(f'<text x="{width / 2}" y="{height - 5}" text-anchor="middle">{escape(under)}</text>')
    for (name, values), colour in zip(series.items(), COLOURS):
        points = " ".join(f"{_LEFT + i * step:.1f},{height - _BOTTOM - v * scale:.1f}" for i, v in enumerate(values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{_LEFT + i * step:.1f}" cy="{height - _BOTTOM - v * scale:.1f}" r="2.5" fill="{colour}">'
            f"<title>{escape(name)}: {v:.3g}</title></circle>"
            for i, v in enumerate(values)
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
