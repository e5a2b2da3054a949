"""From prices of sub-tasks alone to prices of plans: the analytic half of the model.

Symbols and numbers of equations are the sources':

- FineStream (Zhang et al., "FineStream: Fine-Grained Window-Based Stream Processing on CPU-GPU Integrated
  Architectures", USENIX ATC 2020): co-running, eqs 1-3; pipelining over batches, eqs 4-9.
- HJ13 (He, Lu, He: "Revisiting Co-Processing for Hash Joins on the Coupled CPU-GPU Architecture", PVLDB 6(10), 2013):
  steps that are each split at a ratio of their own, eqs 1-5; search of ratios on a grid.

Times are seconds, volumes bytes, bandwidths bytes a second. What takes ``Price`` evaluates its formula for the low
ends, the expected values and the high ends of all intervals together, which supposes that errors go the same way: wide,
but on the safe side. Every formula grows with each of its times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

#: Step of the grid of ratios, and of its refinement (HJ13's delta).
GRID, REFINED = 0.1, 0.02


@dataclass(frozen=True, slots=True)
class Price:
    """What something takes: expected seconds with an interval, bytes moved to and from memory, energy in joules."""

    seconds: float = 0.0
    low: float = 0.0
    high: float = 0.0
    nbytes: float = 0.0
    joules: float = 0.0

    def __add__(self, other: Price) -> Price:
        """One after the other."""
        return Price(
            self.seconds + other.seconds,
            self.low + other.low,
            self.high + other.high,
            self.nbytes + other.nbytes,
            self.joules + other.joules,
        )

    def __mul__(self, factor: float) -> Price:
        """``factor`` times as much."""
        return Price(
            self.seconds * factor, self.low * factor, self.high * factor, self.nbytes * factor, self.joules * factor
        )

    __rmul__ = __mul__

    @property
    def bandwidth(self) -> float:
        """Bytes a second; 0 where nothing is moved."""
        return self.nbytes / self.seconds if self.seconds > 0 else 0.0


def total(prices: Sequence[Price]) -> Price:
    """One after another."""
    result = Price()
    for price in prices:
        result += price
    return result


def _each(formula: Callable[[list[float]], float], prices: Sequence[Price]) -> Price:
    """A formula over times, for the expected times and both ends of the intervals. Bytes and joules add up."""
    return Price(
        formula([p.seconds for p in prices]),
        formula([p.low for p in prices]),
        formula([p.high for p in prices]),
        math.fsum(p.nbytes for p in prices),
        math.fsum(p.joules for p in prices),
    )


# --- co-running branches: FineStream eqs 1-3 --------------------------------------------------------------------------


def co_run_ends(seconds: Sequence[float], nbytes: Sequence[float], peak: float, fair: bool = True) -> list[float]:
    """When each of several tasks that start together ends, all of them sharing memory of bandwidth ``peak``.

    FineStream eq 1: as tasks end one by one, n tasks make n stages. While a stage lasts, those running need Bsum = Σ
    bytes/seconds; if Bsum > Bmax the stage takes r = Bsum/Bmax times as long. That holds back tasks bound by arithmetic
    as much as those that fill the bus. ``fair`` shares Bmax max-min fair instead: who needs less than an equal share of
    what is left gets it and is not slowed, the others get equal shares. For equal needs both are the same. A task alone
    takes ``seconds``, though never less than bytes/peak."""
    left = {i: max(t, s / peak) for i, (t, s) in enumerate(zip(seconds, nbytes))}
    need = {i: nbytes[i] / t if t > 0 else 0.0 for i, t in left.items()}
    ends, now = [0.0] * len(left), 0.0
    while left:
        if fair:
            level = fair_level([need[i] for i in left], peak)
            pace = {i: min(1.0, level / need[i]) if need[i] > 0 else 1.0 for i in left}
        else:
            pace = dict.fromkeys(left, min(1.0, peak / max(math.fsum(need[i] for i in left), 1e-300)))
        first = min(left, key=lambda i: left[i] / pace[i])
        step = left[first] / pace[first]
        now += step
        left = {i: t - pace[i] * step for i, t in left.items()}
        for i in [i for i, t in left.items() if i == first or t <= 1e-12 * now]:
            ends[i] = now
            del left[i]
    return ends


def fair_level(needs: Sequence[float], capacity: float) -> float:
    """The most that anybody gets of ``capacity`` shared max-min fair; infinite where it is enough for all."""
    rest, others = capacity, len(needs)
    for need in sorted(needs):
        if need * others >= rest:
            return rest / others
        rest, others = rest - need, others - 1
    return math.inf


def co_run(branches: Sequence[Price], peak: float, fair: bool = True) -> Price:
    """Branches that start together and share memory of bandwidth ``peak``: one layer of FineStream eq 2."""
    volumes = [b.nbytes for b in branches]
    return _each(lambda times: max(co_run_ends(times, volumes, peak, fair), default=0.0), branches)


def layers(plan: Sequence[Sequence[Price]], peak: float, fair: bool = True) -> Price:
    """FineStream eq 2: layers of co-running branches, a barrier after each."""
    return total([co_run(branches, peak, fair) for branches in plan])


def throughput(rows: float, seconds: float) -> float:
    """Rows a second (FineStream eqs 3 and 9)."""
    return rows / seconds if seconds > 0 else math.inf


# --- pipelining over batches: FineStream eqs 4-9 ----------------------------------------------------------------------


def overlap_step(t1: float, s1: float, t2: float, s2: float, peak: float) -> float:
    """Time from batch to batch while two phases work on different devices, ``t`` seconds and ``s`` bytes a batch each.

    FineStream eqs 4, 6, 7. While both run, bandwidth_overlap = min(Bmax, s1/t1 + s2/t2). Not saturated: max(t1, t2).
    Saturated: the shorter phase s and its share r_olp = t_s/t_l of the longer one l take
    t_olp = (s_s + r_olp·s_l)/bandwidth_overlap, and then the rest of the longer one
    t_rest = (1 - r_olp)·s_l/bandwidth_l = (1 - r_olp)·t_l."""
    (t_s, s_s), (t_l, s_l) = sorted([(max(t1, s1 / peak), s1), (max(t2, s2 / peak), s2)])
    if t_s <= 0:
        return t_l
    if s_s / t_s + s_l / t_l <= peak:
        return t_l
    r_olp = t_s / t_l
    return (s_s + r_olp * s_l) / peak + (1.0 - r_olp) * t_l


def batch_pipeline(first: Price, second: Price, batches: int, peak: float = math.inf) -> Price:
    """Two phases on different devices over ``batches`` batches; the prices are those of one batch.

    t1 + t2 + (n - 1)·step. Not saturated, that is FineStream eq 5, n·max(t1, t2) + min(t1, t2). Saturated, eq 8 is
    n·(t_olp + t_rest): it leaves out that the first batch has nothing to overlap with in phase 2, nor the last in phase
    1. With that, the time does not jump down where bandwidth saturates, and one batch costs t1 + t2."""
    if batches < 1:
        raise ValueError(f"{batches} batches")

    def formula(times: list[float]) -> float:
        t1, t2 = max(times[0], first.nbytes / peak), max(times[1], second.nbytes / peak)
        step = overlap_step(t1, first.nbytes, t2, second.nbytes, peak)
        return t1 + t2 + (batches - 1) * step

    price = _each(formula, (first, second))
    return replace(price, nbytes=price.nbytes * batches, joules=price.joules * batches)


# --- split steps with delay: HJ13 eqs 1-5 -----------------------------------------------------------------------------


def delayed_steps(cpu: Sequence[float], gpu: Sequence[float], ratios: Sequence[float]) -> tuple[float, float]:
    """T_CPU and T_GPU of a series of steps, of which the CPU does share ``ratios[i]`` of step i. ``cpu[i]`` and
    ``gpu[i]`` are the times of the whole step i on one of them.

    HJ13 eqs 2 and 3: T_X = Σ(C + M + D), where computation and memory stalls C + M are proportional to the share. The
    delay D is the wait for items that the other device made in step i-1. For r_i > r_(i-1), eq 4:
    D_CPU = (Σ_(j<i) T_GPU^j - T_GPU^(i-1)·(1 - r_i)/(1 - r_(i-1))) - Σ_(j<=i) T_CPU^j. For r_i < r_(i-1), eq 5:
    D_GPU = Σ_(j<i) T_CPU^j - (Σ_(j<=i) T_GPU^j - T_GPU^i·(1 - r_(i-1))/(1 - r_i)). Below 0 it is 0."""
    cpu_sum = gpu_sum = 0.0
    gpu_last = before = 0.0
    for i, (c, g, r) in enumerate(zip(cpu, gpu, ratios)):
        if not 0.0 <= r <= 1.0:
            raise ValueError(f"ratio {r} of step {i}")
        c, g = r * c, (1.0 - r) * g
        cpu_wait = gpu_wait = 0.0
        if i and r > before:
            cpu_wait = (gpu_sum - gpu_last * (1.0 - r) / (1.0 - before)) - (cpu_sum + c)
        elif i and r < before:
            gpu_wait = cpu_sum - (gpu_sum + g - g * (1.0 - before) / (1.0 - r))
        gpu_last = g + max(gpu_wait, 0.0)
        cpu_sum += c + max(cpu_wait, 0.0)
        gpu_sum += gpu_last
        before = r
    return cpu_sum, gpu_sum


def split_steps(cpu: Sequence[Price], gpu: Sequence[Price], ratios: Sequence[float], merge: Price = Price()) -> Price:
    """Steps split between both devices, each at a ratio of its own (PL; one ratio for all is DD, 0 or 1 is OL), and the
    merge of what both made. HJ13 eq 1: T = max(T_CPU, T_GPU)."""
    n = len(ratios)
    if len(cpu) != n or len(gpu) != n:
        raise ValueError(f"{len(cpu)} and {len(gpu)} steps for {n} ratios")
    price = _each(lambda times: max(delayed_steps(times[:n], times[n:], ratios)), [*cpu, *gpu])
    parts = total([c * r + g * (1.0 - r) for c, g, r in zip(cpu, gpu, ratios)])
    return replace(price, nbytes=parts.nbytes, joules=parts.joules) + merge


# --- one ratio for a pipeline -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Split:
    """The CPU's share and what the pipeline then takes."""

    ratio: float
    price: Price


