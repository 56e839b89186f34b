"""What the bridge answers: events and log records in, and the pages `/live`, `/ready`, `/metrics`."""

import asyncio
import base64
import binascii
import hmac
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from infra.bridge_bodies import body_of
from streams.bridge.buffer import Ack, Buffer
from streams.bridge.http_events import KEPT, decode_request
from streams.bridge.log_events import event_of, line_of
from streams.bridge.message import Message, Outgoing
from streams.bridge.metrics import BridgeMetrics
from streams.bridge.otlp import Log, decode_logs, encode_answer
from streams.bridge.routing import Router, Target
from streams.errors import BadRecord, Refusal
from streams.services import Service
from streams.settings import Settings

log = logging.getLogger(__name__)
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
AWAY_RETRY, NEXT = 10, 200  # seconds; records that are checked before others get their turn
_EXPECTED = (429, 503, 504)  # the metrics tell how often; what else is refused has to be mended at the sender
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HELP = """\
bestbefore bridge
  POST /              events for the topic {topic}: CloudEvents (binary, structured, batch), JSON, lines of JSON
  POST /topics/NAME   the same for another topic: inference, labels, lifecycle, or one of sources.yaml
  POST /v1/logs       OTLP logs, protobuf or JSON; also /topics/NAME/v1/logs
  GET  /live /ready /metrics
202: taken, and held in memory until the broker has it. With ?wait=ack 200 comes once the broker has acknowledged.
"""


