"""Plots as SVG: grouped bars, a scatter on logarithmic axes, and timelines on one axis, each with its legend.

Colours are classes of ``page.css``, which knows light and dark; nothing in a plot needs a script. ``alone`` makes a
file of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from finequery.planner.timeline import ENGINES

CSS = Path(__file__).with_name("page.css")
WIDTH = 1000
_LEFT, _RIGHT = 62, 14
#: Classes of pipelines' colours, in turn.
_PIPELINES = 8
#: Longest label that stands upright, and longest of all.
_UPRIGHT, _LONGEST = 6, 16
#: Width of a character of the legend, and height of its lines.
_CHARACTER, _LINE = 7.2, 22

#: Engine, pipeline, start and end in seconds.
Bar = tuple[str, int, float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """Values that belong together. ``style``: their class; ``tips``: what pointing at each says."""

    name: str
    style: str
    values: Sequence[float]
    tips: Sequence[str]
    others: Sequence[float] = ()  # of a scatter: what stands upright


@dataclass(frozen=True, slots=True)
class Lane:
    """A timeline."""

    title: str
    seconds: float
    bars: Sequence[Bar]


def bars(labels: Sequence[str], series: Sequence[Series], axis: str) -> str:
    """A group of bars for each label. ``axis``: what they measure."""
    keys = [(lambda x, y, s=s: _square(s.style, x, y), s.name) for s in series]
    parts, top = _legend(keys, axis)
    turned = max(map(len, labels)) > _UPRIGHT
    foot = top + 270.0
    most = max(max(s.values) for s in series) * 1.04
    scale = (foot - top) / most
    parts += [_across(foot - value * scale, f"{value:g}") for value in _steps(most, 6)]
    group = (WIDTH - _LEFT - _RIGHT) / len(labels)
    wide = min(group * 0.82 / len(series), 26.0)
    for i, label in enumerate(labels):
        middle = _LEFT + (i + 0.5) * group
        for n, s in enumerate(series):
            x, tall = middle + (n - len(series) / 2) * wide, s.values[i] * scale
            at = f'x="{x:.1f}" y="{foot - tall:.1f}" width="{wide - 1:.1f}" height="{tall:.1f}"'
            parts.append(f'<rect class="{s.style}" {at} rx="1"><title>{escape(s.tips[i])}</title></rect>')
        parts.append(_label(label, middle, foot + 18, turned))
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{foot}" x2="{WIDTH - _RIGHT}" y2="{foot}"/>')
    return _svg(parts, foot + (92 if turned else 28), axis)


def scatter(labels: Sequence[str], series: Sequence[Series], across: str, up: str) -> str:
    """A point for each label and series, on logarithmic axes; the fastest and the slowest of a series have names."""
    keys = [(lambda x, y, n=n, s=s: _point(n, s.style, x, y, ""), s.name) for n, s in enumerate(series)]
    parts, top = _legend(keys)
    foot = top + 350.0
    xs, ys = _span(v for s in series for v in s.values), _span(v for s in series for v in s.others)

    def x(value: float) -> float:
        return _LEFT + (math.log10(value) - xs[0]) / (xs[1] - xs[0]) * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return foot - (math.log10(value) - ys[0]) / (ys[1] - ys[0]) * (foot - top)

    parts += [_upward(x(value), top, foot, f"{value:g}") for value in _logarithmic(xs)]
    parts += [_across(y(value), f"{value:g}") for value in _logarithmic(ys)]
    for number, s in enumerate(series):
        ends = {end(range(len(labels)), key=s.values.__getitem__) for end in (min, max)}
        for i, (right, high) in enumerate(zip(s.values, s.others)):
            parts.append(_point(number, s.style, x(right), y(high), s.tips[i]))
            if i in ends:
                # Away from the other points: a fastest one has none on its left, where a short name has room.
                left = right == min(s.values) < max(s.values) and len(labels[i]) <= 8
                side = f'{x(right) - 9:.1f}" text-anchor="end' if left else f"{x(right) + 9:.1f}"
                at = f'x="{side}" y="{y(high) - 7:.1f}"'
                parts.append(f'<text class="name" {at}>{escape(_clipped(labels[i]))}</text>')
    at = f'x="{WIDTH / 2}" y="{foot + 42}" text-anchor="middle"'
    parts.append(f'<text class="tick" {at}>{escape(across)}</text>')
    middle = (top + foot) / 2
    turn = f'x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})"'
    parts.append(f'<text class="tick" {turn}>{escape(up)}</text>')
    return _svg(parts, foot + 52, f"{up} against {across}")


def timelines(lanes: Sequence[Lane], pipelines: Sequence[str]) -> str:
    """Timelines below each other, as long as they are against each other. ``pipelines``: what each does. Pipelines that
    run beside each other on one engine have a row each."""
    tall, left = 19, 74
    keys = [(lambda x, y, n=n: _square(f"p{n % _PIPELINES}", x, y), f"{n + 1} {t}") for n, t in enumerate(pipelines)]
    parts, top = _legend(keys)
    longest = max(lane.seconds for lane in lanes)
    scale = (WIDTH - left - _RIGHT) / longest
    drawn: list[str] = []
    y = top
    for lane in lanes:
        y += 16
        drawn.append(f'<text class="name" x="{left}" y="{y:.0f}">{escape(lane.title)}</text>')
        y += 8
        for engine in (e for e in ENGINES if any(b[0] == e for b in lane.bars)):
            at = f'x="{left - 8}" y="{y + 14:.0f}" text-anchor="end"'
            drawn.append(f'<text class="tick" {at}>{ENGINES[engine]}</text>')
            for row in _rows(lane.bars, engine, 0.6 / scale):
                at = f'x="{left}" y="{y:.0f}" width="{lane.seconds * scale:.1f}" height="{tall}"'
                drawn.append(f'<rect class="lane" {at}/>')
                drawn += [_stretch(bar, left, y, tall, scale) for bar in row]
                y += tall + 3
        y += 10
    for value in _steps(longest * 1e3, 8):
        parts.append(_upward(left + value / 1e3 * scale, top + 4, y, f"{value:g} ms"))
    return _svg([*parts, *drawn], y + 24, "timelines")


def _stretch(bar: Bar, left: float, y: float, tall: float, scale: float) -> str:
    _, pipeline, start, stop = bar
    at, wide = left + start * scale, max((stop - start) * scale, 0.6)
    tip = f"<title>pipeline {pipeline}: {start * 1e3:.3f} to {stop * 1e3:.3f} ms</title>"
    place = f'x="{at:.1f}" y="{y:.0f}" width="{wide:.1f}" height="{tall}"'
    text = f'<text class="on" x="{at + wide / 2:.1f}" y="{y + 14:.0f}" text-anchor="middle">{pipeline}</text>'
    return f'<rect class="p{(pipeline - 1) % _PIPELINES}" {place}>{tip}</rect>' + (text if wide > 14 else "")


def _rows(bars: Iterable[Bar], engine: str, least: float) -> list[list[Bar]]:
    """An engine's stretches in as many rows as it takes that none hides another; those of one pipeline that are nearer
    than can be seen are one."""
    rows: list[list[Bar]] = []
    for bar in sorted((b for b in bars if b[0] == engine), key=lambda b: b[2]):
        for row in rows:
            last = row[-1]
            if last[1] == bar[1] and bar[2] - last[3] < least:
                row[-1] = (engine, bar[1], last[2], max(bar[3], last[3]))
                break
            if bar[2] >= last[3] - 1e-12:
                row.append(bar)
                break
        else:
            rows.append([bar])
    return rows


def alone(plot: str) -> str:
    """A plot as a file of its own, readable in light and dark."""
    css = CSS.read_text(encoding="utf-8")
    text = "svg { background: var(--card); font: 12.5px system-ui, sans-serif; }"
    rules = css[: css.index("* {")] + css[css.index(".grid {") : css.index("footer {")] + text
    opened = plot.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" width="1000" ', 1)
    return opened.replace(">\n", f">\n<style>\n{rules}\n</style>\n", 1) + "\n"


Shape = Callable[[float, float], str]


def _legend(keys: Sequence[tuple[Shape, str]], axis: str = "") -> tuple[list[str], float]:
    """Shapes with their names, in as many lines as they need, and the height below them."""
    parts, x, y = [], 4.0, 14.0
    for shape, name in keys:
        wide = 34 + _CHARACTER * len(name)
        if x > 4.0 and x + wide > WIDTH:
            x, y = 4.0, y + _LINE
        parts.append(shape(x + 7, y))
        parts.append(f'<text class="name" x="{x + 20:.1f}" y="{y + 4.5:.1f}">{escape(name)}</text>')
        x += wide
    if axis:
        if x + _CHARACTER * len(axis) > WIDTH:
            y += _LINE
        parts.append(f'<text class="tick" x="{WIDTH - 4}" y="{y + 4.5:.1f}" text-anchor="end">{escape(axis)}</text>')
    return parts, y + _LINE


def _square(style: str, x: float, y: float) -> str:
    return f'<rect class="{style}" x="{x - 6.5:.1f}" y="{y - 6.5:.1f}" width="13" height="13" rx="2"/>'


def _point(number: int, style: str, x: float, y: float, tip: str) -> str:
    """A series has a shape besides its colour."""
    inside = f"<title>{escape(tip)}</title>" if tip else ""
    if number % 3 == 0:
        return f'<circle class="{style} dot" cx="{x:.1f}" cy="{y:.1f}" r="5">{inside}</circle>'
    turn = f' transform="rotate(45 {x:.1f} {y:.1f})"' if number % 3 == 2 else ""
    at = f'x="{x - 4.4:.1f}" y="{y - 4.4:.1f}" width="8.8" height="8.8"'
    return f'<rect class="{style} dot" {at}{turn}>{inside}</rect>'


def _across(y: float, text: str) -> str:
    """A line of the grid with its value at the left."""
    line = f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}"/>'
    return f'{line}<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'


def _upward(x: float, top: float, foot: float, text: str) -> str:
    """A line of the grid with its value at the foot."""
    anchor = "end" if x > WIDTH - 40 else "middle"
    line = f'<line class="grid" x1="{x:.1f}" y1="{top:.0f}" x2="{x:.1f}" y2="{foot:.0f}"/>'
    return f'{line}<text class="tick" x="{x:.1f}" y="{foot + 18:.0f}" text-anchor="{anchor}">{text}</text>'


def _label(text: str, x: float, y: float, turned: bool) -> str:
    shown = escape(_clipped(text))
    if not turned:
        return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{shown}</text>'
    at = f'x="{x:.1f}" y="{y - 6:.1f}" text-anchor="end" transform="rotate(-40 {x:.1f} {y - 6:.1f})"'
    return f'<text class="tick" {at}>{shown}</text>'


def _clipped(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _svg(parts: Sequence[str], height: float, label: str) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">'
    return "\n".join([head, *parts, "</svg>"])


def _steps(most: float, count: int) -> list[float]:
    """Round values from 0 on, at most ``count`` + 1 of them."""
    step = next(m * 10.0**e for e in range(-9, 12) for m in (1, 2, 5) if most / (m * 10.0**e) <= count)
    return [float(f"{n * step:.6g}") for n in range(int(most / step + 1e-9) + 1)]


def _span(values: Iterable[float]) -> tuple[float, float]:
    """Powers of ten around all values, with room."""
    found = [math.log10(v) for v in values]
    low, high = min(found), max(found)
    room = max(0.06 * (high - low), 0.04)
    return low - room, high + room


def _logarithmic(span: tuple[float, float]) -> list[float]:
    """Round values between two powers of ten: 1, 2 and 5 in each, or 1 alone where there are many."""
    numbers = (1, 2, 5) if span[1] - span[0] < 3 else (1,)
    powers = range(math.floor(span[0]), math.ceil(span[1]) + 1)
    return [v for p in powers for m in numbers if span[0] <= math.log10(v := float(f"{m}e{p}")) <= span[1]]
