"""The house stays as drawn: which room may know which, nothing imported upwards, no circle, light rooms light."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "qatplan"

# A room and those that its code may name, wherever the import stands: at the top, in a function or for types alone.
ROOMS: dict[str, set[str]] = {
    "shown": set(),
    "errors": {"shown"},
    "units": {"errors"},
    "expressions": {"errors", "units"},
    "storage": {"errors", "units"},
    "quant": {"errors"},
    "models": {"errors", "units", "storage"},
    "runs": {"errors", "units", "expressions", "storage"},
    "laws": {"shown", "errors", "units", "expressions", "storage"},
    "importing": {"errors", "units", "expressions", "runs"},
    "fitting": {"errors", "units", "storage", "runs", "laws"},
    "planning": {"errors", "units", "storage", "models", "laws"},
    "training": {"errors", "units", "storage", "models", "runs", "quant"},
    "sweeping": {"shown", "errors", "units", "storage", "models", "runs", "quant", "training"},
    "figures": {"errors", "units", "storage", "runs", "laws", "models", "fitting"},
    "wording": {"errors", "units", "models", "runs", "importing", "laws", "fitting", "planning", "sweeping", "storage"},
    "reporting": {"errors", "units", "storage", "models", "runs", "laws", "fitting", "planning", "figures", "wording"},
    "results": {
        "errors", "models", "runs", "importing", "laws", "fitting", "planning", "wording", "figures", "reporting",
    },
    "api": {
        "shown", "errors", "units", "storage", "models", "runs", "importing", "laws", "fitting", "planning",
        "sweeping", "figures", "reporting", "wording", "results",
    },
    "cli": {
        "shown", "errors", "units", "storage", "quant", "laws", "runs", "sweeping", "training", "wording", "results",
        "api",
    },
    "__main__": {"cli"},
    "__init__": {"api"},
}  # fmt: skip
HEAVY = {"torch", "ray", "torchao"}
TORCH = {"quant", "training", "sweeping"}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever the statement stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = str(node.module)
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                found.add(whole if whole in MODULES else module)
    return found


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_room_knows_only_those_below_it(module: str) -> None:
    own = room(module)
    for name in imports(MODULES[module]):
        if name in HEAVY:
            assert own in TORCH, f"{module} imports {name}"
        if name == "qatplan":
            continue  # its version
        if name.split(".")[0] == "qatplan" and room(name) != own:
            assert room(name) in ROOMS[own], f"{module} may not know {name}: {own} is not above {room(name)}"


def test_rooms_of_the_table_are_those_of_the_house_and_lie_on_floors() -> None:
    assert {room(module) for module in MODULES} == set(ROOMS)
    below: set[str] = set()
    rooms = dict(ROOMS)
    while rooms:
        floor = {name for name, knows in rooms.items() if knows <= below}
        assert floor, f"rooms know each other in a circle: {sorted(rooms)}"
        below |= floor
        rooms = {name: knows for name, knows in rooms.items() if name not in floor}


def test_no_module_imports_itself_by_a_detour() -> None:
    arrows = {name: imports(path) & MODULES.keys() - {name, "qatplan"} for name, path in MODULES.items()}
    # A package's face imports its modules, and what they import is not the face.
    done: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        path.append(name)
        for other in sorted(arrows[name]):
            visit(other)
        path.pop()
        done.add(name)

    for name in sorted(arrows):
        visit(name)
