"""The exception tree: standard bases, one message, safe to send from a worker."""

import pickle

import pytest
from tblib import pickling_support

from dsoftmax import errors

BASES = {
    errors.DataError: ValueError,
    errors.OptionError: ValueError,
    errors.ReadError: OSError,
    errors.AccessError: errors.ReadError,
    errors.WriteError: OSError,
    errors.MemoryLimitError: MemoryError,
    errors.OutputExistsError: FileExistsError,
    errors.RunMismatchError: ValueError,
    errors.ClusterError: RuntimeError,
    errors.NotFittedError: ValueError,
}


def test_every_error_is_in_the_table():
    found = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.DsoftmaxError)
    }
    assert found - {errors.DsoftmaxError} == set(BASES)
    assert all(kind.__name__ in errors.__doc__ for kind in found)


@pytest.mark.parametrize("kind", BASES)
def test_an_error_is_caught_by_its_standard_base_and_by_ours_and_survives_pickling(kind):
    error = kind("X.zarr rows 0–9: found, expected, cure.")
    assert isinstance(error, BASES[kind])
    assert isinstance(error, errors.DsoftmaxError)
    for protocol in (4, 5):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is kind
        assert str(again) == "X.zarr rows 0–9: found, expected, cure."
    pickling_support.install(
        error
    )  # as distributed does, for every exception that exists when it is imported
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == "X.zarr rows 0–9: found, expected, cure."


@pytest.mark.parametrize(
    ("found", "hint"),
    [
        ("lbgfs", "Did you mean 'lbfgs'?"),
        ("neuton", "Did you mean 'newton'?"),
        ("xyz", "is unknown. Known:"),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest(found, hint):
    error = errors.unknown_option("solver", found, iter(["lbfgs", "newton"]))
    assert isinstance(error, errors.OptionError)
    assert f"solver={found!r} is unknown" in str(error)
    assert hint in str(error)
    assert "'lbfgs', 'newton'" in str(error)


def test_the_warning_is_a_user_warning():
    assert issubclass(errors.ConvergenceWarning, UserWarning)