class Pages:
    """The handlers of one bridge; `topics` tells those that the broker has, None where it has not told."""

    def __init__(
        self, settings: Settings, router: Router, buffer: Buffer, broker: Service, metrics: BridgeMetrics,
        topics: Callable[[], frozenset[str] | None],
    ) -> None:  # fmt: skip
        self._settings, self._router, self._buffer = settings, router, buffer
        self._broker, self._metrics, self._topics = broker, metrics, topics
        self._kept = KEPT | {name.lower() for name in settings.bridge_headers}
        self.stopping = False
        self.seen: Callable[[web.Request], None] = lambda _: None  # told of every request

    def app(self) -> web.Application:
        """The application of aiohttp."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.seen(request)
            return await self._guard(request, handler)

        app = web.Application(middlewares=[guard])
        add = app.router.add_route
        for path in ("/", "/topics/{topic}"):
            add("POST", path, self._events)
        for path in ("/v1/logs", "/topics/{topic}/v1/logs"):
            add("POST", path, self._logs)
        pages = {"/": self._help, "/live": self._live, "/ready": self._ready, "/metrics": self._shown}
        for path, page in pages.items():
            add("GET", path, page)
        return app

    # -- around every request --------------------------------------------------------------------------------

    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Who may, and what is said of a refusal; every answer is counted."""
        try:
            answer = await handler(request) if self._may(request) else _unknown_sender()
        except Refusal as refusal:
            self._metrics.refused(refusal.reason)
            if refusal.status not in _EXPECTED:
                log.warning("a request to %r is refused (%d): %s", request.path[:200], refusal.status, refusal)
            answer = web.Response(status=refusal.status, text=f"{refusal}\n")
            if refusal.retry_after is not None:
                answer.headers["Retry-After"] = str(refusal.retry_after)
        except web.HTTPException as error:
            answer = web.Response(status=error.status, text=f"{error.status}: {error.reason}\n{self._help_text()}")
        if answer.status >= 400 and not request.content.at_eof():
            answer.force_close()  # what was not read of the body would be taken for the next request
        resource = request.match_info.route.resource
        self._metrics.answered(resource.canonical if resource is not None else "other", answer.status)
        return answer

    def _may(self, request: web.Request) -> bool:
        token = self._settings.bridge_token
        return not token or request.path in ("/live", "/ready") or hmac.compare_digest(_given(request), token.encode())

    # -- events ----------------------------------------------------------------------------------------------

    async def _events(self, request: web.Request) -> web.Response:
        target = self._target(request)
        self._room()
        wait = self._wait(request)
        body = await body_of(request, self._buffer, self._settings.bridge_max_body_bytes)
        try:
            kind = request.headers.get("content-type", "")
            messages = decode_request(kind, request.headers.items(), body, self._kept)
            ack = self._buffer.put(await self._checked(target, messages))
        finally:
            self._buffer.release(len(body))
        self._metrics.taken(target.topic, len(messages))
        if wait is None:
            return web.json_response({"taken": len(messages)}, status=202)
        await self._acknowledged(ack, wait)
        return web.json_response({"delivered": len(messages)}, headers={"Preference-Applied": "wait"})

    async def _checked(self, target: Target, messages: list[Message]) -> list[Outgoing]:
        if len(messages) == 1:
            return self._router.outgoing(target, messages)
        made: list[Outgoing] = []
        for start in range(0, len(messages), NEXT):
            made += self._router.outgoing(target, messages[start : start + NEXT], start)
            await asyncio.sleep(0)
        return made

    def _target(self, request: web.Request) -> Target:
        return self._existing(request.match_info.get("topic") or self._settings.bridge_topic)

    def _existing(self, name: str) -> Target:
        target = self._router.target(name)
        known = self._topics()
        if known is not None and target.topic not in known:
            own = target.source is None
            todo = "run `bestbefore topics create`" if own else "make it, with the broker's own tools"
            raise Refusal(404, "no_topic", f"the broker has no topic {target.topic!r}; {todo}")
        return target

    def _room(self) -> None:
        """Refuse before a body is read, where it would be in vain."""
        if self.stopping:
            raise Refusal(503, "stopping", "the bridge is stopping; send it again", 1)
        now = time.monotonic()
        away = 0.0 if self._broker.reachable(now) else time.time() - self._broker.since
        if away > self._settings.seconds("bridge_away_after"):
            raise _away(429, f"the broker has not answered for {away:.0f} s")

    # -- acknowledgement -------------------------------------------------------------------------------------

    def _wait(self, request: web.Request) -> float | None:
        """Seconds that the sender waits for the broker; None where it does not."""
        most, prefer = self._settings.seconds("bridge_ack_timeout"), request.headers.get("Prefer", "")
        asked = request.query.get("wait") == "ack"
        for preference in prefer.lower().split(","):
            name, _, seconds = preference.partition(";")[0].strip().partition("=")
            if name.strip() == "wait":
                asked, text = True, seconds.strip()
                most = min(most, float(text)) if text.isascii() and text.isdigit() and len(text) < 6 else most
        if asked and not self._broker.reachable(time.monotonic()):
            raise _away(503, "the broker does not answer")
        return most if asked else None

    async def _acknowledged(self, ack: Ack, patience: float) -> None:
        try:
            await asyncio.wait_for(ack.done.wait(), patience)
        except TimeoutError:
            raise Refusal(
                504, "no_ack",
                f"the broker did not acknowledge within {patience:g} s. The records wait in memory and may still be "
                "delivered: sent again, they may come twice, so keep their ids", AWAY_RETRY,
            ) from None  # fmt: skip
        if ack.failed:
            told = f"the broker does not take these records ({ack.failed}); the log of the bridge says why"
            raise Refusal(503, ack.failed, told)

    # -- logs ------------------------------------------------------------------------------------------------

    async def _logs(self, request: web.Request) -> web.Response:
        target = self._target(request) if "topic" in request.match_info else None
        self._room()
        wait = self._wait(request)
        kind = request.headers.get("content-type", "")
        body = await body_of(request, self._buffer, self._settings.bridge_max_body_bytes)
        try:
            logs = decode_logs(body, kind)
            records, ignored, problems = await self._of_logs(logs, target if target and target.source else None)
            ack = self._buffer.put(records)
        finally:
            self._buffer.release(len(body))
        for record in records:
            self._metrics.taken(record.topic, 1)
        self._metrics.left_out("no_event", ignored)
        self._metrics.left_out("bad_record", len(problems))
        if wait is not None:
            await self._acknowledged(ack, wait)
        answer = encode_answer(kind, len(problems), _told(len(logs), ignored, problems))
        return web.Response(body=answer, headers={"Content-Type": kind.partition(";")[0].strip()})

    async def _of_logs(self, logs: list[Log], target: Target | None) -> tuple[list[Outgoing], int, list[str]]:
        """The records, how many logs are no events, and what is wrong with those that cannot be read."""
        made: list[Outgoing] = []
        ignored, problems = 0, []
        for number, one in enumerate(logs):
            if number % NEXT == NEXT - 1:
                await asyncio.sleep(0)
            try:
                found = (target, line_of(one)) if target is not None else self._of_log(one)
                if found is None:
                    ignored += 1
                else:
                    made += self._router.outgoing(found[0], [found[1]])
            except (BadRecord, Refusal) as error:
                problems.append(f"log record {number}: {error}")
        return made, ignored, problems

    def _of_log(self, one: Log) -> tuple[Target, Message] | None:
        found = event_of(one)
        return None if found is None else (self._existing(found[0]), found[1])

    # -- pages -----------------------------------------------------------------------------------------------

    def _help_text(self) -> str:
        return HELP.format(topic=self._settings.bridge_topic)

    async def _help(self, request: web.Request) -> web.Response:  # noqa: ARG002 -- a page
        return web.Response(text=self._help_text())

    async def _live(self, request: web.Request) -> web.Response:  # noqa: ARG002 -- a page
        return web.Response(text="live\n")

    async def _ready(self, request: web.Request) -> web.Response:  # noqa: ARG002 -- a page
        reason = "stopping" if self.stopping else "full" if self._buffer.full else ""
        if not self._broker.reachable(time.monotonic()) or self._topics() is None:
            reason = "waiting for broker"
        return web.Response(status=503 if reason else 200, text=f"{reason or 'ready'}\n")

    async def _shown(self, request: web.Request) -> web.Response:  # noqa: ARG002 -- a page
        return web.Response(body=self._metrics.text(), headers={"Content-Type": METRICS_TYPE})


def _given(request: web.Request) -> bytes:
    """The token of a request: of `Bearer`, or the password of `Basic`, which is what a URL with a user sends."""
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return rest.strip().encode("utf-8", "surrogateescape") if scheme.lower() == "bearer" else b""


def _away(status: int, why: str) -> Refusal:
    return Refusal(status, "broker_away", f"{why}; nothing was taken, send it again later", AWAY_RETRY)


def _unknown_sender() -> web.Response:
    told = (
        "this bridge asks for its token: the header `Authorization: Bearer …`, or the URL http://x:TOKEN@host:port/\n"
    )
    return web.Response(status=401, text=told, headers={"WWW-Authenticate": "Bearer"})


def _told(n: int, ignored: int, problems: list[str]) -> str:
    """What is said to the sender of logs; empty where all became events."""
    parts = []
    if problems:
        parts.append(f"{len(problems)} of {n} log records cannot be read; {problems[0][:500]}")
    if ignored:
        parts.append(f"{ignored} of {n} log records are no events of bestbefore or gen_ai and were left out")
    return "; ".join(parts)