def split_price(cpu: Price, gpu: Price, peak: float, merge: Price) -> Price:
    """Both devices at work on their shares at the same time (FineStream eq 1), then the merge. A device without rows
    needs no merge: there is nothing to merge with."""
    if cpu.seconds <= 0.0:
        return gpu
    if gpu.seconds <= 0.0:
        return cpu
    return co_run((cpu, gpu), peak) + merge


def best_split(
    cpu: Callable[[float], Price],
    gpu: Callable[[float], Price],
    peak: float,
    merge: Price = Price(),
    cost: Callable[[Price], float] = lambda price: price.seconds,
) -> Split:
    """The CPU's share with the least ``cost``: the best of a grid in steps of 0.1 from 0 to 1, then of steps of 0.02
    around it (HJ13's delta). ``cpu(r)`` and ``gpu(1 - r)`` price the devices at their shares. On one device alone the
    other's fixed costs do not arise, so 0 and 1 are candidates of their own."""
    prices: dict[float, Price] = {}

    def price(ratio: float) -> float:
        if ratio not in prices:
            if ratio <= 0.0:
                prices[ratio] = gpu(1.0)
            elif ratio >= 1.0:
                prices[ratio] = cpu(1.0)
            else:
                prices[ratio] = split_price(cpu(ratio), gpu(1.0 - ratio), peak, merge)
        return cost(prices[ratio])

    best = min((round(GRID * i, 2) for i in range(round(1 / GRID) + 1)), key=price)
    near = (round(best + REFINED * i, 2) for i in range(-4, 5))
    best = min((r for r in near if 0.0 <= r <= 1.0), key=lambda r: (price(r), abs(r - best)))
    return Split(best, prices[best])


