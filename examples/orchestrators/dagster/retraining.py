"""Dagster: one run for each retrain trigger. `STORE` and `BROKERS` say where event store and broker are."""

import json
import os
import subprocess
from typing import Any

import dagster as dg
import psycopg
from bestbefore_client.triggers import LIFECYCLE, RETRAINED, STARTED, answer, open_triggers, read_trigger
from kafka import KafkaProducer

ACTIONS = ("retrain",)  # of recalibrate, fix-pipeline, roll-back and review nothing is started here


class Asked(dg.Config):
    """A trigger, as it stands in the store."""

    trigger: dict[str, Any]


@dg.op(retry_policy=dg.RetryPolicy(max_retries=2, delay=60))
def train(config: Asked) -> dict[str, Any]:
    """Your training goes here; this one runs the program TRAIN, which prints the version that it has made."""
    trigger = read_trigger(config.trigger)
    tell(config.trigger, STARTED)
    env = {**os.environ, "MODEL": trigger.model, "VERSION": trigger.version, "TRIGGER_ID": trigger.trigger_id}
    done = subprocess.run([os.environ["TRAIN"]], env=env, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return {"trigger": config.trigger, "version": done.stdout.strip()}


@dg.op(retry_policy=dg.RetryPolicy(max_retries=10, delay=30))
def close_the_loop(context: dg.OpExecutionContext, made: dict[str, Any]) -> None:
    """Tell the pipeline which version came of it; a step of its own, so that a retry does not train again."""
    tell(made["trigger"], RETRAINED, made["version"])
    context.add_output_metadata({"version": made["version"]})


@dg.job(executor_def=dg.in_process_executor)
def retraining() -> None:
    """What one trigger sets off."""
    close_the_loop(train())


@dg.sensor(job=retraining, minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def retrain_triggers(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Ask for a run of each open trigger.

    What is open is the catch-up query: nothing is missed while the daemon is away. The run key makes Dagster launch
    once for each trigger, whatever became of the cursor, which only spares it the asking.
    """
    asked = set(json.loads(context.cursor or "[]"))
    with psycopg.connect(os.environ["STORE"]) as connection:
        triggers = [found for found in open_triggers(connection) if found.action in ACTIONS]
    requests = [
        dg.RunRequest(
            run_key=trigger.trigger_id,
            run_config=dg.RunConfig(ops={"train": Asked(trigger=dict(trigger.body))}),
            tags={"trigger_id": trigger.trigger_id, "model": trigger.model, "retrain_by": trigger.retrain_by},
        )
        for trigger in triggers
        if trigger.trigger_id not in asked
    ]
    return dg.SensorResult(requests, cursor=json.dumps([trigger.trigger_id for trigger in triggers]))


def tell(trigger: dict[str, Any], kind: str, version: str = "") -> None:
    """Answer a trigger on the topic `lifecycle`; the same answer told again counts once."""
    key, value, _ = answer(read_trigger(trigger), kind, version)
    producer = KafkaProducer(bootstrap_servers=os.environ["BROKERS"], acks="all")
    producer.send(os.environ.get("PREFIX", "bestbefore.") + LIFECYCLE, key=key, value=value).get(timeout=60)
    producer.close()


defs = dg.Definitions(jobs=[retraining], sensors=[retrain_triggers])
