"""Contenders that take turns on one batch, and what their times come to."""

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

PAUSE = 0.005
"""Seconds between turns: threads of the last contender that wait actively go to sleep."""


@dataclass(frozen=True)
class Pace:
    """How long to measure."""

    turn: float
    """Seconds of a turn; one counted call at least."""
    rounds: int
    """At least so many, of each contender."""
    seconds: float
    """And until so many are over."""


@dataclass(frozen=True)
class Times:
    """Seconds a call, over all the counted calls of all turns."""

    median: float
    quartiles: tuple[float, float]
    least: float
    most: float
    calls: int

    @staticmethod
    def of(calls: list[float]) -> "Times":
        low, median, high = statistics.quantiles(calls, method="inclusive") if len(calls) > 1 else calls * 3
        return Times(median, (low, high), min(calls), max(calls), len(calls))


def take_turns(contenders: Mapping[str, Callable[[float], list[float]]], pace: Pace) -> dict[str, dict]:
    """Rounds in which each contender has one turn, in an order that changes: the `Times` of each, as plain data."""
    calls: dict[str, list[float]] = {name: [] for name in contenders}
    order, shuffle = list(contenders), random.Random(1).shuffle
    start = time.perf_counter()
    rounds = 0
    gc.collect()
    gc.disable()
    try:
        while rounds < pace.rounds or time.perf_counter() - start < pace.seconds:
            shuffle(order)
            for name in order:
                time.sleep(PAUSE)
                calls[name] += contenders[name](pace.turn)
            rounds += 1
    finally:
        gc.enable()
    return {name: asdict(Times.of(of_one)) for name, of_one in calls.items()}