def interpolated(shares: Sequence[float], prices: Sequence[Price]) -> Callable[[float], Price]:
    """A device's price at any share from those at some, ascending: linear between them, along the nearest two
    outside, and nothing for nothing."""
    if len(shares) != len(prices) or not shares or list(shares) != sorted(set(shares)):
        raise ValueError("shares have to ascend, with a price each")
    if len(shares) == 1:
        return lambda share: prices[0] * (share / shares[0])

    def at(share: float) -> Price:
        if share <= 0.0:
            return Price()
        high = next((i for i in range(1, len(shares) - 1) if share <= shares[i]), len(shares) - 1)
        low = high - 1
        weight = (share - shares[low]) / (shares[high] - shares[low])
        if weight < 0.0:  # below the least: not below what is proportional to rows
            return _between(Price(), prices[0], share / shares[0])
        return _between(prices[low], prices[high], weight)

    return at


def _between(a: Price, b: Price, weight: float) -> Price:
    return a * (1.0 - weight) + b * weight


# --- fixed costs, merging, transfers ----------------------------------------------------------------------------------


def certain(seconds: float, nbytes: float = 0.0, joules: float = 0.0) -> Price:
    """A price without an interval."""
    return Price(seconds, seconds, seconds, nbytes, joules)


def launched(work: Price, launches: int, launch: float, sync: float) -> Price:
    """Work of a GPU with what the host pays for it: ``launches`` of ``launch`` seconds and one synchronisation.
    Launches are asynchronous: those after the first hide behind the work before, unless they take longer than it.

    T = launch + max(work, (launches - 1)·launch) + sync."""
    if launches < 1:
        return work
    price = _each(lambda times: launch + max(times[0], (launches - 1) * launch) + sync, (work,))
    return price


