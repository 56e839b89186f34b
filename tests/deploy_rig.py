"""What tests of the deployment files share."""

import json
import subprocess
from typing import Any

from tests.environments import environment
from tests.faults.crew import ROOT

DEPLOY = ROOT / "infra" / "deploy"


def found_by_others(kind: str, given: Any) -> list[str]:
    """What the tools of tests/deploy_checks.py find wrong; empty where all is well."""
    said = subprocess.run(
        [environment("deploy"), ROOT / "tests" / "deploy_checks.py", kind],
        input=json.dumps(given, default=str), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr[-2000:]
    wrong: list[str] = json.loads(said.stdout)
    return wrong
