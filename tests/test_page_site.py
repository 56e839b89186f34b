"""What serves the live page: who is let in, how listeners are kept up, and that nobody costs more than their share."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from aiohttp.test_utils import TestServer

from infra.migrate import upgrade
from infra.web import hub as hub_module
from infra.web.hub import MOST_LISTENERS, Hub
from infra.web.login import COOKIE, TRIES
from infra.web.site import FILES, POLICY, Site
from models.policy import DAY_US
from streams.errors import StoreUnreachable
from streams.event_store import EventStore
from streams.store_pages import PageReader
from streams.store_rows import Event, StoredEvent
from tests.page_rig import HOSTILE, Story, Told, falling, reference, sqlite, tell, write
from tests.test_store_roles import Server, server

__all__ = ["server"]  # a fixture

TODAY_US = int(time.time()) // 86_400 * DAY_US
TOKEN = "open-sesame"  # noqa: S105 -- of a test
HTML = {"Accept": "text/html"}


class CountingReader(PageReader):
    """Counts how often it is asked what is new, and does not answer while it is `away`."""

    asked, away = 0, False

    def news(self, after_seq: int, limit: int) -> list[StoredEvent]:
        self.asked += 1
        if self.away:
            raise StoreUnreachable("store of the test: away; trying again is safe")
        return super().news(after_seq, limit)


def days(
    model: str = "digits", version: str = "3", *, many: int = 4, segment: dict[str, str] | None = None
) -> list[Told]:
    """Some days of a good model."""
    return list(tell(Story(reference(model, version), falling(99, 0.0), days=many, segment=segment), TODAY_US))


@asynccontextmanager
async def served(
    url: str, token: str = "", reader: PageReader | None = None
) -> AsyncIterator[tuple[ClientSession, Hub]]:
    """The site on a store, and somebody who asks it."""
    reader = reader or PageReader(url)
    hub, app = Hub(reader, lambda: {"worker": None}), web.Application()
    app.add_routes(Site(hub, token).routes())
    server = TestServer(app)
    await server.start_server(access_log=None, shutdown_timeout=0.1)
    try:
        anew = TCPConnector(limit=0)  # as many connections as there are tabs
        async with ClientSession(server.make_url("/"), timeout=ClientTimeout(60), connector=anew) as session:
            yield session, hub
    finally:
        await server.close()
        reader.close()


class Listener:
    """Reads one stream, message after message."""

    def __init__(self, response: Any) -> None:
        self._response = response

    async def next(self, *kinds: str) -> tuple[str, str, Any]:
        """Kind, id and content of the next message, of these kinds where some are named."""
        while True:
            found = {"event": "", "id": "", "data": "null"}
            while line := (await self._response.content.readline()).decode().rstrip("\n"):
                name, _, value = line.partition(": ")
                found[name] = value
            if found["event"] and (not kinds or found["event"] in kinds):
                return found["event"], found["id"], json.loads(found["data"])


def told(story: Callable[..., Awaitable[None]], url: str, **options: Any) -> None:
    """Run a test in an event loop of its own, on a store with its tables."""

    async def run() -> None:
        async with served(url, **options) as (session, hub):
            await story(session, hub)

    asyncio.run(run())


@pytest.fixture
def store(tmp_path: Path) -> str:
    """An empty store in a file."""
    upgrade(sqlite(tmp_path))
    return sqlite(tmp_path)


# -- what is read ----------------------------------------------------------------------------------------------------


def test_the_same_is_read_from_either_database(any_store_url: str) -> None:
    """Rows, series, segments, details; and a new day changes only its row."""
    upgrade(any_store_url)
    store = EventStore(any_store_url)
    write(store, [*days(), *days(segment={"site": HOSTILE})])
    store.register("other", "1", "d", b"{}", TODAY_US)

    async def story(session: ClientSession, hub: Hub) -> None:
        async with session.get("models.json") as answer:
            found = await answer.json()
        assert [(row["model"], row["version"], row["state"]) for row in found["models"]] == [
            ("digits", "3", "unknown"), ("other", "1", "waiting")
        ]  # fmt: skip
        row = found["models"][0]
        assert row["window"]["n"] == 400
        assert row["segments"] == {"n": 1, "below": 0, "unknown": 0, "good": 1}
        assert row["why"] == "needs 20 assessed windows, has 4"
        assert found["store"]["answers"]
        asked = {"model": "digits", "version": "3"}
        async with session.get("model.json", params=asked) as answer:
            whole = await answer.json()
        assert len(whole["series"]) == 4
        assert {point["n_labelled"] for point in whole["series"]} == {80}
        assert whole["series"][-1]["window_end"] == row["window"]["end"]
        assert whole["series"][-1]["estimate"] == pytest.approx(row["quality"]["estimate"], rel=1e-5)
        (part,) = whole["segments"]
        assert json.loads(part["segment"]) == {"site": HOSTILE}
        async with session.get("model.json", params={**asked, "segment": part["segment"], "windows": "2"}) as answer:
            half = await answer.json()
        assert half["status"]["segment"] == part["segment"]
        assert len(half["series"]) == 2
        assert half["limits"]["windows"] == [2, True]

    told(story, any_store_url)
    store.close()


def test_a_login_that_may_only_read_is_enough(server: Server) -> None:
    """Events and views: no table behind them."""
    upgrade(server.admin)
    store = EventStore(server.admin)
    write(store, days())
    store.close()

    async def story(session: ClientSession, hub: Hub) -> None:
        async with session.get("models.json") as answer:
            assert len((await answer.json())["models"]) == 1
        async with session.get("model.json", params={"model": "digits", "version": "3"}) as answer:
            assert len((await answer.json())["series"]) == 4

    told(story, server.login("page", server.names.reader))


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 400), ("?model=digits", 400), ("?model=nobody&version=1", 404), ("?model=digits&version=3&segment=x", 404),
     ("?model=digits&version=3&windows=0", 400), ("?model=digits&version=3&windows=99999999999", 400),
     ("?model=digits&version=3&windows=²", 400), (f"?model={'x' * 5000}&version=3", 400)],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused(store: str, query: str, status: int) -> None:
    write(EventStore(store), days(many=1))

    async def story(session: ClientSession, hub: Hub) -> None:
        async with session.get(f"model.json{query}") as answer:
            assert answer.status == status
            assert len(await answer.text()) < 200

    told(story, store)


def test_what_is_told_in_detail_keeps_up_with_time_and_with_what_is_about_all_versions(store: str) -> None:
    """Nothing new has to come about the version itself."""
    known = EventStore(store)
    write(known, days(many=4))
    now_us = time.time_ns() // 1000

    async def detail(hub: Hub) -> Any:
        hub._read = 0.0  # not of this second any more
        return json.loads(await hub.detail("digits", "3", "", 10) or b"null")

    async def story(session: ClientSession, hub: Hub) -> None:
        hub._overview._now_us = lambda: now_us
        assert (await detail(hub))["row"]["state"] == "unknown"
        body = {"id": "all", "model": "digits", "version": "", "check": "label-shift", "verdict": "mismatch",
                "severity": "critical", "window": {"end": "2026-11-20T10:00:00Z"}}  # fmt: skip
        with known.transaction() as transaction:
            transaction.append_events([Event(
                event_id="all", kind="mismatch", model="digits", version="", check="label-shift", severity="critical",
                occurred_at_us=now_us, body=body,
            )])  # fmt: skip
        found = await detail(hub)
        assert (found["row"]["state"], [one["id"] for one in found["mismatches"]]) == ("mismatch", ["all"])
        hub._overview._now_us = lambda: now_us + 20 * DAY_US
        assert (await detail(hub))["row"]["state"] == "silent"

    told(story, store)
    known.close()


# -- listeners -------------------------------------------------------------------------------------------------------


def test_a_listener_that_was_cut_off_is_told_what_it_missed(store: str) -> None:
    """By the number of the last message; who comes from elsewhere, or too late, gets all."""
    told_of = days(many=5)
    write(EventStore(store), told_of[:1])

    async def story(session: ClientSession, hub: Hub) -> None:
        async with session.get("stream") as stream:
            listener = Listener(stream)
            kind, first, body = await listener.next()
            assert (kind, len(body["models"])) == ("overview", 1)
            assert (await listener.next())[0] == "beat"
        write(EventStore(store), told_of[1:2])
        async with session.get("stream", headers={"Last-Event-ID": first}) as stream:
            kind, second, body = await Listener(stream).next("changed", "overview")
            assert kind == "changed"
            assert body["models"][0]["window"]["end"] > told_of[0].notes[-1].body["window"]["end"]
        for strange in ("", "other-1", "x", first.partition("-")[0] + "-999999", first.partition("-")[0] + "--1"):
            async with session.get("stream", headers={"Last-Event-ID": strange}) as stream:
                assert (await Listener(stream).next())[0] == "overview"
        async with session.get("stream", headers={"Last-Event-ID": second}) as stream:
            assert (await Listener(stream).next())[0] == "beat"

    told(story, store)


def test_a_hundred_listeners_cost_one_question_and_more_are_refused(store: str) -> None:
    """The page itself goes on answering; a place that becomes free is given again."""
    told_of = days(many=2)
    write(EventStore(store), told_of[:1])
    reader = CountingReader(store)

    async def story(session: ClientSession, hub: Hub) -> None:
        streams = [await session.get("stream") for _ in range(MOST_LISTENERS)]
        listeners = [Listener(stream) for stream in streams]
        await asyncio.gather(*(listener.next("overview") for listener in listeners))
        async with session.get("stream") as refused:
            assert refused.status == 503
            assert refused.headers["Retry-After"] == "5"
        asked, began = reader.asked, time.monotonic()
        write(EventStore(store), told_of[1:])
        await asyncio.gather(*(listener.next("changed") for listener in listeners))
        assert reader.asked - asked <= (time.monotonic() - began) / hub_module.EVERY + 2
        async with session.get("models.json") as answer:
            assert answer.status == 200
        for stream in streams[:50]:
            stream.close()
        while hub.listeners > 50:
            await asyncio.sleep(0.05)
        async with session.get("stream") as stream:
            assert (await Listener(stream).next())[0] == "overview"
        for stream in streams[50:]:
            stream.close()

    told(story, store, reader=reader)


def test_while_the_store_is_away_it_says_so_and_keeps_what_it_knew(store: str) -> None:
    write(EventStore(store), days(many=1))
    reader = CountingReader(store)

    async def story(session: ClientSession, hub: Hub) -> None:
        async with session.get("stream") as stream:
            listener = Listener(stream)
            assert len((await listener.next("overview"))[2]["models"]) == 1
            reader.away = True
            while (beat := (await listener.next("beat"))[2])["store"]["answers"]:
                pass
            assert beat["store"]["why"] == "store of the test: away; trying again is safe"
            async with session.get("models.json") as answer:
                assert len((await answer.json())["models"]) == 1
            reader.away = False
            while not (await listener.next("beat"))[2]["store"]["answers"]:
                pass

    told(story, store, reader=reader)


def test_a_store_that_never_answered_is_told_and_not_shown_as_empty(tmp_path: Path) -> None:
    async def story(session: ClientSession, hub: Hub) -> None:
        async with session.get("models.json") as answer:
            assert answer.status == 503
            assert "run `bestbefore migrate`" in await answer.text()
        async with session.get("stream") as stream:
            kind, _, body = await Listener(stream).next()
            assert (kind, body["store"]["answers"]) == ("beat", False)

    told(story, sqlite(tmp_path))


# -- who is let in ---------------------------------------------------------------------------------------------------


def test_without_a_token_only_this_machine_by_its_own_name_is_answered(store: str) -> None:
    """A foreign site whose name resolves to this machine is another name."""

    async def story(session: ClientSession, hub: Hub) -> None:
        for host, status in (("localhost:6066", 200), ("[::1]:6066", 200), ("evil.example", 403), ("10.0.0.7:80", 403)):
            for path in ("/", "models.json", "stream"):
                async with session.get(path, headers={"Host": host}) as answer:
                    assert answer.status == status, (host, path)

    told(story, store)


def test_with_a_token_nothing_that_the_store_knows_is_given_without_it(store: str) -> None:
    """The header for programs, the cookie for browsers; files of the page hold nothing."""

    async def story(session: ClientSession, hub: Hub) -> None:
        for path in ("/", "models.json", "model.json?model=a&version=1", "stream"):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"{COOKIE}=9999999999.{'0' * 64}"},
                            {"Cookie": f"{COOKIE}=²."}, {"Cookie": f"{COOKIE}={'9' * 400}.x"}):  # fmt: skip
                async with session.get(path, headers=headers) as answer:
                    assert answer.status == 401, (path, headers)
            async with session.get(path, headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
                assert answer.status in (200, 404)
        async with session.post("login", data={"token": TOKEN}, allow_redirects=False) as answer:
            given = answer.headers["Set-Cookie"]
        assert "HttpOnly" in given
        assert "SameSite=Strict" in given
        assert TOKEN not in given
        cookie = given.partition(";")[0]
        until, _, signature = cookie.partition("=")[2].partition(".")
        async with session.get("models.json", headers={"Cookie": f"{COOKIE}={int(until) + 1}.{signature}"}) as answer:
            assert answer.status == 401, "nobody may make it last longer"
        async with session.get("models.json", headers={"Cookie": cookie}) as answer:
            assert answer.status == 200

    told(story, store, token=TOKEN)


def test_guessing_ends_after_some_tries(store: str) -> None:
    async def story(session: ClientSession, hub: Hub) -> None:
        for _ in range(TRIES):
            async with session.post("login", data={"token": "x"}, allow_redirects=False) as answer:
                assert answer.headers["Location"] == "./?refused"
        async with session.post("login", data={"token": TOKEN}, allow_redirects=False) as answer:
            assert answer.status == 429
        async with session.get("models.json", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert answer.status == 200, "who has the token is not locked out by those who guess"

    told(story, store, token=TOKEN)


def test_every_answer_forbids_what_the_page_does_not_do(store: str) -> None:
    async def story(session: ClientSession, hub: Hub) -> None:
        for path in ("/", *FILES, "models.json", "model.json", "stream"):
            for headers in ({}, HTML, {"Host": "evil.example"}):
                async with session.get(path, headers=headers) as answer:
                    assert answer.headers["Content-Security-Policy"] == POLICY
                    assert answer.headers["X-Content-Type-Options"] == "nosniff"

    told(story, store)
