"""What tests fetch for themselves: environments of their own and programs of Debian."""

import subprocess

import pytest

from tests.debian import program
from tests.environments import REQUIREMENTS, environment


def test_every_requirement_is_pinned_and_explained() -> None:
    """An environment is the same tomorrow, and says what it is for."""
    for path in REQUIREMENTS.glob("*.txt"):
        lines = [line for line in path.read_text().splitlines() if line]
        assert lines[0].startswith("#"), f"{path.name} does not begin with why it is there"
        loose = [line for line in lines if not line.startswith("#") and "==" not in line]
        assert not loose, f"{path.name}: not pinned: {loose}"


def test_a_program_runs() -> None:
    """What comes from Debian is a program that starts."""
    said = subprocess.run([program("promtool"), "--version"], capture_output=True, text=True, check=True)
    assert "promtool" in said.stdout + said.stderr


def test_what_is_nowhere_is_told_by_name() -> None:
    """An environment that nobody described."""
    with pytest.raises(FileNotFoundError):
        environment("nothing")
