"""The manifests for Argo: valid by Argo's own schemas, and right for a real trigger, which no cluster is needed for.

tests/data/argo holds the definitions that these manifests touch, of the JSON schemas of Argo Events 1.9.6 and Argo
Workflows 3.6.10 (Apache License 2.0).
"""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from infra.cli import main
from tests.faults.crew import ROOT
from tests.faults.topic import read_topic
from tests.orchestrators.rig import Pipeline

FOLDER = ROOT / "examples" / "orchestrators" / "argo"
SCHEMAS = [json.loads(path.read_text()) for path in sorted((ROOT / "tests" / "data" / "argo").glob("*.json"))]
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")  # of a Kubernetes object, and at most 63 characters for a label
Tree = dict[str, Any]


def manifest(name: str) -> Tree:
    tree: Tree = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return tree


def problems(tree: Tree) -> list[str]:
    """What Argo's schema of its kind says against it; fields that it does not know included."""
    (found,) = [schema for schema in SCHEMAS if tree["kind"] in schema["kinds"]]
    schema = {
        "$ref": f"#/definitions/{found['kinds'][tree['kind']]}",
        "definitions": {name: closed(part) for name, part in found["definitions"].items()},
    }
    return [f"{error.json_path}: {error.message}" for error in jsonschema.Draft7Validator(schema).iter_errors(tree)]


def closed(part: Tree) -> Tree:
    """A definition that admits no other properties than its own."""
    return {**part, "additionalProperties": False} if "properties" in part else part


@pytest.mark.parametrize("name", ["eventsource", "sensor", "workflow", "catch-up"])
def test_manifests_are_as_argo_wants_them(name: str) -> None:
    assert problems(manifest(name)) == []


def test_workflows_within_manifests_are_too_and_a_slip_is_seen() -> None:
    assert problems(within_sensor()) == []
    assert problems(within_catch_up({"trigger_id": "t", "model_name": "m", "model_version": "v"})) == []
    slip = manifest("eventsource")
    slip["spec"]["kafka"]["retrain-triggers"]["consumergroup"] = {}
    assert "consumergroup" in str(problems(slip))


def within_sensor() -> Tree:
    tree: Tree = manifest("sensor")["spec"]["triggers"][0]["template"]["k8s"]["source"]["resource"]
    return tree


def within_catch_up(trigger: Tree) -> Tree:
    """The workflow that the catch-up makes for a line of `bestbefore triggers --open`."""
    main_template, _, start = manifest("catch-up")["spec"]["workflowSpec"]["templates"]
    given = main_template["steps"][1][0]["arguments"]["parameters"]
    values = {p["name"]: trigger[p["value"].removeprefix("{{item.").removesuffix("}}")] for p in given}
    text = start["resource"]["manifest"]
    for name, value in values.items():
        text = text.replace(f"{{{{inputs.parameters.{name}}}}}", value)
    tree: Tree = yaml.safe_load(text)
    return tree


def event(record: Any) -> Tree:
    """What Argo's Kafka event source makes of a record with `jsonBody: true`."""
    return {
        "topic": record.topic, "key": record.key.decode(), "partition": record.partition,
        "headers": {name: value.decode() for name, value in record.headers}, "body": json.loads(record.value),
    }  # fmt: skip


def at(tree: Any, path: str) -> Any:
    """The value under a dotted path, as gjson and sjson understand one without other signs."""
    assert re.fullmatch(r"[\w.]+", path), path
    for part in path.split("."):
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    return tree


def passes(told: Tree) -> bool:
    """Whether the sensor's filter lets an event through: its values are regular expressions."""
    (dependency,) = manifest("sensor")["spec"]["dependencies"]
    return all(
        any(re.search(value, at(told, f["path"])) for value in f["value"]) for f in dependency["filters"]["data"]
    )


def made(told: Tree) -> Tree:
    """The workflow that the sensor makes of an event."""
    tree = within_sensor()
    for parameter in manifest("sensor")["spec"]["triggers"][0]["template"]["k8s"]["parameters"]:
        value = at(told, parameter["src"]["dataKey"])
        place, _, last = parameter["dest"].rpartition(".")
        holder = at(tree, place)
        holder[last] = (holder[last] if parameter.get("operation") == "append" else "") + value
    return tree


def test_a_real_trigger_makes_one_workflow_and_its_steps_close_the_loop(running: Pipeline) -> None:
    trigger = running.trigger("loan", "3")
    running.repeat(trigger)
    first, again = [event(record) for record in read_topic(running.broker, running.topic)]
    source = manifest("eventsource")["spec"]["kafka"]["retrain-triggers"]
    assert first["topic"] == source["topic"].replace("bestbefore.", running.prefix)
    assert passes(first)
    assert not passes({**first, "body": {**first["body"], "action": "fix-pipeline"}})
    workflow = made(first)
    assert workflow == made(again), "of one name, so Kubernetes makes one"
    assert problems(workflow) == []
    assert workflow["metadata"]["name"] == f"retrain-{trigger.trigger_id}"
    assert NAME.fullmatch(workflow["metadata"]["name"])
    assert len(workflow["metadata"]["name"]) <= 63
    shown = command(running, "triggers", "--open", "--format", "json")
    (line,) = json.loads(shown)
    assert line["action"] == "retrain"
    assert within_catch_up(line) == workflow, "what was missed gets the workflow it would have had"

    given = {f"workflow.parameters.{p['name']}": p["value"] for p in workflow["spec"]["arguments"]["parameters"]}
    told = [command(running, *step) for step in steps({**given, "steps.train.outputs.parameters.version": "4"})]
    assert told == [
        f"{kind}: sent as {trigger.trigger_id}/{kind.split()[0]}/{kind[-1]}\n"
        for kind in ("retraining-started loan 3", "retrained loan 4")
    ]
    assert running.answered(trigger) == ["retraining-started", "retrained"]
    assert json.loads(command(running, "triggers", "--open", "--format", "json")) == []


def steps(values: dict[str, str]) -> list[list[str]]:
    """The commands of the workflow's steps that tell something."""
    main_template, _, tell = manifest("workflow")["spec"]["templates"]
    found = []
    for (step,) in main_template["steps"]:
        if step["template"] == "tell":
            own = {f"inputs.parameters.{p['name']}": p["value"] for p in step["arguments"]["parameters"]}
            found.append([filled(filled(text, own), values) for text in tell["container"]["args"]])
    return found


def filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def command(running: Pipeline, *arguments: str) -> str:
    """The command of the container, with the settings that its environment brings."""
    env = {"BESTBEFORE_TOPIC_PREFIX": running.prefix, "BESTBEFORE_BROKER": running.broker}
    done = CliRunner(env={**env, "BESTBEFORE_STORE": running.settings.store}).invoke(main, [*arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_licence_of_the_schemas_lies_beside_them() -> None:
    assert "Apache License" in (Path(__file__).parents[1] / "data" / "argo" / "LICENSE").read_text()
