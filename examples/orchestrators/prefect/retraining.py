"""Prefect: one flow run for each retrain trigger. `STORE` and `BROKERS` say where event store and broker are."""

import asyncio
import logging
import os
import subprocess
from typing import Any

import httpx
import psycopg
from bestbefore_client.triggers import LIFECYCLE, RETRAINED, STARTED, Trigger, answer, open_triggers, read_trigger
from kafka import KafkaProducer
from prefect import aserve, flow, task
from prefect.deployments import arun_deployment

ACTIONS = ("retrain",)  # of recalibrate, fix-pipeline, roll-back and review nothing is started here
EVERY_S = 10


@task(retries=2, retry_delay_seconds=60)
def train(trigger: dict[str, Any]) -> str:
    """Your training goes here; this one runs the program TRAIN, which prints the version that it has made."""
    asked = read_trigger(trigger)
    env = {**os.environ, "MODEL": asked.model, "VERSION": asked.version, "TRIGGER_ID": asked.trigger_id}
    done = subprocess.run([os.environ["TRAIN"]], env=env, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return done.stdout.strip()


@task(retries=10, retry_delay_seconds=30)
def tell(trigger: dict[str, Any], kind: str, version: str = "") -> None:
    """Answer a trigger on the topic `lifecycle`; the same answer told again counts once."""
    key, value, _ = answer(read_trigger(trigger), kind, version)
    producer = KafkaProducer(bootstrap_servers=os.environ["BROKERS"], acks="all")
    producer.send(os.environ.get("PREFIX", "bestbefore.") + LIFECYCLE, key=key, value=value).get(timeout=60)
    producer.close()


@flow(flow_run_name="{trigger[model_name]} after {trigger[model_version]}")
def retrain(trigger: dict[str, Any]) -> str:
    """Train, and tell the pipeline which version came of it."""
    tell(trigger, STARTED)
    version = train(trigger)
    tell(trigger, RETRAINED, version)
    return version


def wanted() -> list[Trigger]:
    """What is open. That is the catch-up query, so nothing is missed while this process is away."""
    with psycopg.connect(os.environ["STORE"]) as connection:
        return [trigger for trigger in open_triggers(connection) if trigger.action in ACTIONS]


async def launch() -> None:
    """Ask for a run of each open trigger, over and over: the idempotency key makes Prefect's server start one."""
    while True:
        try:
            for trigger in await asyncio.to_thread(wanted):
                await arun_deployment(
                    "retrain/on-trigger", parameters={"trigger": dict(trigger.body)}, tags=[trigger.model],
                    idempotency_key=trigger.trigger_id, timeout=0, as_subflow=False,
                )  # fmt: skip
        except (psycopg.OperationalError, httpx.HTTPError) as error:
            logging.getLogger(__name__).warning("store or Prefect does not answer, will ask again: %s", error)
        await asyncio.sleep(EVERY_S)


async def main() -> None:
    """Serve the flow, and launch its runs."""
    deployment = await retrain.ato_deployment("on-trigger")
    await deployment.aapply()
    await asyncio.gather(aserve(deployment), launch())


if __name__ == "__main__":
    asyncio.run(main())
