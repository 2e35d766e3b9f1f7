"""Workers that are killed at random: a run ends with the bits of one core."""

import os
import random
import signal
import threading
import time
from collections import Counter

import pytest
from distributed import Status
from local_workers import SETTINGS, SIGNALS, bits, engine_of, workers
from mischief import Slow, Watched

from dsoftmax.engines.cluster.engine import ATTEMPTS
from dsoftmax.training.loop import train

pytestmark = [SIGNALS, pytest.mark.usefixtures("quick"), pytest.mark.timeout(100)]


CHAOS_SECONDS = float(os.environ.get("DSOFTMAX_CHAOS_SECONDS", "120"))


KILLS_A_PASS = ATTEMPTS - 2
"""Number of workers killed in one pass: fewer than its attempts, however slowly workers start."""


def kill_at_random(cluster, engine, rng, every, most, end, kills):
    in_pass = Counter()
    while not end.wait(rng.uniform(*every)) and len(kills) < most:
        # A nanny gives up for good if its worker dies before it has started.
        nannies = [one for one in list(cluster.workers.values()) if one.process is not None]
        alive = [one.pid for one in nannies if one.status == one.process.status == Status.running]
        number = engine.ongoing.number
        if alive and in_pass[number] < KILLS_A_PASS:
            in_pass[number] += 1
            kills.append(rng.choice(alive))
            os.kill(kills[-1], signal.SIGKILL)


def train_among_kills(cluster, client, source, seed, every, most):
    """Train while at most ``most`` workers are killed; return the result and their processes."""
    rng, end, kills = random.Random(seed), threading.Event(), []
    with engine_of(client, timeout=60.0) as engine:
        killer = threading.Thread(
            target=kill_at_random, args=[cluster, engine, rng, every, most, end, kills]
        )
        killer.start()
        try:
            seen = Watched(source, Slow(rng.choice([0.002, 0.01, 0.02])), rng.random() < 0.7)
            return train(seen, engine, SETTINGS), kills
        finally:
            end.set()
            killer.join()


@pytest.mark.parametrize("seed", [1])
def test_workers_killed_at_random_change_no_bit(seed, source, undisturbed):
    with workers(3) as (cluster, client):
        result, kills = train_among_kills(cluster, client, source, seed, (0.5, 2.0), most=6)
    assert bits(result) == undisturbed
    assert kills


@pytest.mark.chaos
@pytest.mark.timeout(CHAOS_SECONDS + 300)
def test_workers_killed_for_minutes_change_no_bit(source, undisturbed, record_property):
    deadline = time.monotonic() + CHAOS_SECONDS
    runs = n_kills = 0
    with workers(3) as (cluster, client):
        while time.monotonic() < deadline:
            result, kills = train_among_kills(cluster, client, source, runs, (0.3, 4.0), most=20)
            print(f"seed {runs}: {len(kills)} killed", flush=True)
            assert bits(result) == undisturbed
            runs, n_kills = runs + 1, n_kills + len(kills)
    print(f"{runs} runs, {n_kills} workers killed, all bits equal")
    record_property("runs", runs)
    record_property("kills", n_kills)
