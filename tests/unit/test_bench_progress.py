import io

from rich.console import Console

from load_tests.bench.progress import show_progress


def shown(*, terminal: bool) -> str:
    """What a run of three steps writes."""
    out = io.StringIO()
    environment = {"TERM": "xterm"}  # a dumb terminal cannot redraw a bar
    console = Console(file=out, force_terminal=terminal, width=100, _environ=environment)
    with show_progress(3, console) as step:
        step("the ceiling")
        step("64 at once")
    return out.getvalue()


def test_a_terminal_shows_the_steps() -> None:
    """Each step is shown when it begins, with the number of steps before it."""
    first, second = shown(terminal=True).split("the ceiling")[-2:]
    assert "0/3" in first
    assert "1/3" in second
    assert "64 at once" in second


def test_a_file_gets_no_bar() -> None:
    """Nothing is written where the output is no terminal, so logs stay readable."""
    assert shown(terminal=False) == ""
