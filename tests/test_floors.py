"""The house holds: imports go down only, libraries enter by their doors, files stay small and explained.

Rooms, floors and doors are those of docs/design.md, section 2. Change both in one commit.
"""

import ast
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_FILE_LINES = 320
MAX_FUNCTION_LINES = 60  # without the lines of functions defined inside it
MAX_NESTED_DEFS = 2  # one level, and one more where a factory's function has a scan body

FLOORS = {  # room: floor
    "dreamer/core": 0,
    "dreamer/wake": 1,
    "dreamer/replay": 1,
    "dreamer/sleep": 1,
    "dreamer/io": 1,
    "world_models/layers.py": 1,
    "dreamer/loop": 2,
    "world_models": 2,
    "agents": 2,
    "experiments": 3,
    "scripts": 4,
    "dreamer/__init__.py": 0,  # a docstring: whatever it imported, everybody would import
}
INNER = {"dreamer/wake/envs": "dreamer/wake"}  # inner room: its house. An environment never knows who acts
DOORS = {  # library: the places where it may enter. The longest name that matches an import decides
    "gymnasium": ("dreamer/wake/envs",),
    "gymnax": ("dreamer/wake/envs",),
    "jumanji": ("dreamer/wake/envs",),
    "ale_py": ("dreamer/wake/envs",),
    "mctx": ("dreamer/sleep/search.py",),
    "optax": ("dreamer/sleep/update.py", "experiments/build.py"),
    "flax": ("world_models", "agents"),
    "flax.struct": ("",),
    "orbax": ("dreamer/io",),
    "wandb": ("dreamer/io",),
    "minari": ("dreamer/io",),
    "h5py": ("dreamer/io",),
    "safetensors": ("dreamer/io", "dreamer/wake/deployed.py"),
    "optuna": ("experiments/study.py",),
    "ray": ("experiments/cluster.py",),
    "tyro": ("scripts",),
    "rich": ("scripts",),
    "matplotlib": ("experiments",),
    "imageio": ("experiments",),
    "PIL": ("experiments",),
    "scipy": ("experiments",),
    "chex": ("",),
    "jax": ("",),
    "numpy": ("",),
}
PRODUCTS = {"runs", "wandb", "build", "dist"}  # folders at the root that runs and builds leave behind


def inside(path: str, place: str) -> bool:
    """Whether the file `path` is `place` or lies in it; "" is everywhere."""
    return not place or path == place or path.startswith(place + "/")


def room_of(path: str) -> str | None:
    """The room a path relative to the root lies in."""
    return next((room for room in FLOORS if inside(path, room)), None)


def files(root: Path) -> Iterator[str]:
    """Paths relative to the root of all files of the repository but hidden ones and products."""
    for folder, below, names in os.walk(root):
        here = Path(folder).relative_to(root)
        below[:] = sorted(n for n in below if not n.startswith(".") and (here.parts or n not in PRODUCTS))
        yield from ((here / name).as_posix() for name in sorted(names) if not name.startswith("."))


def sources(root: Path) -> Iterator[tuple[str, str]]:
    """(path relative to the root, text) of every Python file of the house: all but the tests."""
    for path in files(root):
        if path.endswith(".py") and not inside(path, "tests"):
            yield path, (root / path).read_text()


