"""The memory of a model in words."""

from __future__ import annotations

from qatplan.models.memory import Memory
from qatplan.units import format_bytes, format_count
from qatplan.wording.sections import Section, Table, bullets, section, sentence


def memory_sections(memory: Memory) -> list[Section]:
    """The items as a table, and what their sizes rest on."""
    rows = [(item.name, f"{item.bytes:,}", format_bytes(item.bytes), item.detail) for item in memory.items]
    rows.append(("total", f"{memory.total_bytes:,}", format_bytes(memory.total_bytes), ""))
    return [
        section(
            f"{memory.model} in {memory.format}",
            f"{format_count(memory.parameters)} parameters, {memory.bits_per_weight:.3f} bits per weight, file "
            f"{format_bytes(memory.weights_bytes)}.",
            Table(headers=("", "bytes", "", "what it is"), rows=tuple(rows), words=(0, 3), strong=len(rows) - 1),
        ),
        section("What it rests on", bullets(*map(sentence, memory.assumptions))),
    ]
