"""Search spaces: how they are read, and which are rejected before anything is trained."""

from pathlib import Path

import pytest

from app.errors import InvalidInput
from tests.corpus import write
from tests.deferred import deferred
from training.configs import load_config

with deferred():
    from training.tuning.space import assignments, load_space, space_names

CONFIG = load_config("smoke")


def test_the_tutorial_grid() -> None:
    """The shipped tutorial grid has the nine cells of the tutorial."""
    cells = list(load_space("tutorial-grid", CONFIG).cells())
    assert cells == [
        {"batch_size": batch_size, "epochs": epochs}
        for batch_size in (10, 20, 40)
        for epochs in (1, 2, 3)
    ]


def test_shipped_spaces() -> None:
    """Every shipped space is valid for its recipe."""
    assert {"bow", "lstm"} <= set(space_names())
    for name in space_names():
        recipe = "bow" if name == "bow" else "lstm"
        assert load_space(name, load_config(recipe)).fields, name


def test_every_form(tmp_path: Path) -> None:
    """Choices, ranges with step, lists of units and flags form a grid of `--set` values."""
    text = """
        hidden = [[], [16, 8]]
        units = { low = 8, high = 24, step = 8 }
        dropout = { low = 0.1, high = 0.3, step = 0.1 }
        pretrain_embeddings = [true]
    """
    space = load_space(str(write(tmp_path / "mine.toml", text)), CONFIG)
    cells = [space.setting(cell) for cell in space.cells()]
    assert len(cells) == space.count() == 2 * 3 * 3
    assert assignments(cells[-1]) == [
        "hidden=16,8",
        "units=24",
        "dropout=0.3",
        "pretrain_embeddings=true",
    ]
    changed = CONFIG.with_assignments(assignments(cells[-1]))
    assert (changed.model.hidden, changed.model.units, changed.model.dropout) == ((16, 8), 24, 0.3)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("depth = [1]", "a field must be one of .* Received: 'depth'"),
        ("seed = [1, 2]", "seed must be the same in all trials"),
        ("validation_share = [0.1]", "validation_share must be the same in all trials"),
        ("units = 64", "units must be a list of choices, or a table of low and high"),
        ("units = { low = 1 }", "units must be a list of choices, or a table of low and high"),
        ("units = { low = 1, high = 2, by = 1 }", "with optional step or log"),
        ("units = []", "must have at least one choice, each once"),
        ("units = [8, 8]", "must have at least one choice, each once"),
        ("units = [{ a = 1 }]", "units must have plain values"),
        ("units = [0.5]", "units must be a whole number. Received: '0.5'"),
        ("units = ['many']", "units must be a whole number"),
        ("units = [8, 0]", "units must be above 0. Received: 0"),
        ("units = { low = 1.5, high = 2 }", "must be whole numbers"),
        ("units = { low = true, high = 2 }", "must be whole numbers"),
        ("optimizer = { low = 1, high = 2 }", "optimizer is not a number, so it must be a list"),
        ("optimizer = ['magic']", "optimizer must be one of"),
        ("dropout = { low = 0.5, high = 0.1 }", "low of dropout must be below high"),
        ("dropout = { low = 0.1, high = nan }", "low of dropout must be below high"),
        ("dropout = { low = 0.1, high = 1.5 }", "dropout must be at least 0 and below 1"),
        ("dropout = { low = 0.0, high = 0.1, log = true }", "true needs a low above 0"),
        ("dropout = { low = 0.1, high = 0.2, log = 1 }", "log of dropout must be true or false"),
        ("dropout = { low = 0.1, high = 0.2, log = true, step = 0.1 }", "and no step"),
        ("units = { low = 8, high = 20, step = 8 }", "step of units must be above 0 and divide"),
        ("units = { low = 8, high = 24, step = 0 }", "step of units must be above 0"),
        ("units = { low = 8, high = 24, step = -8 }", "step of units must be above 0"),
        ("max_length = [64, 16]\nhead_tokens = [8, 32]", "head_tokens must be below max_length"),
        (
            "truncation = ['pre', 'head_tail']\nmax_length = [64, 16]\nhead_tokens = [8, 32]",
            "head_tokens must be below max_length",
        ),
        (
            "ngram_logits_buckets = { low = 1024, high = 4096 }",
            "ngram_logits_buckets must be a list of choices",
        ),
        (f"units = {list(range(1, 102))}", "units must have at most 100 choices. Received: 101"),
        ("", "at least one field"),
        ("units = ", "a space must be valid TOML"),
    ],
)
def test_wrong_files(tmp_path: Path, line: str, sentence: str) -> None:
    """A file that is no valid space is an error with the file, the rule and what was received."""
    path = write(tmp_path / "mine.toml", line)
    with pytest.raises(InvalidInput, match=sentence) as refused:
        load_space(str(path), CONFIG)
    assert str(refused.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["nowhere", "../spaces/lstm", "."])
def test_no_such_space(name: str) -> None:
    """An unknown space is an error that lists the shipped ones."""
    with pytest.raises(InvalidInput, match="one of bow, lstm, tutorial-grid, or a TOML file"):
        load_space(name, CONFIG)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("dropout = { low = 0.1, high = 0.2 }", "needs choices or a step. Received: dropout"),
        (
            "units = { low = 1, high = 100000 }",
            "at most 1,000 values. Received: units",
        ),
    ],
)
def test_a_grid_ends(tmp_path: Path, line: str, sentence: str) -> None:
    """A grid needs ranges with a step, and at most 1,000 values per field."""
    space = load_space(str(write(tmp_path / "mine.toml", line)), CONFIG)
    with pytest.raises(InvalidInput, match=sentence):
        space.cells()