def merge(entries: float, width: float, bandwidth: float) -> Price:
    """Adding one private table of ``entries`` rows of ``width`` bytes into another one (HJ13 §3: separate tables): both
    are read, one is written. ``bandwidth`` is what the merging device reaches in the table's access pattern."""
    nbytes = 3.0 * entries * width
    return certain(nbytes / bandwidth, nbytes)


def transferred(work: Price, nbytes: float, link: float, latency: float, pieces: int) -> Price:
    """Work of a discrete GPU whose input of ``nbytes`` is not there yet: it is copied in ``pieces`` over a link of
    ``link`` bytes a second, each copy ``latency`` seconds, while the GPU works on the piece before. Two phases in a
    pipeline over batches that share no bandwidth (FineStream eq 5). The bytes of the copy are added to the price's."""
    if nbytes <= 0.0:
        return work
    if pieces < 1:
        raise ValueError(f"{pieces} pieces")
    copy = certain(latency + nbytes / pieces / link, nbytes / pieces)
    return batch_pipeline(copy, work * (1.0 / pieces), pieces)


def best_pieces(work: Price, nbytes: float, link: float, latency: float, least: float = 256 << 10) -> int:
    """How many pieces to copy in, of at least ``least`` bytes: with k and c the times of the whole copy and work, the
    time is max(k, c) + n·latency + min(k, c)/n where the copy is the longer one, least at n = sqrt(min(k,
    c)/latency)."""
    most = max(1, int(nbytes / least))
    if latency <= 0.0:
        return most
    return max(1, min(most, round(math.sqrt(min(nbytes / link, work.seconds) / latency))))
