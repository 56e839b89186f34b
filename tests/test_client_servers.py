"""What a web server and a decorated function record: through real servers, to a real broker."""

import asyncio
import doctest
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from bestbefore_client import Recorder, RecorderMiddleware, asgi, decorator, inference_id, note, noting, observed
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse

from tests.client_rig import NOWHERE, consumed, fresh_prefix, rows


class Heard(Recorder):
    """A recorder that keeps what it is told, instead of sending it."""

    def __init__(self) -> None:
        super().__init__(NOWHERE, model="m", version="1")
        self.told: list[dict[str, Any]] = []
        self.errors: list[BaseException] = []

    def record(self, id: str, **fields: Any) -> None:  # noqa: A002 -- the recorder's own word
        self.told.append({"id": id, **fields})

    def invalid(self, error: BaseException) -> None:
        self.errors.append(error)


def app_of(recorder: Recorder, **options: Any) -> FastAPI:
    """A server with every kind of handler."""
    app = FastAPI()
    app.add_middleware(RecorderMiddleware, recorder=recorder, **options)

    @app.post("/sync")
    def sync(body: dict[str, float]) -> dict[str, Any]:
        note(features=body, scores={"no": 0.25, "yes": 0.75})
        return {"id": inference_id(), "yes": 0.75}

    @app.post("/async")
    async def coroutine(body: dict[str, float]) -> dict[str, Any]:
        note(features=body)
        await asyncio.sleep(0)
        note(label="yes")
        return {"id": inference_id()}

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        await request.body()
        return {"scores": {"no": 0.5, "yes": 0.5}}

    @app.post("/refused")
    def refused() -> None:
        note(features={"age": 1.0})
        raise HTTPException(422, "no")

    @app.post("/broken")
    def broken() -> None:
        raise ZeroDivisionError

    @app.post("/streamed")
    def streamed() -> StreamingResponse:
        note(label="long")
        return StreamingResponse(iter([b"a" * 1000] * 5))

    @app.get("/health")
    def health() -> str:
        return "ok"

    return app


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextmanager
def served(app: FastAPI) -> Iterator[httpx.Client]:
    """The app in a real uvicorn on a port of its own; ended as a signal would end it."""
    door = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{door.getsockname()[1]}") as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        door.close()
        assert not thread.is_alive()


def test_each_request_that_says_what_it_inferred_is_recorded_under_its_id() -> None:
    heard = Heard()
    with served(app_of(heard)) as client:
        answer = client.post("/sync", json={"age": 41.0}, headers={"X-Request-Id": "r-81", "TraceParent": TRACE})
        assert (answer.json()["id"], answer.headers["x-request-id"]) == ("r-81", "r-81")
        other = client.post("/async", json={"age": 42.0}, headers={"traceparent": "none"})
        assert other.headers["x-request-id"] == other.json()["id"] != "r-81"
        assert client.get("/health").json() == "ok"
        assert client.post("/refused").status_code == 422
        assert client.post("/streamed").text == "a" * 5000
    told = heard.told
    assert [t["status"] for t in told] == [200, 200, 422, 200]
    assert (told[0]["id"], told[0]["features"], told[0]["scores"]) == ("r-81", {"age": 41.0}, {"no": 0.25, "yes": 0.75})
    assert (told[1]["id"], told[1]["features"], told[1]["label"]) == (other.json()["id"], {"age": 42.0}, "yes")
    assert [t.get("traceparent") for t in told] == [TRACE, None, None, None]
    assert told[2]["features"] == {"age": 1.0}
    assert all(0 < t["latency_ms"] < 60_000 for t in told)
    assert not heard.errors
    heard.record("after the end")
    assert heard.dropped == {}


def test_bodies_are_read_for_handlers_that_know_nothing_of_it() -> None:
    heard = Heard()

    def read(asked: Any, answered: Any) -> Mapping[str, Any] | None:
        return None if asked is None else {"features": asked["features"], "scores": answered["scores"]}

    paths = ["/predict", "/broken"]
    with served(app_of(heard, paths=paths, read=read, max_body=200)) as client:
        client.post("/predict", json={"features": {"age": 3}})
        client.post("/predict", json={"features": {"age": 3, "text": "x" * 300}})  # too long to be kept
        client.post("/predict", content=b"no JSON")
        client.post("/predict", json=["not as expected"])
        client.post("/sync", json={"age": 1.0})
        assert client.post("/broken").status_code == 500
    assert [(t.get("features"), t["status"]) for t in heard.told] == [
        ({"age": 3}, 200),
        ({"age": 1.0}, 200),
        (None, 500),
    ]
    assert heard.told[0]["scores"] == {"no": 0.5, "yes": 0.5}
    assert [type(error) for error in heard.errors] == [TypeError]


def test_bodies_of_all_requests_are_never_kept() -> None:
    with pytest.raises(ValueError, match="`read` needs `paths`"):
        RecorderMiddleware(app_of(Heard()), Heard(), read=lambda *_: None)


def test_whoever_hangs_up_is_no_failure_of_the_model() -> None:
    heard = Heard()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        note(label="late")
        await asyncio.sleep(60)

    async def call() -> None:
        scope = {"type": "http", "path": "/", "headers": []}
        task = asyncio.ensure_future(RecorderMiddleware(slow, heard)(scope, None, None))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(call())
    assert [t["status"] for t in heard.told] == [499]


