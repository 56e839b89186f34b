"""The Faust application, with everything switched off that was measured to lose or leak records."""

import ssl
import tempfile
from pathlib import Path
from typing import Any

import faust

from streams.delivery import Buffer, Frontiers, FrontierTransport
from streams.settings import Settings

HEADROOM = 1 << 20  # headers and framing beyond the largest record


class App(faust.App):
    """A Faust app that knows the frontier of every partition it holds."""

    frontiers: Frontiers

    def FlowControlQueue(self, maxsize: int | None = None, *, clear_on_resume: bool = False) -> Buffer:  # noqa: N802 -- Faust's name
        """The buffer between the consumer and an agent."""
        return Buffer(maxsize=maxsize, flow_control=self.flow_control, clear_on_resume=clear_on_resume)


def create_app(settings: Settings, *, ssl_context: ssl.SSLContext | None = None, **given: Any) -> App:
    """An app without agents; nothing is connected yet. Topics are raw bytes, decoding is the agents' business."""
    session = settings.seconds("session_timeout")
    app = App(
        settings.group,
        broker=[f"kafka://{address.strip()}" for address in settings.broker.split(",")],
        broker_credentials=ssl_context,
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
    app.frontiers = {}
    app.transport = FrontierTransport(app.conf.broker_consumer, app)
    return app
