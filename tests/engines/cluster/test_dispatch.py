"""Who is asked for which piece: the policy of a pass, told by events and a fake clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation import GaveUpError, Member, Simulation, pieces_of

from dsoftmax.engines.cluster.dispatch import (
    PATIENCE,
    PATIENCE_SECONDS,
    Ask,
    Cancel,
    Dispatch,
    GiveUp,
)

TIMEOUT = 60.0
HALF = PATIENCE_SECONDS / 2


def started(*shares, reading=None):
    """A dispatch that was started at time 0, and its first commands."""
    dispatch = Dispatch(shares, reading or {}, TIMEOUT)
    return dispatch, dispatch.start(0.0)


def asked(commands):
    """(request, owner, place in the share, worker) of each piece that is asked for."""
    return [
        (one.request, one.piece.owner, one.piece.start, one.worker)
        for one in commands
        if isinstance(one, Ask)
    ]


# Own pieces


def test_every_worker_is_asked_for_two_pieces_and_for_one_more_after_each_answer():
    dispatch, first = started(pieces_of("a", 4, 2, 1, 1), pieces_of("b", 4, 2, 1, 1))
    assert asked(first) == [(0, "a", 0, "a"), (1, "b", 0, "b"), (2, "a", 1, "a"), (3, "b", 1, "b")]
    assert asked(dispatch.done(0, 4.0)) == [(4, "a", 2, "a")]
    assert asked(dispatch.done(1, 4.0)) == [(5, "b", 2, "b")]
    assert asked(dispatch.done(2, 6.0)) == [(6, "a", 3, "a")]
    assert not any(one.lent or one.duplicate for one in first)


def test_a_pass_is_finished_when_every_piece_is_counted():
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 1))
    assert not dispatch.finished
    assert dispatch.done(1, 1.0) == []
    assert not dispatch.finished
    assert dispatch.done(0, 2.0) == []
    assert dispatch.finished
    assert dispatch.counted == [1, 0]


@pytest.mark.parametrize(
    ("shares", "each"),
    [([(1,), (1,)], False), ([(1, 1), (1,)], True), ([(1, 1, 1), (1, 1, 1)], True)],
)
def test_a_single_answer_matters_while_a_worker_can_be_asked_for_more(shares, each):
    dispatch, _ = started(*(pieces_of(name, *one) for name, one in zip("ab", shares, strict=True)))
    assert dispatch.wants_each == each


# Stolen pieces


def test_a_worker_that_is_done_steals_the_last_piece_of_the_worker_furthest_behind():
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 4, 2, 1, 1), pieces_of("c", 8, 4, 2, 2))
    (stolen,) = dispatch.done(0, 1.0)
    assert asked([stolen]) == [(5, "c", 3, "a")]
    assert stolen.lent
    assert not stolen.duplicate
    assert asked(dispatch.done(5, 2.0)) == [(6, "c", 2, "a")]
    # The owner's last piece is requested but not begun: its request is cancelled.
    assert dispatch.done(6, 3.0) == [Cancel(4), Ask(7, pieces_of("c", 8, 4)[1], "a", False)]


def test_a_worker_does_not_steal_while_it_has_a_piece_of_its_own():
    dispatch, _ = started(pieces_of("a", 1, 1), pieces_of("b", 4, 4, 4))
    assert dispatch.done(0, 1.0) == []
    assert asked(dispatch.done(2, 2.0))[0][1:] == ("b", 2, "a")


def test_a_piece_that_is_begun_is_not_stolen():
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 100))
    assert dispatch.done(0, 1.0) == []
    assert list(dispatch.running) == [1]


def test_work_that_is_done_since_the_last_answer_counts_for_the_worker_that_is_behind():
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 8, 2), pieces_of("c", 9, 2))
    assert asked(dispatch.done(0, 1.0))[0][1:] == ("c", 1, "a")
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 7, 2), pieces_of("c", 3, 2, 5))
    dispatch.done(2, 3.0)  # c began its next piece half a second ago, b its first one at the start
    assert asked(dispatch.done(0, 3.5))[0][1:] == ("c", 2, "a")


@pytest.mark.parametrize(("reading", "steals"), [(10.0, False), (1000.0, True)])
def test_a_piece_is_not_stolen_if_reading_it_takes_longer_than_its_owner_needs(reading, steals):
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 2, 2), reading={"a": reading})
    assert bool(dispatch.done(0, 1.0)) == steals


def test_a_piece_of_unknown_duration_is_stolen_however_slowly_the_thief_reads():
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 2, 2, known=False), reading={"a": 1e-3})
    assert asked(dispatch.done(0, 1.0))[0][1:] == ("b", 1, "a")


def test_owners_are_asked_again_if_nothing_runs_and_nobody_steals():
    dispatch, _ = started(pieces_of("a", 1, 1, 1), pieces_of("b", 1), reading={"b": 10.0})
    assert dispatch.done(1, 1.0) == []
    for lost, duplicate in ((0, 3), (2, 4)):
        (one,) = dispatch.tick({"b"}, 1.0 + 2 * HALF * duplicate)
        assert asked([one]) == [(duplicate, "a", lost // 2, "b")]
        commands = dispatch.done(duplicate, 2.0 + 2 * HALF * duplicate)
        assert commands[0] == Cancel(lost)
    assert asked(commands) == [(5, "a", 2, "a")]


# Late pieces


def test_a_late_piece_is_duplicated_to_an_idle_worker_and_the_first_answer_counts():
    for first, other in ((1, 2), (2, 1)):
        dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 5))
        assert dispatch.done(0, 1.0) == []
        assert dispatch.tick({"a", "b"}, PATIENCE * 5) == []
        (duplicate,) = dispatch.tick({"a", "b"}, PATIENCE * 5 + 0.1)
        assert asked([duplicate]) == [(2, "b", 0, "a")]
        assert duplicate.duplicate
        assert dispatch.tick({"a", "b"}, PATIENCE * 5 + 0.2) == []
        assert dispatch.done(first, 30.0) == [Cancel(other)]
        assert dispatch.finished
        assert dispatch.counted == [0, first]


def test_two_answers_in_the_same_wait_count_once():
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 5))
    dispatch.done(0, 1.0)
    dispatch.tick({"a", "b"}, 30.0)
    dispatch.done(1, 31.0)
    assert dispatch.done(2, 31.0) == []
    assert dispatch.failed(2, True, 31.0) == []
    assert dispatch.counted == [0, 1]


@pytest.mark.parametrize(
    ("seconds", "known", "ready", "late"),
    [
        (0.1, True, "ab", PATIENCE_SECONDS),
        (50.0, True, "ab", PATIENCE * 50),
        (0.1, False, "ab", TIMEOUT),
        (50.0, True, "a", HALF),
        (50.0, False, "a", HALF),
    ],
)
def test_how_long_a_piece_takes_before_it_is_late(seconds, known, ready, late):
    """Its worker is ready or not, and the time that it should take is known or not."""
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", seconds, known=known))
    dispatch.done(0, 0.0)
    assert dispatch.tick(set(ready), late) == []
    assert asked(dispatch.tick(set(ready), late + 0.01)) == [(2, "b", 0, "a")]


def test_the_scheduler_is_not_asked_before_a_piece_can_be_late():
    dispatch, _ = started(pieces_of("a", 1, 1), pieces_of("b", 5))
    assert not dispatch.has_waited(HALF - 0.1)
    assert dispatch.has_waited(HALF)
    dispatch.done(0, HALF)
    dispatch.done(1, HALF)
    assert not dispatch.has_waited(HALF + 1)


def test_the_second_piece_of_a_worker_is_late_only_after_its_first():
    dispatch, _ = started(pieces_of("b", 9, 9), pieces_of("a", 1), reading={"a": 1.0})
    dispatch.done(1, 1.0)
    dispatch.done(0, 30.0)
    assert dispatch.tick({"a", "b"}, 30.0 + PATIENCE * 9) == []
    assert asked(dispatch.tick({"a", "b"}, 30.1 + PATIENCE * 9)) == [(3, "b", 1, "a")]


def test_only_workers_that_are_idle_and_ready_help():
    shares = pieces_of("a", 1), pieces_of("b", 1), pieces_of("c", 100), pieces_of("d", 1)
    dispatch, _ = started(*shares)
    dispatch.done(0, 1.0)
    dispatch.done(1, 1.0)
    # a is paused, c is busy with a piece that is not late, and d itself is late; b is left.
    assert asked(dispatch.tick({"b", "c", "d"}, 20.0)) == [(4, "d", 0, "b")]


def test_one_idle_worker_helps_with_one_piece():
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 1), pieces_of("c", 1))
    dispatch.done(0, 1.0)
    assert asked(dispatch.tick({"a"}, 20.0)) == [(3, "b", 0, "a")]
    assert asked(dispatch.done(3, 21.0)) == []
    assert asked(dispatch.tick({"a"}, 22.0)) == [(4, "c", 0, "a")]


def test_a_worker_is_asked_once_more_for_its_own_late_piece_if_nobody_else_can_help():
    """The piece may wait for θ, which a silent worker has; the duplicate carries θ."""
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 1))
    (duplicate,) = dispatch.tick({"a"}, 20.0)
    assert asked([duplicate]) == [(2, "a", 0, "a")]
    assert duplicate.duplicate
    assert not duplicate.lent


def test_a_duplicate_on_a_silent_worker_is_cancelled_and_another_worker_is_asked():
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 1), pieces_of("c", 1))
    dispatch.done(0, 1.0)
    dispatch.done(1, 1.0)
    (first,) = dispatch.tick({"a", "b", "c"}, 20.0)
    assert asked([first]) == [(3, "c", 0, "a")]
    assert dispatch.tick({"b", "c"}, 22.0) == [Cancel(3), Ask(4, first.piece, "b", True)]
    assert dispatch.done(3, 23.0) == []
    assert dispatch.done(4, 24.0) == [Cancel(2)]
    assert dispatch.counted == [0, 1, 4]


def test_a_piece_with_a_duplicate_is_not_stolen_as_well():
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 1, 1), pieces_of("c", 25, 1))
    dispatch.tick(set("abc"), 20.0)
    doubled = {one.piece for one in dispatch.running.values() if one.duplicate is not None}
    for request in list(dispatch.running):
        for command in dispatch.done(request, 21.0):
            if isinstance(command, Ask):
                assert command.piece not in doubled


# Failures


@pytest.mark.parametrize("recoverable", [True, False])
def test_a_piece_that_fails_on_its_owner_ends_the_pass(recoverable):
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 1))
    assert dispatch.failed(1, recoverable, 1.0) == [GiveUp(1)]


def test_a_piece_that_fails_on_a_thief_is_asked_of_its_owner():
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 4, 2, 1))
    (stolen,) = dispatch.done(0, 1.0)
    again, *_ = dispatch.failed(stolen.request, True, 2.0)
    assert asked([again]) == [(4, "b", 2, "b")]
    assert dispatch.failed(4, True, 3.0) == [GiveUp(4)]


def test_a_worker_does_not_steal_a_piece_again_that_it_has_lost():
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 4, 2, 1), pieces_of("c", 3))
    (stolen,) = dispatch.done(0, 1.0)
    assert asked(dispatch.failed(stolen.request, True, 2.0)) == [(5, "b", 2, "b")]
    assert dispatch.done(2, 3.0) == [Cancel(5), Ask(6, stolen.piece, "c", False)]  # c may try


def test_an_error_that_every_worker_would_have_ends_the_pass():
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 4, 2, 1))
    (stolen,) = dispatch.done(0, 1.0)
    assert dispatch.failed(stolen.request, False, 2.0) == [GiveUp(stolen.request)]
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 1))
    dispatch.done(0, 1.0)
    dispatch.tick({"a", "b"}, 20.0)
    assert dispatch.failed(2, False, 21.0) == [GiveUp(2)]


@pytest.mark.parametrize(("fails", "stays"), [(1, 2), (2, 1)])
def test_if_one_of_two_requests_for_a_piece_fails_the_other_counts(fails, stays):
    dispatch, _ = started(pieces_of("a", 1), pieces_of("b", 1))
    dispatch.done(0, 1.0)
    dispatch.tick({"a", "b"}, 20.0)
    assert dispatch.failed(fails, True, 21.0) == []
    assert dispatch.done(stays, 22.0) == []
    assert dispatch.counted == [0, stays]


# Whole passes


def test_a_slow_worker_gets_help_until_all_end_together():
    shares = [pieces_of(name, 8, 4, 2, 2) for name in "abc"]
    members = {"a": Member(slowness=4.0), "b": Member(), "c": Member()}
    simulation = Simulation(Dispatch(shares, {}, TIMEOUT), members)
    simulation.run()
    alone, ideal = 4 * 16, 48 / (1 / 4 + 1 + 1)
    assert ideal <= simulation.now < alone / 1.9


def test_a_worker_that_freezes_for_ever_costs_its_patience_and_no_more():
    shares = [pieces_of(name, 8, 4, 2, 2) for name in "ab"]
    members = {"a": Member(frozen=[(1.0, 1e9)]), "b": Member()}
    simulation = Simulation(Dispatch(shares, {}, TIMEOUT), members)
    counted = simulation.run()
    assert len(counted) == 8
    assert simulation.now < 2 * 16 + 3 * HALF


@st.composite
def passes(draw):
    """Shares, workers, and requests that are lost. The first worker never freezes for good."""
    seconds = st.floats(0.0, 40.0)
    names = "abcde"[: draw(st.integers(1, 5))]
    shares = [
        pieces_of(name, *draw(st.lists(seconds, min_size=1, max_size=4)), known=draw(st.booleans()))
        for name in names
    ]
    members = {}
    for name in names:
        frozen = []
        if draw(st.booleans()):
            start, stop = draw(st.floats(0.0, 50.0)), draw(st.sampled_from([20.0, 100.0, 1e12]))
            frozen = [(start, 60.0 if name == "a" else start + stop)]
        members[name] = Member(draw(st.sampled_from([0.1, 1.0, 1.0, 10.0])), frozen)
    reading = {name: draw(st.sampled_from([1.0, 100.0])) for name in names if draw(st.booleans())}
    lost = draw(st.sets(st.integers(0, 20), max_size=3))
    return shares, members, reading, lost


@given(passes())
def test_every_piece_is_counted_exactly_once_and_the_pass_ends(drawn):
    shares, members, reading, lost = drawn
    pieces = sorted(
        piece for share in shares for piece in [(one.owner, one.start) for one in share]
    )
    simulation = Simulation(Dispatch(shares, reading, TIMEOUT), members, lost)
    try:
        counted = simulation.run()
    except GaveUpError as error:
        # Only a piece that was lost on its owner, with no other request for it, ends a pass.
        (request,) = error.args
        assert request in lost
        assert not simulation.asked[request].lent
        assert simulation.asked[request].piece not in [
            one.piece for one in simulation.dispatch.running.values()
        ]
    else:
        assert sorted((one.owner, one.start) for one in counted) == pieces
