"""Small specifications on a text of green bottles, written where a test wants them."""

from __future__ import annotations

from pathlib import Path

HEAD = """
[corpus]
path = "text.txt"
[training]
sequence = 32
sequences = {sequences}
warmup = "2K"
validation_tokens = "4K"
backend = "eager"
"""


def written(folder: Path, grids: str, *, sequences: int = 8, more: str = "") -> Path:
    """A specification of `grids` in `folder`, beside its text; `more` are further lines of [training]."""
    (folder / "text.txt").write_text("\n".join(f"{n} green bottles, {n * n % 101} on the wall." for n in range(4000)))
    path = folder / "sweep.toml"
    path.write_text(HEAD.format(sequences=sequences) + more + grids)
    return path
