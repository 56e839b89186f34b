"""The Faust application, with everything switched off that was measured to lose or leak records."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import faust
from faust.types import TP

from streams.chunks import Buffer
from streams.connection import faust_credentials
from streams.delivery import Frontiers, FrontierTransport, unnoticed
from streams.security import brokers
from streams.settings import Settings

HEADROOM = 1 << 20  # headers and framing beyond the largest record


class App(faust.App):
    """A Faust app that knows the frontier of every partition it holds."""

    frontiers: Frontiers
    subscribed: Callable[[Iterable[str]], str | None]  # a pattern for topics that agents name, and others of theirs
    adopt: Callable[[set[TP]], None]  # called with the partitions that are about to be read
    on_commit: Callable[[bool], None]  # called with whether the broker took a commit
    on_lost: Callable[[str, int], None]  # called with a topic, and how many of its records were deleted unread

    def FlowControlQueue(self, maxsize: int | None = None, *, clear_on_resume: bool = False) -> Buffer:  # noqa: N802 -- Faust's name
        """The buffer between the consumer and an agent."""
        return Buffer(maxsize=maxsize, flow_control=self.flow_control, clear_on_resume=clear_on_resume)


def no_pattern(_: Iterable[str]) -> None:
    """Only the topics that agents name are read."""


def create_app(settings: Settings, **given: Any) -> App:
    """An app without agents; nothing is connected yet. Topics are raw bytes, decoding is the agents' business.

    Raises SettingsError, as `streams.connection.tls_context`.
    """
    session = settings.seconds("session_timeout")
    app = App(
        settings.group,
        broker=[f"kafka://{address}" for address in brokers(settings)],
        broker_credentials=faust_credentials(settings),
        key_serializer="raw",
        value_serializer="raw",
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        stream_buffer_maxsize=settings.buffer_records,
        broker_commit_interval=settings.seconds("commit_every"),
        broker_session_timeout=session,
        broker_heartbeat_interval=max(session / 5, 0.5),
        broker_request_timeout=2 * session,
        broker_rebalance_timeout=2 * session,
        broker_max_poll_interval=300.0,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=max(8 << 20, settings.max_record_bytes + HEADROOM),
        producer_max_request_size=settings.max_record_bytes + HEADROOM,
        # As long as a record is waited for that a silent broker, or a dead connection, will never acknowledge.
        producer_request_timeout=10.0,
        producer_linger=0.005,
        worker_redirect_stdouts=False,
        web_enabled=False,
        autodiscover=False,
        # Faust makes this folder even without tables; nothing is kept there.
        datadir=str(Path(tempfile.gettempdir()) / f"bestbefore-{settings.group}"),
        **given,
    )
    app.subscribed, app.adopt = no_pattern, unnoticed
    app.frontiers, app.on_commit, app.on_lost = {}, unnoticed, unnoticed
    app.transport = FrontierTransport(app.conf.broker_consumer, app)
    return app