def imports(path: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of all that a file imports, wherever in it; `from a import b` is `a.b`."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom():
                package = path.split("/")[: -node.level] if node.level else []
                base = ".".join([*package, node.module] if node.module else package)
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def local_path(root: Path, name: str) -> str | None:
    """The file or folder a dotted name means in this repository, relative to its root; None for a library."""
    parts = name.split(".")
    if not ((root / parts[0]).is_dir() or (root / f"{parts[0]}.py").is_file()):
        return None
    for length in range(len(parts), 0, -1):
        path = "/".join(parts[:length])
        if (root / f"{path}.py").is_file():
            return f"{path}.py"
        if (root / path).is_dir():
            return path if path != "dreamer" else "dreamer/__init__.py"
    return None


def wrong_arrow(path: str, target: str) -> str | None:
    """Why a file must not import the local file or folder `target`, or None if it may."""
    room, goal = room_of(path), room_of(target)
    if goal is None:
        return f"imports {target}, which is in no room"
    if room == goal:
        inner = next((place for place, house in INNER.items() if inside(path, place)), None)
        return f"looks out of {inner} at {target}" if inner and not inside(target, inner) else None
    if FLOORS[goal] < FLOORS[room]:
        return None
    way = "sideways" if FLOORS[goal] == FLOORS[room] else "upwards"
    return f"imports {way}: {room} (floor {FLOORS[room]}) from {goal} (floor {FLOORS[goal]})"


def wrong_door(path: str, name: str) -> str | None:
    """Why a library must not enter in this file, or None if it may."""
    parts = name.split(".")
    if parts[0] in sys.stdlib_module_names:
        return None
    library = next((key for n in range(len(parts), 0, -1) if (key := ".".join(parts[:n])) in DOORS), None)
    if library is None:
        return f"imports {name}, a library without a door"
    doors = DOORS[library]
    return None if any(inside(path, door) for door in doors) else f"imports {name}; its door is {' or '.join(doors)}"


def house_problems(root: Path) -> list[str]:
    """Every file in no room, arrow that does not go down and library at a wrong door, as `path:line: why`."""
    problems = []
    for path, text in sources(root):
        if room_of(path) is None:
            problems.append(f"{path}:1: is in no room of docs/design.md, section 2")
            continue
        for line, name in imports(path, ast.parse(text)):
            target = local_path(root, name)
            why = wrong_door(path, name) if target is None else wrong_arrow(path, target)
            if why:
                problems.append(f"{path}:{line}: {why}")
    return problems


def functions(tree: ast.AST, depth: int = 0) -> Iterator[tuple[ast.FunctionDef, int, int]]:
    """(function, its own lines, how many functions it is nested in) of all functions of a file."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            within = list(functions(node, depth + 1))
            lines = node.end_lineno - node.lineno + 1
            nested = sum(f.end_lineno - f.lineno + 1 for f, _, d in within if d == depth + 1)
            yield node, lines - nested, depth
            yield from within
        else:
            yield from functions(node, depth)


def style_problems(root: Path) -> list[str]:
    """Every file or function that is too long, public thing without docstring, setting without explanation."""
    problems = []
    for path, text in sources(root):
        tree = ast.parse(text)
        if (num_lines := len(text.splitlines())) > MAX_FILE_LINES:
            problems.append(f"{path}:1: has {num_lines} lines, over {MAX_FILE_LINES}: split it by subject")
        for function, num_lines, depth in functions(tree):
            where = f"{path}:{function.lineno}: {function.name}"
            if num_lines > MAX_FUNCTION_LINES:
                problems.append(f"{where} has {num_lines} lines, over {MAX_FUNCTION_LINES}")
            if depth > MAX_NESTED_DEFS:
                problems.append(f"{where} is nested in {depth} functions, more than {MAX_NESTED_DEFS}")
        if not ast.get_docstring(tree):
            problems.append(f"{path}:1: the module has no docstring")
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                if not ast.get_docstring(node):
                    problems.append(f"{path}:{node.lineno}: {node.name} has no docstring")
                if isinstance(node, ast.ClassDef) and node.name.endswith("Config"):
                    problems += [f"{path}:{line}: {node.name}.{name} is not explained" for line, name in bare(node)]
    return problems


def bare(config: ast.ClassDef) -> Iterator[tuple[int, str]]:
    """(line, name) of the fields of a config without a docstring under them: `--help` would say nothing."""
    for field, below in zip(config.body, [*config.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign):
            match below:
                case ast.Expr(value=ast.Constant(value=str())):
                    pass
                case _:
                    yield field.lineno, field.target.id


def stray_paths(root: Path) -> list[str]:
    """Every mention, in code or text, of a path out of the repository or into somebody's own folders."""
    problems = []
    for path in files(root):
        if not (path.endswith((".py", ".md", ".toml", ".txt", ".csv")) or path == "Makefile"):
            continue
        for number, line in enumerate((root / path).read_text().splitlines(), 1):
            for up in re.findall(r"(?<![\w./])(?:\.\./)+\w[\w./-]*", line):
                if up.count("../") > path.count("/"):
                    problems.append(f"{path}:{number}: {up} is outside the repository")
            for own in re.findall(r"(?<![\w.:/~-])/(?:home|root|work|Users)/[\w.-]+", line):
                problems.append(f"{path}:{number}: {own} exists on one machine only")
    return problems


@pytest.mark.parametrize("check", [house_problems, style_problems, stray_paths])
def test_the_house_holds(check):
    problems = check(ROOT)
    assert not problems, "\n" + "\n".join(problems)


def test_every_room_is_lived_in():
    assert {room_of(path) for path, _ in sources(ROOT)} >= FLOORS.keys() - {"dreamer/__init__.py"}


def house(root: Path, extra: dict[str, str]) -> Path:
    """A small house: every room with an empty file, and the files given."""
    rooms = {f"{room}/__init__.py" if not room.endswith(".py") else room: '"""Doc."""\n' for room in FLOORS}
    for path, text in {**rooms, **extra}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.mark.parametrize(
    ("path", "line", "why"),
    [
        ("dreamer/core/a.py", "import dreamer.wake", "upwards"),
        ("dreamer/core/a.py", "from dreamer import loop", "upwards"),
        ("dreamer/loop/days.py", "def f():\n    from agents import thing", "sideways"),
        ("dreamer/sleep/a.py", "from dreamer import replay", "sideways"),
        ("dreamer/sleep/a.py", "from ..replay import buffer", "sideways"),
        ("dreamer/replay/a.py", "from dreamer.wake.envs import base", "sideways"),
        ("world_models/a.py", "import agents as people", "sideways"),
        ("world_models/layers.py", "from world_models import efficientzero", "upwards"),
        ("experiments/a.py", "import importlib\nimportlib.import_module('scripts.train')", "upwards"),
        ("dreamer/wake/envs/a.py", "from dreamer.wake import session", "looks out of"),
        ("dreamer/__init__.py", "from dreamer.core import types", "sideways"),
        ("agents/a.py", "from tests import toys", "in no room"),
        ("dreamer/wake/session.py", "import gymnasium as gym", "door is dreamer/wake/envs"),
        ("dreamer/sleep/targets.py", "import mctx", "door is dreamer/sleep/search.py"),
        ("agents/a.py", "import optax", "door is dreamer/sleep/update.py or experiments/build.py"),
        ("dreamer/sleep/fit.py", "from flax import linen as nn", "door is world_models or agents"),
        ("dreamer/replay/a.py", "from safetensors.numpy import save", "door is dreamer/io"),
        ("experiments/run.py", "import rich.live", "door is scripts"),
        ("scripts/a.py", "import matplotlib.pyplot as plt", "door is experiments"),
        ("dreamer/core/a.py", "import torch", "without a door"),
        ("tools/a.py", "import os", "in no room"),
        ("setup.py", "import os", "in no room"),
    ],
)
def test_a_wrong_import_is_caught(tmp_path, path, line, why):
    files = {"tests/toys.py": "", "dreamer/wake/session.py": "", path: f'"""Doc."""\n{line}\n'}
    problems = house_problems(house(tmp_path, files))
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}:")
    assert why in problems[0]