def test_what_a_function_answers_is_read_by_its_looks() -> None:
    heard = Heard()

    @observed(heard, id="key")
    def by_name(features: dict[str, Any], key: str = "k") -> Any:
        return features["answer"]

    answers: list[Any] = [{"a": 0.5}, "a", 3, 0.5, None, [0.1]]
    assert [by_name({"answer": answer}, key=f"k-{i}") for i, answer in enumerate(answers)] == answers
    told = [{name: t[name] for name in ("scores", "label", "value") if name in t} for t in heard.told]
    assert told == [{"scores": {"a": 0.5}}, {"label": "a"}, {"label": 3}, {"value": 0.5}, {}]
    assert [t["id"] for t in heard.told] == ["k-0", "k-1", "k-2", "k-3", "k-4"]
    assert "an answer of type list says nothing by itself; give `read`" in str(heard.errors[0])


def test_a_function_keeps_its_answer_and_its_errors() -> None:
    heard = Heard()

    @observed(heard, read=lambda arguments, answer: {"label": answer[arguments["x"]]})
    def first(x: int, y: int = 2) -> Any:
        note(features={"x": x})
        return [x, 1 // x, y]

    assert first(1) == [1, 1, 2]
    assert first(9) == [9, 0, 2]  # `read` fails
    with pytest.raises(ZeroDivisionError):
        first(0)
    with pytest.raises(TypeError, match="missing 1 required"):
        first()  # type: ignore[call-arg]
    assert [(t["status"], t.get("label"), t.get("features")) for t in heard.told] == [
        (200, 1, {"x": 1}),
        (500, None, {"x": 0}),
        (500, None, None),
    ]
    assert [type(error) for error in heard.errors] == [IndexError]
    assert first.__name__ == "first"


def test_names_that_are_no_arguments_harm_neither_function_nor_request() -> None:
    recorder = Recorder(NOWHERE, model="m", version="1")

    @observed(recorder, read=lambda _, answer: {1: answer})  # type: ignore[dict-item]
    def first(x: int) -> int:
        return x

    @observed(recorder)
    def second(x: int) -> int:
        note(self=x)
        return x

    async def third(scope: Any, receive: Any, send: Any) -> None:
        note(self=3)

    assert (first(1), second(2)) == (1, 2)
    scope = {"type": "http", "path": "/", "headers": []}
    asyncio.run(RecorderMiddleware(third, recorder)(scope, None, None))  # type: ignore[arg-type]
    assert recorder.dropped == {"invalid": 3}
    recorder.close(0)


def test_an_answer_that_is_cut_short_by_an_error_has_failed() -> None:
    heard = Heard()

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        note(label="half")
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise ZeroDivisionError

    async def send(message: Any) -> None:
        pass

    async def gone(message: Any) -> None:
        raise BrokenPipeError

    scope = {"type": "http", "path": "/", "headers": []}
    with pytest.raises(ZeroDivisionError):
        asyncio.run(RecorderMiddleware(broken, heard)(scope, None, send))  # type: ignore[arg-type]
    with pytest.raises(BrokenPipeError):
        asyncio.run(RecorderMiddleware(broken, heard)(scope, None, gone))  # type: ignore[arg-type]
    assert [t["status"] for t in heard.told] == [500, 499]


def test_coroutines_that_run_together_keep_their_notes_apart() -> None:
    heard = Heard()

    @observed(heard, id="i")
    async def predict(i: int) -> str:
        note(features={"i": i})
        await asyncio.sleep(0.001 * (10 - i))
        assert inference_id() == str(i)
        return f"l-{i}"

    async def together() -> list[str]:
        return await asyncio.gather(*(predict(i) for i in range(10)))

    assert asyncio.run(together()) == [f"l-{i}" for i in range(10)]
    assert {(t["id"], t["features"]["i"], t["label"]) for t in heard.told} == {(str(i), i, f"l-{i}") for i in range(10)}


def test_a_note_without_anybody_who_records_is_nothing() -> None:
    note(label="x")
    assert inference_id() != inference_id()
    with noting.Noting("a") as outer:
        with noting.Noting() as inner:
            note(label="x")
        assert (outer.fields, inner.fields, inner.id) == ({}, {"label": "x"}, "a")


def test_a_server_and_a_function_reach_a_real_broker(services: Any) -> None:
    prefix = fresh_prefix(services.broker)
    recorder = Recorder(services.broker, model="loan", version="1", topic_prefix=prefix, frame_seconds=0.1)

    @observed(recorder, id="key")
    def predict(features: dict[str, float], key: str) -> dict[str, float]:
        return {"no": 0.1, "yes": 0.9}

    with served(app_of(recorder)) as client:
        for i in range(20):
            client.post("/sync", json={"age": float(i)}, headers={"x-request-id": f"r-{i}"})
        predict({"age": 5.0}, key="f-1")
    assert recorder.delivered == 21  # the end of the server has sent them
    found = rows(consumed(services.broker, prefix + "inference", 1))
    assert found.keys() == {f"r-{i}" for i in range(20)} | {"f-1"}
    assert json.loads(json.dumps(found["f-1"]["scores"])) == pytest.approx([0.1, 0.9])


def test_examples_of_the_docstrings() -> None:
    for module in (asgi, decorator, noting):
        assert doctest.testmod(module).failed == 0
