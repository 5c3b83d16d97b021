"""The number of users over the time of a load test."""

import pytest

from load_tests.shapes import count_users


@pytest.mark.parametrize(
    ("shape", "users"),
    [
        ("steady", [100, 100, 100, 100, 100]),
        ("step", [25, 50, 75, 100, 100]),
        ("spike", [25, 25, 100, 25, 25]),
        ("soak", [50, 100, 50, 100, 50]),
    ],
)
def test_each_shape(shape: str, users: list[int]) -> None:
    """The users of each quarter of a minute, of at most 100; a soak waves six times."""
    times = (0, 5, 10, 15, 20) if shape == "soak" else (0, 15, 30, 45, 59.99)
    assert [count_users(shape, 100, at, 60) for at in times] == users
    assert count_users(shape, 100, 60, 60) is None


def test_only_a_steady_run_may_be_endless() -> None:
    """Without a run time there is nothing that a shape could be stretched over."""
    assert count_users("steady", 7, 1e9, None) == 7
    with pytest.raises(ValueError, match="--shape spike needs --run-time"):
        count_users("spike", 7, 1, None)


def test_a_small_run_has_a_user() -> None:
    """A share of few users is at least one."""
    assert count_users("spike", 2, 0, 60) == 1
