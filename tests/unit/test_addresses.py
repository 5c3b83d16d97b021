import pytest

from app.server import make_url, to_reachable


@pytest.mark.parametrize(
    ("listened_on", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("127.0.0.2", "http://127.0.0.2:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("::", "http://[::1]:8000"),
    ],
)
def test_reachable_url(listened_on: str, url: str) -> None:
    """All addresses become the loopback address of their kind; others are kept."""
    assert make_url(to_reachable(listened_on), 8000) == url
