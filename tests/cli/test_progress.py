"""The progress of a run: its completed fraction, the remaining time, and its lines."""

import io
from dataclasses import dataclass

import pytest
from rich.console import Console

from dsoftmax.cli.progress import Progress, Walk, clock, rate
from dsoftmax.sums.work import Done, Ongoing


@dataclass(frozen=True)
class Pass:
    """A record of one pass over 1,000 rows, in two seconds."""

    pass_: int
    gradient_max: float
    iteration: int = 0
    objective: float = 0.5
    seconds: float = 2.0
    rows: int = 1000
    bytes: int = 8000
    kept: float = 0.25


def walked(gradients, tol=1e-4, max_iter=100):
    walk = Walk(tol, max_iter)
    for number, gradient in enumerate(gradients, 1):
        walk.add(Pass(number, gradient, iteration=number - 1))
    return walk


def test_the_completed_fraction_is_measured_in_decades_of_the_gradient():
    assert walked([]).done == 0
    assert walked([1.0, 1e-1]).done == pytest.approx(1 / 4)
    assert walked([1.0, 1e-3]).done == pytest.approx(3 / 4)
    assert walked([1.0, 1e-5]).done == 1
    assert walked([1e-1, 1.0]).done == 0


def test_without_a_tolerance_the_completed_fraction_counts_iterations():
    assert walked([1.0, 0.9, 0.8], tol=0.0, max_iter=8).done == pytest.approx(2 / 8)


def test_a_resumed_run_measures_from_its_first_pass():
    walk = Walk(1e-4, 100, began_at=1.0)
    walk.add(Pass(7, 1e-2))
    assert walk.done == pytest.approx(2 / 4)


def test_the_remaining_time_extends_the_last_passes():
    assert walked([1.0, 1e-1]).seconds_left is None  # too few passes
    # Half a decade a pass: from 1e-1 to 1e-4 in six passes of two seconds.
    assert walked([1.0, 10**-0.5, 1e-1]).seconds_left == pytest.approx(12)
    # No decrease: 98 iterations to max_iter, one a pass.
    assert walked([1.0, 1.0, 1.0]).seconds_left == pytest.approx(2 * 98)


def console(terminal=False):
    return Console(file=io.StringIO(), force_terminal=terminal, width=200, highlight=False)


def test_plain_lines_are_the_first_pass_and_the_last():
    out = console()
    with Progress(1e-4, 100, out, every=3600) as progress:
        for number in range(1, 6):
            progress(Pass(number, 10.0**-number, iteration=number - 1), None)
    first, last = out.file.getvalue().splitlines()
    assert first.startswith("pass 1  log₁₀ max|∇F| -1.00 (target -4.00)  F 0.500000  iteration 0")
    assert last.startswith("pass 5  log₁₀ max|∇F| -5.00 (target -4.00)")
    assert last.endswith("500 rows/s  4 kB/s  25 % cached")


def test_the_live_display_names_the_slowest_workers_first():
    done = {f"w{number}": Done(rows=number, seconds=1.0) for number in range(1, 11)}
    progress = Progress(1e-4, 100, console(), ongoing=lambda: Ongoing(rows=100, finished=done))
    out = console(terminal=True)
    out.print(progress)
    lines = out.file.getvalue().splitlines()
    assert "pass 1" in lines[0]
    assert "55 % of the rows" in lines[1]
    assert [line.split()[1] for line in lines[2:-1]] == [f"w{number}:" for number in range(1, 9)]
    assert "2 faster workers, up to 10 rows/s" in lines[-1]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.44, "0.4 s"), (40.4, "40 s"), (125, "2:05 min"), (3723, "1:02:03 h")],
)
def test_durations(seconds, said):
    assert clock(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(3.14e6, "3.14 Mrows/s"), (2e9, "2 Grows/s"), (1500, "1.5 krows/s"), (12, "12 rows/s")],
)
def test_rates(value, said):
    assert rate(value, "rows/s") == said
