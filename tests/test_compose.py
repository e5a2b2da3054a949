"""Equations of composition against examples worked by hand, and what must hold for all of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finequery.perfmodel import compose
from finequery.perfmodel.compose import Price, certain


def test_prices_add_and_scale() -> None:
    a, b = Price(2.0, 1.0, 4.0, 100.0, 5.0), Price(1.0, 0.5, 1.5, 10.0, 0.25)
    assert a + b == Price(3.0, 1.5, 5.5, 110.0, 5.25)
    assert a * 0.5 == 0.5 * a == Price(1.0, 0.5, 2.0, 50.0, 2.5)
    assert compose.total([a, b, b]) == Price(4.0, 2.0, 7.0, 120.0, 5.5)
    assert (a.bandwidth, Price().bandwidth) == (50.0, 0.0)


# --- FineStream eqs 1-3 -----------------------------------------------------------------------------------------------


def test_co_running_within_the_bandwidth() -> None:
    # Needs: 40/2 = 20 and 30/3 = 10 B/s; Bsum = 30 <= Bmax = 50, r = 1 in both stages: nobody is slowed.
    for fair in (False, True):
        assert compose.co_run_ends([2.0, 3.0], [40.0, 30.0], 50.0, fair) == [2.0, 3.0]
    assert compose.co_run([certain(2.0, 40.0), certain(3.0, 30.0)], 50.0).seconds == 3.0


def test_co_running_over_the_bandwidth() -> None:
    # Needs: 80/2 = 40 and 80/4 = 20 B/s, Bmax = 40. Stage 1 lasts until task 1 is done: 2 s alone, r = 60/40 = 1.5, so
    # 3 s. Stage 2: task 2 has 4 - 2 = 2 s left, Bsum = 20, r = 1: 2 s. Total 5 s (eq 2).
    assert compose.co_run_ends([2.0, 4.0], [80.0, 80.0], 40.0, fair=False) == [3.0, 5.0]
    # Three tasks, Bmax = 10, needs 10, 10, 4 for 1, 2, 3 s. Stage 1: r = 24/10, 2.4 s. Stage 2 (1 s of tasks 2 and 3):
    # r = 14/10, 1.4 s. Stage 3 (1 s of task 3): r = 1. Ends 2.4, 3.8, 4.8.
    ends = compose.co_run_ends([1.0, 2.0, 3.0], [10.0, 20.0, 12.0], 10.0, fair=False)
    assert ends == pytest.approx([2.4, 3.8, 4.8])


def test_fair_shares_of_the_bandwidth() -> None:
    # Needs 40 and 20, Bmax 40: equal shares are 20 each. Task 2 gets its 20 and is not slowed; task 1 runs at half its
    # pace and takes 4 s. Both end at 4 s, and 160 bytes have gone over a bus of 40 B/s.
    assert compose.co_run_ends([2.0, 4.0], [80.0, 80.0], 40.0) == pytest.approx([4.0, 4.0])
    # A task bound by arithmetic (1 B/s) beside two that need 30 each, Bmax 31: it gets 1, they get 15 each, half of
    # their pace: 2 s of work take 4 s.
    assert compose.co_run_ends([5.0, 2.0, 2.0], [5.0, 60.0, 60.0], 31.0) == pytest.approx([5.0, 4.0, 4.0])
    # Equal needs: the same as eq 1.
    equal = [[1.0, 2.0, 3.0], [20.0, 40.0, 60.0], 30.0]
    assert compose.co_run_ends(*equal) == pytest.approx(compose.co_run_ends(*equal, fair=False))


def test_no_task_beats_the_bus() -> None:
    # 100 bytes can't pass a bus of 10 B/s in the 2 s that were predicted.
    assert compose.co_run_ends([2.0], [100.0], 10.0) == [10.0]
    assert compose.co_run_ends([], [], 10.0) == []
    assert compose.co_run([], 10.0) == Price()


times = st.floats(0.001, 100.0)
branches = st.lists(st.tuples(times, st.floats(0.0, 1000.0)), min_size=1, max_size=5)


@given(branches, st.floats(5.0, 500.0), st.booleans())
@settings(max_examples=150, deadline=None)
def test_co_running_is_bounded(tasks: list[tuple[float, float]], peak: float, fair: bool) -> None:
    seconds, nbytes = [t for t, _ in tasks], [s for _, s in tasks]
    alone = [max(t, s / peak) for t, s in tasks]
    ends = compose.co_run_ends(seconds, nbytes, peak, fair)
    assert all(end >= t * (1 - 1e-9) for end, t in zip(ends, alone))
    assert max(ends) >= math.fsum(nbytes) / peak * (1 - 1e-9)  # never above the bus
    assert max(ends) <= math.fsum(alone) * (1 + 1e-9)  # never worse than one after another


def test_layers() -> None:
    # Eq 2: the layer of the example above (5 s), then a branch alone (1 s). Eq 3: 600 rows in 6 s.
    plan = [[certain(2.0, 80.0), certain(4.0, 80.0)], [certain(1.0, 8.0)]]
    price = compose.layers(plan, 40.0, fair=False)
    assert price == certain(6.0, 168.0)
    assert compose.throughput(600.0, price.seconds) == 100.0
    assert compose.throughput(1.0, 0.0) == math.inf


def test_intervals_are_composed_end_by_end() -> None:
    price = compose.co_run([Price(2.0, 1.0, 3.0), Price(2.5, 2.4, 2.6)], 1.0)
    assert (price.seconds, price.low, price.high) == (2.5, 2.4, 3.0)


# --- FineStream eqs 4-9 -----------------------------------------------------------------------------------------------


def test_pipeline_not_saturated() -> None:
    # Eq 4: 20/2 + 30/3 = 20 <= 50. Eq 5: n = 4 batches: 4·3 + 2 = 14 s. Eq 9: 100 rows a batch: 400/14.
    price = compose.batch_pipeline(certain(2.0, 20.0, 1.0), certain(3.0, 30.0, 2.0), 4, 50.0)
    assert price == certain(14.0, 200.0, 12.0)
    assert compose.throughput(4 * 100, price.seconds) == pytest.approx(28.571, abs=1e-3)
    assert compose.batch_pipeline(certain(2.0), certain(3.0), 1).seconds == 5.0


def test_pipeline_saturated() -> None:
    # t1 = 2, s1 = 60 (30 B/s); t2 = 4, s2 = 80 (20 B/s); Bmax = 40 < 50. Shorter: phase 1. r_olp = 2/4 = 0.5.
    # Eq 6: t_olp = (60 + 0.5·80)/40 = 2.5. Eq 7: t_rest = 0.5·80/20 = 2. A batch: 4.5 s (eq 8: n·4.5).
    assert compose.overlap_step(2.0, 60.0, 4.0, 80.0, 40.0) == 4.5
    assert compose.overlap_step(4.0, 80.0, 2.0, 60.0, 40.0) == 4.5
    # With the first batch's phase 1 and the last one's phase 2: 2 + 4 + 9·4.5 = 46.5.
    assert compose.batch_pipeline(certain(2.0, 60.0), certain(4.0, 80.0), 10, 40.0).seconds == 46.5


@given(times, st.floats(0.0, 100.0), times, st.floats(0.0, 100.0), st.integers(1, 50), st.floats(1.0, 100.0))
@settings(max_examples=150, deadline=None)
def test_pipeline_is_bounded(t1: float, s1: float, t2: float, s2: float, n: int, peak: float) -> None:
    a, b = max(t1, s1 / peak), max(t2, s2 / peak)
    found = compose.batch_pipeline(certain(t1, s1), certain(t2, s2), n, peak).seconds
    free = compose.batch_pipeline(certain(a, s1), certain(b, s2), n).seconds
    assert free * (1 - 1e-9) <= found or n == 1
    assert found <= n * (a + b) * (1 + 1e-9)  # overlapping never costs
    step = compose.overlap_step(t1, s1, t2, s2, peak)
    assert step >= (s1 + s2) / peak * (1 - 1e-9)


def test_no_batches() -> None:
    with pytest.raises(ValueError, match="0 batches"):
        compose.batch_pipeline(certain(1.0), certain(1.0), 0)


# --- HJ13 eqs 1-5 -----------------------------------------------------------------------------------------------------


def test_one_ratio_has_no_delay() -> None:
    # DD, r = 0.25: CPU 0.25·(4 + 8) = 3, GPU 0.75·(2 + 4) = 4.5; T = 4.5 (eq 1).
    assert compose.delayed_steps([4.0, 8.0], [2.0, 4.0], [0.25, 0.25]) == (3.0, 4.5)
    price = compose.split_steps([certain(4.0), certain(8.0)], [certain(2.0), certain(4.0)], [0.25, 0.25], certain(0.5))
    assert price.seconds == 5.0


def test_cpu_waits_for_the_gpu() -> None:
    # Step 1 on the GPU alone (r1 = 0, 6 s), step 2 half and half (r2 = 0.5): CPU 1 s, GPU 2 s.
    # Eq 4: D_CPU = (6 - 6·(1 - 0.5)/(1 - 0)) - (0 + 1) = 3 - 1 = 2. T_CPU = 1 + 2 = 3; T_GPU = 6 + 2 = 8.
    assert compose.delayed_steps([9.0, 2.0], [6.0, 4.0], [0.0, 0.5]) == (3.0, 8.0)
    # A CPU that is busy longer than the GPU needs has nothing to wait for: D = (1 - 0.5) - 10 < 0.
    assert compose.delayed_steps([9.0, 20.0], [1.0, 4.0], [0.0, 0.5]) == (10.0, 3.0)


def test_gpu_waits_for_the_cpu() -> None:
    # r1 = 1: CPU 8 s, GPU 0. r2 = 0.5: CPU 3 s, GPU 2 s. Eq 5: D_GPU = 8 - (0 + 2 - 2·(1 - 1)/(1 - 0.5)) = 6.
    # T_CPU = 11, T_GPU = 2 + 6 = 8.
    assert compose.delayed_steps([8.0, 6.0], [5.0, 4.0], [1.0, 0.5]) == (11.0, 8.0)
    # r1 = 0.75: CPU 6, GPU 1. r2 = 0.25: CPU 1, GPU 3. D_GPU = 6 - (1 + 3 - 3·0.25/0.75) = 6 - 3 = 3. T_GPU = 7.
    assert compose.delayed_steps([8.0, 4.0], [4.0, 4.0], [0.75, 0.25]) == (7.0, 7.0)


def test_one_device_for_each_step() -> None:
    # OL: step 1 on the GPU (2 s), step 2 on the CPU (3 s). Eq 4: D_CPU = (2 - 2·0/1) - (0 + 3) < 0: as the equation is
    # printed, what the CPU has to do hides all of its wait.
    assert compose.delayed_steps([9.0, 3.0], [2.0, 9.0], [0.0, 1.0]) == (3.0, 2.0)


def test_ratios_are_checked() -> None:
    with pytest.raises(ValueError, match="ratio"):
        compose.delayed_steps([1.0], [1.0], [1.5])
    with pytest.raises(ValueError, match="2 ratios"):
        compose.split_steps([certain(1.0)], [certain(1.0)], [0.5, 0.5])


# --- one ratio --------------------------------------------------------------------------------------------------------


def test_best_split() -> None:
    # CPU 6 s, GPU 3 s for everything, no contention: r = t_gpu/(t_cpu + t_gpu) = 1/3 balances them at 2 s. Of the
    # grid 0.3 is best, of the steps of 0.02 around it 0.32: max(1.92, 2.04); 0.34 is as good, and further away.
    split = compose.best_split(lambda r: certain(6.0 * r), lambda r: certain(3.0 * r), math.inf)
    assert split.ratio == pytest.approx(0.32) and split.price.seconds == pytest.approx(2.04)


def test_no_split_when_the_bus_is_full() -> None:
    # Both would fill the bus alone: together they are as fast as one, and the merge makes that worse.
    split = compose.best_split(
        lambda r: certain(2.0 * r, 100.0 * r), lambda r: certain(1.9 * r, 95.0 * r), 50.0, certain(0.1)
    )
    assert split.ratio == 0.0 and split.price.seconds == pytest.approx(1.9)


def test_fixed_costs_keep_small_work_on_one_device() -> None:
    split = compose.best_split(
        lambda r: certain(1e-5 * r), lambda r: compose.launched(certain(1e-6 * r), 1, 1e-5, 2e-5), math.inf
    )
    assert split.ratio == 1.0
    cost = compose.best_split(lambda r: certain(1.0, 0, 1.0) * r, lambda r: certain(1.0, 0, 9.0) * r, math.inf)
    energy = compose.best_split(
        lambda r: certain(1.0, 0, 1.0) * r, lambda r: certain(1.0, 0, 9.0) * r, math.inf, cost=lambda p: p.joules
    )
    assert (cost.ratio, energy.ratio) == (0.5, 1.0)


def test_prices_between_shares() -> None:
    at = compose.interpolated([0.5, 1.0], [certain(6.0, 10.0), certain(10.0, 20.0)])
    assert [at(s).seconds for s in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.0, 3.0, 6.0, 8.0, 10.0]
    assert compose.interpolated([1.0], [certain(8.0)])(0.25).seconds == 2.0
    three = compose.interpolated([0.2, 0.6, 1.0], [certain(2.0), certain(4.0), certain(10.0)])
    assert [three(s).seconds for s in (0.4, 0.6, 0.8)] == pytest.approx([3.0, 4.0, 7.0])
    with pytest.raises(ValueError, match="ascend"):
        compose.interpolated([1.0, 0.5], [certain(1.0), certain(2.0)])


# --- fixed costs, merging, transfers ----------------------------------------------------------------------------------


def test_launches() -> None:
    # 3 launches of 10 µs before 100 µs of work and 20 µs to synchronise: 10 + 100 + 20. With 5 µs of work the launches
    # are what takes time: 10 + 20 + 20.
    assert compose.launched(certain(100.0), 3, 10.0, 20.0).seconds == 130.0
    assert compose.launched(certain(5.0), 3, 10.0, 20.0).seconds == 50.0
    assert compose.launched(certain(5.0), 0, 10.0, 20.0).seconds == 5.0


def test_merge() -> None:
    # 1000 groups of 16 bytes: read both tables, write one: 48,000 bytes, at 12,000 a second.
    assert compose.merge(1000.0, 16.0, 12_000.0) == certain(4.0, 48_000.0)


def test_transfer_overlaps_with_work() -> None:
    # 80 bytes over 10 B/s in 4 pieces: 0.5 s of latency + 2 s each; work 4 s, 1 s a piece: 4·2.5 + 1 = 11 s.
    price = compose.transferred(certain(4.0, 100.0), 80.0, 10.0, 0.5, 4)
    assert price.seconds == 11.0 and price.nbytes == 180.0
    # In one piece: 8.5 + 4. Resident data: the work alone.
    assert compose.transferred(certain(4.0), 80.0, 10.0, 0.5, 1).seconds == 12.5
    assert compose.transferred(certain(4.0, 7.0), 0.0, 10.0, 0.5, 4) == certain(4.0, 7.0)
    with pytest.raises(ValueError, match="0 pieces"):
        compose.transferred(certain(4.0), 1.0, 10.0, 0.5, 0)


def test_best_pieces_is_near_the_best() -> None:
    for seconds, nbytes in ((0.01, 1e9), (0.2, 1e9), (1e-4, 1e6), (0.05, 6e8)):
        work = certain(seconds)
        chosen = compose.best_pieces(work, nbytes, 12e9, 1e-5)
        most = max(1, int(nbytes / (256 << 10)))
        best = min(compose.transferred(work, nbytes, 12e9, 1e-5, n).seconds for n in range(1, min(most, 600) + 1))
        assert compose.transferred(work, nbytes, 12e9, 1e-5, chosen).seconds <= 1.02 * best
