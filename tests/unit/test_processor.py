"""What training asks of the processor that it runs on."""

from pathlib import Path

import pytest

from training.support import processor
from training.support.processor import multiplies_bfloat16


@pytest.mark.parametrize(
    ("content", "multiplies"),
    [
        ("flags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n", True),
        ("flags\t\t: fpu avx2 avx512_bf16\n", False),  # it adds products, but multiplies no tiles
        ("Features\t: fp asimd bf16 i8mm\n", False),
        (None, False),
    ],
)
def test_matrices_of_bfloat16(
    content: str | None, multiplies: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a CPU with AMX trains faster in bfloat16; one that cannot be asked has none."""
    file = tmp_path / "cpuinfo"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    monkeypatch.setattr(processor, "_CPU_INFO", file)
    assert multiplies_bfloat16.__wrapped__() is multiplies
