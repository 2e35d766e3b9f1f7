"""The engine that an option names."""

import pytest

from dsoftmax.engines.base import Engine
from dsoftmax.engines.choose import make_engine
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import OptionError


def test_engines_by_name():
    assert isinstance(make_engine("serial"), SerialEngine)
    assert isinstance(make_engine("threads"), ThreadsEngine)
    assert make_engine("threads", 2**30).memory_limit == 2**30
    assert make_engine("serial", 2**30).memory_limit == 2**30
    engine = ThreadsEngine(3)
    assert make_engine(engine) is engine
    assert isinstance(engine, Engine)
    assert "3" in engine.describe()


def test_auto_without_a_client_is_this_machine():
    assert isinstance(make_engine("auto"), ThreadsEngine)


@pytest.mark.parametrize(
    ("name", "message"),
    [("thread", "Did you mean 'threads'"), ("spark", "Known: 'auto'"), (3, "engine=3 is unknown")],
)
def test_an_unknown_engine_is_answered_with_the_nearest(name, message):
    with pytest.raises(OptionError, match=message):
        make_engine(name)


def test_a_cluster_needs_a_client():
    with pytest.raises(OptionError, match="needs an active dask client"):
        make_engine("cluster")
