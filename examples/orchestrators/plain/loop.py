"""Retrain whenever a model's best-before date asks for it: no orchestrator, one process.

BROKERS=localhost:9092 STORE=postgresql://reader@localhost/bestbefore python loop.py
"""

import os
import subprocess

import psycopg
from bestbefore_client.acting import Actor
from bestbefore_client.triggers import Trigger, open_triggers

TRAIN = os.environ.get("TRAIN", "./train.sh")  # prints the version that it made


def retrain(trigger: Trigger) -> str:
    """Your training, as a program of its own; it finds the trigger's id in its environment and may go on by it."""
    given = {"MODEL": trigger.model, "VERSION": trigger.version, "TRIGGER_ID": trigger.trigger_id}
    done = subprocess.run([TRAIN], env={**os.environ, **given}, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return done.stdout.strip()


def missed() -> list[Trigger]:
    """What is open, from the event store; a role that may only read is enough."""
    with psycopg.connect(os.environ["STORE"]) as connection:
        return open_triggers(connection)


if __name__ == "__main__":
    Actor(
        os.environ["BROKERS"], retrain, missed=missed, runs=os.environ.get("RUNS", "runs"),
        prefix=os.environ.get("PREFIX", "bestbefore."), group=os.environ.get("GROUP", "retraining"),
    ).run()  # fmt: skip
