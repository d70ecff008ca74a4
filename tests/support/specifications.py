"""Small specifications on a text of green bottles, written where a test wants them."""

from __future__ import annotations

from pathlib import Path

HEAD = """
[corpus]
path = "text.txt"
[training]
sequence = 32
sequences = {sequences}
warmup = "{warmup}"
validation_tokens = "4K"
backend = "eager"
"""


def written(folder: Path, grids: str, *, sequences: int = 8, warmup: str = "2K") -> Path:
    """The path of a specification of `grids` in `folder`, beside its text."""
    (folder / "text.txt").write_text("\n".join(f"{n} green bottles, {n * n % 101} on the wall." for n in range(4000)))
    path = folder / "sweep.toml"
    path.write_text(HEAD.format(sequences=sequences, warmup=warmup) + grids)
    return path
