"""The pins hold: exact, complete, within the ranges of pyproject.toml, and what this run is tested with."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RANGES = {"requirements.txt": PROJECT["dependencies"]} | {
    f"requirements-{extra}.txt": ranges for extra, ranges in PROJECT["optional-dependencies"].items()
}
ALWAYS_INSTALLED = ("requirements.txt", "requirements-dev.txt")


def pins(name: str) -> dict[str, str]:
    """Canonical package name to version of one requirements file; fails on any line that is not `name==version`."""
    found = {}
    for line in (ROOT / name).read_text().splitlines():
        if line := line.partition("#")[0].strip():
            match = re.fullmatch(r"([a-z0-9-]+)==([0-9][0-9a-z.]*)", line)
            assert match, f"{name}: {line!r} is not pinned as name==version"
            assert match[1] not in found, f"{name}: {match[1]} is pinned twice"
            found[match[1]] = match[2]
    return found


@pytest.mark.parametrize("name", RANGES)
def test_pins_are_exact_and_within_the_ranges(name):
    pinned = pins(name)
    for requirement in map(Requirement, RANGES[name]):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{name}: {version} is outside {requirement}"


def test_an_extra_changes_no_main_pin():
    main = pins("requirements.txt")
    for name in RANGES.keys() - {"requirements.txt"}:
        assert not main.keys() & pins(name).keys(), f"{name} pins again what requirements.txt pins"


def test_pins_are_closed_under_what_the_packages_require():
    pinned = {name: version for file in ALWAYS_INSTALLED for name, version in pins(file).items()}
    for name in pinned:
        for requirement in map(Requirement, importlib.metadata.requires(name) or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                version = pinned.get(canonicalize_name(requirement.name))
                assert version, f"{name} requires {requirement}, which is not pinned"
                assert requirement.specifier.contains(version, prereleases=True), f"{name} requires {requirement}"


def test_the_installed_versions_are_the_pinned_ones():
    for file in ALWAYS_INSTALLED:
        for name, version in pins(file).items():
            assert importlib.metadata.version(name) == version, f"{file}: {name} is installed in another version"
