"""Airflow 3 retrains whenever a model's best-before date asks for it, once for each trigger.

A message on the topic is the doorbell, the event store says who is at the door. So a message that comes twice starts
nothing twice, and one that was lost, or came while Airflow was down, is found with the next ring, ten minutes later at
the latest.
"""

import os
from contextlib import closing
from typing import Any

from airflow.providers.apache.kafka.operators.produce import ProduceToTopicOperator
from airflow.providers.apache.kafka.triggers.msg_queue import KafkaMessageQueueTrigger
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, AssetWatcher, CronTriggerTimetable, task
from bestbefore_client.triggers import open_triggers

PREFIX = os.environ.get("BESTBEFORE_TOPIC_PREFIX", "bestbefore.")
TRAIN = os.environ.get("BESTBEFORE_TRAIN", "train.sh")  # its last line is the version that it made

doorbell = Asset(
    "bestbefore-retrain-triggers",
    watchers=[
        AssetWatcher(
            name="bestbefore",
            trigger=KafkaMessageQueueTrigger(
                topics=[f"{PREFIX}retrain-triggers"],
                kafka_config_id="bestbefore",
                apply_function="bestbefore_client.triggers.payload",
            ),
        )
    ],
)

with DAG(
    "bestbefore_triggers",
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("*/10 * * * *", timezone="UTC"), assets=[doorbell]),
    catchup=False,
    max_active_runs=1,
):

    @task
    def waiting() -> list[dict[str, Any]]:
        """One run for each open trigger, named after it."""
        with closing(PostgresHook("bestbefore_store").get_conn()) as connection:
            found = open_triggers(connection)
        return [{"trigger_run_id": t.trigger_id, "conf": dict(t.body)} for t in found if t.action == "retrain"]

    TriggerDagRunOperator.partial(
        task_id="start", trigger_dag_id="bestbefore_retrain", skip_when_already_exists=True
    ).expand_kwargs(waiting())


def answered(kind: str, version: str = "") -> ProduceToTopicOperator:
    """Tell the pipeline what became of the trigger."""
    return ProduceToTopicOperator(
        task_id=kind,
        kafka_config_id="bestbefore",
        topic=f"{PREFIX}lifecycle",
        producer_function="bestbefore_client.triggers.answers",
        producer_function_args=["{{ dag_run.conf | tojson }}", kind, version],
        retries=12,  # an answer that is never told leaves the trigger open
    )


with DAG("bestbefore_retrain", schedule=None, catchup=False):
    train = BashOperator(
        task_id="train",
        bash_command=TRAIN,
        env={
            "MODEL": "{{ dag_run.conf.model_name }}",
            "VERSION": "{{ dag_run.conf.model_version }}",
            "TRIGGER_ID": "{{ dag_run.conf.trigger_id }}",
        },
        append_env=True,
    )
    answered("retraining-started") >> train >> answered("retrained", "{{ ti.xcom_pull('train') }}")