def test_what_is_allowed_is_not_reported(tmp_path):
    files = {
        "dreamer/core/types.py": "import dataclasses, jax.numpy as jnp, numpy as np, chex\nfrom flax import struct",
        "dreamer/wake/envs/base.py": "import gymnasium, gymnax\nfrom dreamer.core.types import EnvSpec",
        "dreamer/wake/session.py": "from dreamer.wake import envs\nfrom dreamer.core import types\nimport flax.struct",
        "dreamer/wake/deployed.py": "from safetensors.numpy import save\nfrom .envs import base",
        "dreamer/sleep/search.py": "import mctx",
        "dreamer/io/facts.py": "import safetensors, wandb, orbax.checkpoint as ocp",
        "dreamer/loop/days.py": '"""Doc."""\nfrom dreamer import core, io, replay\nfrom dreamer.sleep import search',
        "experiments/build.py": "import optax, matplotlib\nfrom agents import *\nfrom dreamer.loop import run",
        "scripts/train.py": "import tyro, rich\nimport experiments.build",
        "tests/test_a.py": "import scripts, torch",
        ".venv/lib/a.py": "import torch",
    }
    assert house_problems(house(tmp_path, files)) == []


def test_style_is_caught(tmp_path):
    deep = '"""Doc."""\n\n\ndef _f():\n def g():\n  def h():\n   def i():\n    pass\n'
    long = '"""Doc."""\n\n\ndef _f():\n' + "    pass\n" * MAX_FUNCTION_LINES
    config = '"""Doc."""\n\n\nclass AConfig:\n    """Doc."""\n\n    told: int\n    """Why."""\n    untold: int = 1\n'
    files = {
        "agents/bare.py": "x = 1\n",
        "agents/config.py": config,
        "agents/deep.py": deep,
        "agents/endless.py": '"""Doc."""\n' + "x = 1\n" * MAX_FILE_LINES,
        "agents/long.py": long,
        "agents/mute.py": '"""Doc."""\n\n\ndef f():\n    pass\n\n\nclass C:\n    pass\n',
    }
    assert style_problems(house(tmp_path, files)) == [
        "agents/bare.py:1: the module has no docstring",
        "agents/config.py:9: AConfig.untold is not explained",
        "agents/deep.py:7: i is nested in 3 functions, more than 2",
        f"agents/endless.py:1: has {MAX_FILE_LINES + 1} lines, over {MAX_FILE_LINES}: split it by subject",
        f"agents/long.py:4: _f has {MAX_FUNCTION_LINES + 1} lines, over {MAX_FUNCTION_LINES}",
        "agents/mute.py:4: f has no docstring",
        "agents/mute.py:8: C has no docstring",
    ]


def test_only_a_functions_own_lines_count(tmp_path):
    body = "        pass\n" * (MAX_FUNCTION_LINES - 5)
    text = f'"""Doc."""\n\n\ndef _f():\n    def g():\n{body}\n    def h():\n{body}'
    assert style_problems(house(tmp_path, {"agents/a.py": text})) == []


def test_stray_paths_are_caught(tmp_path):
    up, own = "." + "./elsewhere/notes.md", "/" + "home/me"  # in pieces, or this file would be one
    texts = {"docs/a.md": f"see ../README.md and ../{up}\n", "Makefile": f"cat {up}\n", "agents/a.py": f"x = '{own}'\n"}
    assert set(stray_paths(house(tmp_path, texts))) == {
        f"Makefile:1: {up} is outside the repository",
        f"agents/a.py:1: {own} exists on one machine only",
        f"docs/a.md:1: ../{up} is outside the repository",
    }
