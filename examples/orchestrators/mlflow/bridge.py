"""MLflow: the registry shows best-before dates, and its webhooks tell the pipeline what was made and deployed.

A webhook only wakes the bridge, which then looks at the registry itself: deliveries that were lost, repeated, late or
out of order change nothing. What was told already stands in the registry, as tags.
"""

import base64
import hashlib
import hmac
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
from bestbefore_client.triggers import DEPLOYED, LIFECYCLE, RETRAINED, Trigger, answer, open_triggers
from kafka import KafkaProducer
from kafka.errors import KafkaError
from mlflow import MlflowClient, MlflowException

log = logging.getLogger("bridge")
ALIAS = os.environ.get("ALIAS", "production")  # the version that carries it is the one deployed
EVERY_S = float(os.environ.get("EVERY_S", "60"))  # between looks at store and registry, without a webhook
EVENTS = ["model_version.created", "model_version_alias.created"]
DEPLOYED_TAG, UNTOLD = "bestbefore.deployed", ", not told yet"
MAX_BYTES, TOLERANCE_S = 100_000, 300
STATUS = "SELECT model, version, body FROM v_status WHERE segment = ''"  # of the whole traffic


def genuine(secret: bytes, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether MLflow has signed this delivery, with our secret, within the last minutes."""
    name, at = headers.get("X-MLflow-Delivery-Id", ""), headers.get("X-MLflow-Timestamp", "")
    signed = hmac.new(secret, f"{name}.{at}.".encode() + body, hashlib.sha256).digest()
    expected = f"v1,{base64.b64encode(signed).decode()}"
    fresh = at.isascii() and at.isdigit() and abs(now - int(at[:12])) <= TOLERANCE_S
    return hmac.compare_digest(expected.encode(), headers.get("X-MLflow-Signature", "").encode()) and fresh


class Webhook(BaseHTTPRequestHandler):
    """Answers MLflow at once."""

    timeout = 10
    secret: bytes
    woken: threading.Event

    def do_POST(self) -> None:
        """Wake the bridge, if the delivery is genuine."""
        size = self.headers.get("Content-Length", "")
        if not size.isdigit() or int(size) > MAX_BYTES:
            return self.send_error(413)
        if not genuine(self.secret, self.headers, self.rfile.read(int(size)), time.time()):
            return self.send_error(401, "not signed with the secret of this webhook")
        self.woken.set()
        self.send_response(204)
        return self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- as http.server calls it
        """Not to stderr, as http.server would."""
        log.debug(format, *args)


class Bridge:
    """The registry on one side, the pipeline on the other."""

    def __init__(self, registry: MlflowClient) -> None:
        self.registry = registry

    def look(self) -> None:
        """Bring both sides to what the other knows. Done again, it changes nothing."""
        with psycopg.connect(os.environ["STORE"]) as connection:
            asked = open_triggers(connection)
            status = {(model, version): body for model, version, body in connection.execute(STATUS)}
        models = {model for model, _ in status}
        versions = [v for v in pages(self.registry.search_model_versions) if v.name in models]
        for found in versions:
            self.show(found, status.get((found.name, str(found.version))), asked)
        for model in (m for m in pages(self.registry.search_registered_models) if m.name in models):
            self.tell_made(model, [v for v in versions if v.name == model.name], asked)
            self.tell_deployed(model)

    def show(self, found: Any, status: dict[str, Any] | None, asked: list[Trigger]) -> None:
        """Tags of a version, for whoever looks at the registry."""
        wanted = tags(status, [t for t in asked if (t.model, t.version) == (found.name, str(found.version))])
        for key, value in wanted.items():
            if value and found.tags.get(key) != value:
                self.registry.set_model_version_tag(found.name, found.version, key, value)
            elif not value and key in found.tags:
                self.registry.delete_model_version_tag(found.name, found.version, key)

    def tell_made(self, model: Any, versions: list[Any], asked: list[Trigger]) -> None:
        """`retrained`, for each version that is newer than the one deployed; it answers the trigger that is open."""
        if ALIAS not in model.aliases:
            return
        for made in versions:
            if int(made.version) <= int(model.aliases[ALIAS]) or "bestbefore.told" in made.tags:
                continue
            at = datetime.fromtimestamp(made.creation_timestamp / 1000, UTC)
            cause = next((t for t in asked if (t.model, t.action) == (model.name, "retrain")), None)
            if cause is not None and datetime.fromisoformat(cause.created_at) <= at:
                key, value, name = answer(cause, RETRAINED, str(made.version), time=at)
            else:
                name = f"mlflow/{model.name}/{made.version}/{made.creation_timestamp}"[:200]
                key, value = event(name, RETRAINED, model.name, str(made.version), at)
            send(key, value)
            self.registry.set_model_version_tag(model.name, made.version, "bestbefore.told", name)

    def tell_deployed(self, model: Any) -> None:
        """`deployed`, when the alias has moved on; `rolled-back`, when it has moved back.

        Where it stands when the bridge first looks is `promoted`: what is known of that version is kept. A move is
        noted before and after it is told: whenever we are killed, it is told with the same id, and none is missed.
        """
        noted = model.tags.get(DEPLOYED_TAG, "")
        if noted.endswith(UNTOLD):
            noted = self.tell_move(model.name, noted.removesuffix(UNTOLD))
        version, fields = str(model.aliases.get(ALIAS, "")), noted.split()
        previous, number = (fields[0], int(fields[-1]) + 1) if fields else ("-", 1)
        if version not in ("", previous):
            move = f"{version} since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} after {previous} as move {number}"
            self.registry.set_registered_model_tag(model.name, DEPLOYED_TAG, move + UNTOLD)
            self.tell_move(model.name, move)

    def tell_move(self, model: str, move: str) -> str:
        """Tell what the note of a move says. Two bridges that see the same move give it the same id."""
        version, _, at, _, previous, *_, number = move.split()
        first, back = previous == "-", previous != "-" and int(version) < int(previous)
        kind = "promoted" if first else "rolled-back" if back else DEPLOYED
        name = f"mlflow/{uuid.uuid5(uuid.NAMESPACE_URL, f'{model}/{number}/{version}')}"
        send(*event(name, kind, model, version, datetime.fromisoformat(at), "" if first else previous))
        self.registry.set_registered_model_tag(model, DEPLOYED_TAG, move)
        return move


def tags(status: dict[str, Any] | None, asked: list[Trigger]) -> dict[str, str]:
    """What is shown of a version; empty values are removed. MLflow cuts long names, so the first is short."""
    quality, forecast = (status or {}).get("quality") or {}, (status or {}).get("forecast") or {}
    measured = "{metric} {estimate:.3f} [{low:.3f}, {high:.3f}] {basis}"
    unknown = "beyond the horizon" if forecast.get("censored") else f"unknown: {forecast.get('reason')}"
    first = asked[0] if asked else None
    return {
        "bestbefore": (forecast.get("best_before") or unknown) if forecast else "",
        "bestbefore.good_until_90": forecast.get("low") or "",
        "bestbefore.quality": measured.format(**quality) if quality.get("estimate") is not None else "",
        "bestbefore.asked": f"{first.action} by {first.retrain_by}" if first else "",
        "bestbefore.trigger": first.trigger_id if first else "",
    }


def event(name: str, kind: str, model: str, version: str, at: datetime, previous: str = "") -> tuple[bytes, bytes]:
    """A lifecycle event: key and value of the record."""
    told = {"id": name, "time": at.isoformat(), "kind": kind, "model": model, "version": version, "previous": previous}
    return model.encode(), json.dumps(told).encode()


def send(key: bytes, value: bytes) -> None:
    """Tell the pipeline; returns once the broker has it."""
    producer = KafkaProducer(bootstrap_servers=os.environ["BROKERS"], acks="all")
    try:
        producer.send(os.environ.get("PREFIX", "bestbefore.") + LIFECYCLE, key=key, value=value).get(timeout=60)
        log.info("told: %s", value.decode())
    finally:
        producer.close()


def pages(search: Any) -> Iterator[Any]:
    """Everything that the registry finds."""
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        if not (token := page.token):
            return


def subscribe(registry: MlflowClient, url: str, secret: str) -> None:
    """Make the webhook in MLflow, or give the one that is there our secret."""
    found = next((webhook for webhook in pages(registry.list_webhooks) if webhook.url == url), None)
    if found is None:
        registry.create_webhook("bestbefore", url, EVENTS, description="tells best-before dates", secret=secret)
    else:
        registry.update_webhook(found.webhook_id, secret=secret)


def main() -> None:
    """Serve until killed; began again, it catches up."""
    registry, secret = MlflowClient(), os.environ["WEBHOOK_SECRET"]
    Webhook.secret, Webhook.woken = secret.encode(), threading.Event()
    listener = ThreadingHTTPServer((os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8090"))), Webhook)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    bridge, subscribed = Bridge(registry), False
    while True:
        Webhook.woken.clear()
        try:
            if not subscribed:
                subscribe(registry, os.environ["WEBHOOK_URL"], secret)
                subscribed = True
            bridge.look()
        except (psycopg.OperationalError, MlflowException, KafkaError) as error:
            log.warning("will try again: %s", error)
        Webhook.woken.wait(EVERY_S)


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
    log.setLevel(logging.INFO)
    main()
