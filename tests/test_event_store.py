"""The event store on a real Postgres and on SQLite: the same promises on both."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sqlalchemy import create_engine, text

from infra import migrate
from streams.errors import Fenced, StoreError, StoreUnreachable
from streams.event_store import DAY_US, EventStore
from streams.store_rows import (
    Claim,
    Event,
    LabelRow,
    OutboxMessage,
    PredictionColumns,
    State,
    WindowCounts,
    WindowEstimate,
)

T0 = 1_795_000_000_000_001
HOUR_US = 3_600_000_000


@pytest.fixture
def store(any_store_url: str) -> Iterator[EventStore]:
    migrate.upgrade(any_store_url)
    opened = EventStore(any_store_url, now_us=lambda: T0)
    yield opened
    opened.close()


def event(event_id: str, **changes: Any) -> Event:
    first = Event(event_id=event_id, kind="status", model="digits", version="3", occurred_at_us=T0, body={})
    return msgspec.structs.replace(first, **changes)


def window(**changes: Any) -> WindowCounts:
    first = WindowCounts(model="digits", version="3", segment="", window_start_us=T0, window_end_us=T0 + HOUR_US)
    return msgspec.structs.replace(first, **changes)


def estimate(**changes: Any) -> WindowEstimate:
    first = WindowEstimate(model="digits", version="3", segment="", window_start_us=T0, window_end_us=T0 + HOUR_US)
    return msgspec.structs.replace(first, **changes)


def label(inference_id: str, offset: int, **changes: Any) -> LabelRow:
    first = LabelRow(
        inference_id=inference_id, source="ground-truth", topic="labels", partition=0, offset=offset, time_us=T0
    )
    return msgspec.structs.replace(first, **changes)


def predictions(*ids: str, **changes: Any) -> PredictionColumns:
    n = len(ids)
    first = PredictionColumns(
        model=["digits"] * n, version=["3"] * n, inference_id=ids, segment=[""] * n, time_us=np.arange(n) + T0
    )
    return msgspec.structs.replace(first, **changes)


def sql(store: EventStore, statement: str) -> list[tuple[Any, ...]]:
    with store._writing() as connection:
        result = connection.execute(text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


def apply(store: EventStore, epoch: int, next_offset: Any) -> None:
    with store.transaction() as tx:
        tx.append_events([event("zombie")])
        tx.add_windows([window(n=1)])
        tx.advance("g", "inference", 0, epoch, next_offset + 0)


def append_and_lose_the_connection(store: EventStore) -> None:
    with store.transaction() as tx:
        tx.append_events([event("lost")])
        sql(store, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'")
        tx.append_events([event("lost too")])


class TestEvents:
    def test_the_same_event_twice_is_one_row_as_first_written(self, store: EventStore) -> None:
        with store.transaction() as tx:
            assert tx.append_events([event("a", body={"n": 1}), event("b")]) == {"a", "b"}
        with store.transaction() as tx:
            assert tx.append_events([event("a", body={"n": 2}), event("c"), event("c")]) == {"c"}
            assert tx.append_events([]) == set()
        found = store.events()
        assert [(e.event_id, e.body) for e in found] == [("a", {"n": 1}), ("b", {}), ("c", {})]
        assert [e.seq for e in found] == sorted(e.seq for e in found)

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE event SET model = 'x'",
            "DELETE FROM event",
            "DELETE FROM event WHERE event_id = 'a'",
        ],
    )
    def test_the_database_itself_refuses_change(self, store: EventStore, change: str) -> None:
        with store.transaction() as tx:
            tx.append_events([event("a")])
        with pytest.raises(StoreError, match="append-only"):
            sql(store, change)
        assert [e.model for e in store.events()] == ["digits"]

    def test_postgres_refuses_to_truncate(self, store_url: str) -> None:
        migrate.upgrade(store_url)
        store = EventStore(store_url)
        with pytest.raises(StoreError, match=r"append-only.*TRUNCATE refused"):
            sql(store, "TRUNCATE event")
        store.close()

    def test_sqlite_does_not_replace(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/store.db"
        migrate.upgrade(url)
        store = EventStore(url)
        with store.transaction() as tx:
            tx.append_events([event("a")])
        plain = create_engine(url)
        with plain.begin() as connection:
            values = "'status', 'other', '3', 0, '{}' FROM event"
            columns = "kind, model, version, occurred_at_us, body"
            connection.execute(text(f"INSERT OR REPLACE INTO event (event_id, {columns}) SELECT event_id, {values}"))
            connection.execute(
                text(f"INSERT OR REPLACE INTO event (seq, event_id, {columns}) SELECT seq, 'z', {values}")
            )
        plain.dispose()
        assert [(e.event_id, e.model) for e in store.events()] == [("a", "digits")]
        store.close()

    def test_readers_filter_and_page(self, store: EventStore) -> None:
        many = [
            event(f"e{i}", kind="trigger" if i % 2 else "mismatch", check=f"c{i % 3}", occurred_at_us=T0 + i)
            for i in range(9)
        ]
        with store.transaction() as tx:
            tx.append_events(many)
        assert [e.event_id for e in store.events(limit=2)] == ["e7", "e8"]
        first = store.events(after_seq=0, limit=4)
        assert [e.event_id for e in first] == ["e0", "e1", "e2", "e3"]
        assert [e.event_id for e in store.events(after_seq=first[-1].seq)] == ["e4", "e5", "e6", "e7", "e8"]
        assert [e.event_id for e in store.triggers(since_us=T0 + 4)] == ["e5", "e7"]
        assert [e.event_id for e in store.events(kind="mismatch", model="digits", check="c2")] == ["e2", "e8"]
        assert store.events(model="other") == []


class TestFencing:
    def test_each_claim_fences_the_one_before(self, store: EventStore) -> None:
        old = store.claim("g", "inference", 0)
        with store.transaction() as tx:
            tx.advance("g", "inference", 0, old.epoch, 10)
        new = store.claim("g", "inference", 0)
        assert (old, new) == (Claim(1, None), Claim(2, 10))
        with pytest.raises(Fenced, match=r"inference\[0\].*epoch 1"):
            apply(store, old.epoch, 20)
        assert store.events() == []
        assert store.windows("digits", "3") == []
        assert store.claim("g", "inference", 0).next_offset == 10
        assert store.claim("g", "inference", 1) == store.claim("other", "inference", 0) == Claim(1, None)

    def test_offsets_never_move_back(self, store: EventStore) -> None:
        epoch = store.claim("g", "t", 0).epoch
        for offset in (5, 3, 7, 7, 0):
            with store.transaction() as tx:
                tx.advance("g", "t", 0, epoch, offset)
        assert store.claim("g", "t", 0).next_offset == 7

    def test_concurrent_claims_get_different_epochs(self, store: EventStore) -> None:
        epochs: list[int] = []
        threads = [threading.Thread(target=lambda: epochs.append(store.claim("g", "t", 0).epoch)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(epochs) == [1, 2, 3, 4]

    def test_a_claim_waits_for_the_transaction_before_it(self, store: EventStore) -> None:
        claims: list[Claim] = []
        old = store.claim("g", "t", 0)
        taker = threading.Thread(target=lambda: claims.append(store.claim("g", "t", 0)))
        with store.transaction() as tx:
            tx.advance("g", "t", 0, old.epoch, 10)
            taker.start()
        taker.join()
        assert claims == [Claim(2, 10)]

    def test_a_failing_block_keeps_nothing(self, store: EventStore) -> None:
        with pytest.raises(TypeError):
            apply(store, store.claim("g", "inference", 0).epoch, "a bug of the caller")
        assert store.events() == []


class TestTransaction:
    def test_profiles_are_new_once(self, store: EventStore) -> None:
        with store.transaction() as tx:
            assert tx.new_profiles("g", ["b", "a", "b"]) == [True, True, False]
        with store.transaction() as tx:
            assert tx.new_profiles("g", ["a", "c"]) == [False, True]
            assert tx.new_profiles("other", ["a"]) == [True]
            assert tx.new_profiles("g", []) == []

    def test_windows_add_and_estimates_replace(self, store: EventStore) -> None:
        with store.transaction() as tx:
            tx.add_windows([window(n=2, n_late=np.int64(1), weight=2.5), window(n=3), window(segment="site=A", n=9)])
        with store.transaction() as tx:
            tx.add_windows([window(n=10, n_failed=4, weight=1)])
            tx.set_estimates([estimate(estimate=0.5), estimate(estimate=0.9, basis="labels")])
            tx.add_windows([])
            tx.set_estimates([])
        (found,) = store.windows("digits", "3")
        assert (found.n, found.n_late, found.n_failed, found.n_correct, found.weight) == (15, 1, 4, 0, 3.5)
        assert (found.estimate, found.low, found.basis, found.best_before_us) == (0.9, None, "labels", None)
        assert [w.n for w in store.windows("digits", "3", "site=A")] == [9]
        assert store.windows("digits", "3", since_us=T0 + HOUR_US) == []

    def test_states_come_back_as_saved(self, store: EventStore) -> None:
        one, two, three = ("digits", "3", ""), ("digits", "3", 'site="A,B" {é}'), ("digits", "4", "")
        with store.transaction() as tx:
            tx.save_states({one: State(1, b"\x00\xff"), two: State(2, b"")})
            tx.save_states({})
        with store.transaction() as tx:
            tx.save_states({one: State(3, bytes(range(256)))})
            assert tx.load_states([one, two, three, one]) == {one: State(3, bytes(range(256))), two: State(2, b"")}
            assert tx.load_states([]) == {}
            tx.save_states(dict.fromkeys((three, ("digits", "", ""), ("other", "4", "")), State(1, b"3")))
            assert tx.load_versions("digits").keys() == {one, three}, "all traffic of each version, and nothing else"

    def test_outbox_keeps_order_and_forgets_what_was_sent(self, store: EventStore) -> None:
        messages = [
            OutboxMessage(partition=i % 2, topic="status", key=f"k{i}", headers={"ce_id": f"{i}"}, value=bytes([i]))
            for i in range(6)
        ]
        with store.transaction() as tx:
            tx.enqueue(messages)
            tx.enqueue([])
        rows = store.outbox([0, 1])
        assert [(r.key, r.headers, r.value) for r in rows] == [(m.key, m.headers, m.value) for m in messages]
        assert [r.key for r in store.outbox([1], limit=2)] == ["k1", "k3"]
        assert store.sent([r.seq for r in rows]) == 6
        assert store.sent([rows[0].seq]) == store.sent([]) == 0
        with store.transaction() as tx:
            tx.enqueue(messages[:1])
        assert store.outbox([0, 1])[0].seq > rows[-1].seq
        assert store.outbox([]) == []


class TestJoin:
    def test_predictions_are_kept_once_and_found(self, store: EventStore) -> None:
        rows = predictions(
            "a",
            "b",
            value=np.array([1.5, np.nan]),
            label=["7", None],
            confidence=[1, 0.25],
            extra=[{"flags": {}}, None],
        )
        assert store.keep_predictions(rows) == 2
        assert store.keep_predictions(predictions("b", "c", version=["3", "4"])) == 1
        assert store.keep_predictions(predictions("b", version=["4"])) == 1
        assert store.keep_predictions(predictions()) == 0
        found = store.find_predictions(["a", "b", "missing"])
        assert sorted(found) == ["a", "b"]
        (a,) = found["a"]
        assert (a.label, a.value, a.confidence, a.propensity, a.extra) == ("7", 1.5, 1.0, None, {"flags": {}})
        assert [(p.version, p.value, p.time_us) for p in found["b"]] == [("3", None, T0 + 1), ("4", None, T0)]
        assert store.find_predictions([]) == {}

    def test_columns_of_unequal_length_are_refused(self, store: EventStore) -> None:
        with pytest.raises(ValueError, match="unequal length"):
            store.keep_predictions(predictions("a", "b", label=["7"]))

    def test_a_label_read_again_is_not_a_label_sent_again(self, store: EventStore) -> None:
        first = [label("b", 1, correct=True), label("a", 2, label="7"), label("b", 3, correct=False)]
        assert store.add_labels(first) == [True, True, False]
        assert store.add_labels(first) == [True, True, False]
        assert store.add_labels([label("a", 9), label("a", 9, source="feedback"), label("c", 4)]) == [False, True, True]
        assert store.add_labels([]) == []
        stored = store.label("b", "ground-truth")
        assert stored is not None
        assert (stored.offset, stored.correct) == (1, True)
        assert store.label("b", "feedback") is None

    def test_prune_deletes_only_what_is_old(self, store: EventStore) -> None:
        store.keep_predictions(predictions("old", "new", time_us=[T0 - 91 * DAY_US, T0]))
        store.add_labels([label("late-truth", 1, time_us=T0 - 900 * DAY_US)])
        with store.transaction() as tx:
            tx.new_profiles("g", ["p"])
        assert store.prune(T0) == {"prediction": 1, "label": 0, "applied_profile": 0}
        assert sorted(store.find_predictions(["old", "new"])) == ["new"]
        assert store.prune(T0 + 31 * DAY_US) == {"prediction": 0, "label": 0, "applied_profile": 1}
        assert store.prune(T0 + DAY_US, label_days=0.5)["label"] == 1
        assert store.counts()["label"] == 0
        store.keep_predictions(predictions(*map(str, range(10_002)), time_us=[T0 - 91 * DAY_US] * 10_002))
        assert [store.prune(T0, most=1)["prediction"] for _ in range(3)] == [10_000, 2, 0]


class TestRegistration:
    def test_a_change_replaces_and_is_recorded(self, store: EventStore) -> None:
        assert store.register("m", "1", "d1", b"{}")
        assert not store.register("m", "1", "d1", b"{}", T0 + 1)
        assert store.register("m", "1", "d2", b'{"a":1}', T0 + 2)
        assert store.register("m", "1", "d1", b"{}", T0 + 3)
        (active,) = store.registrations()
        assert (active.digest, active.body, active.registered_at_us) == ("d1", b"{}", T0 + 3)
        changes = [(e.body["previous_digest"], e.body["digest"]) for e in store.events(kind="registration", model="m")]
        assert changes == [(None, "d1"), ("d1", "d2"), ("d2", "d1")]


class TestViews:
    def test_status_is_the_newest_windows_latest_revision(self, store: EventStore) -> None:
        body = {"quality": {"estimate": 0.9, "metric": "accuracy"}, "forecast": {"best_before": "2026-12-01T00:00:00Z"}}
        broken = {"quality": {"estimate": "broken"}, "forecast": {"best_before": 1}}
        with store.transaction() as tx:
            tx.append_events(
                [
                    event("w2", window_end_us=T0 + 2, body={"quality": {"estimate": 0.8}}),
                    event("w2-revised", window_end_us=T0 + 2, body=body),
                    event("w1-revised", window_end_us=T0 + 1, body={}),
                    event("other", model="faces", body=broken),
                ]
            )
        assert [e.event_id for e in store.latest_status()] == ["w2-revised", "other"]
        assert [e.event_id for e in store.latest_status("faces")] == ["other"]
        rows = sql(store, "SELECT model, estimate, metric FROM v_status ORDER BY model")
        assert rows == [("digits", 0.9, "accuracy"), ("faces", None, None)]
        (stamp,) = sql(store, "SELECT best_before, occurred_at FROM v_status WHERE model = 'digits'")
        assert str(stamp[0])[:10] == "2026-12-01"
        assert ".000001" in str(stamp[1])

    def test_open_mismatches_are_the_last_word(self, store: EventStore) -> None:
        verdicts = [("age", "mismatch"), ("age", "ok"), ("income", "ok"), ("income", "mismatch"), (None, "mismatch")]
        with store.transaction() as tx:
            tx.append_events(
                [
                    event(f"m{i}", kind="mismatch", check="drift", body={"field": field, "verdict": verdict})
                    for i, (field, verdict) in enumerate(verdicts)
                ]
            )
        assert len(sql(store, "SELECT * FROM v_mismatches")) == 5
        found = sql(store, "SELECT event_id, check_name, field FROM v_open_mismatches ORDER BY seq")
        assert found == [("m3", "drift", "income"), ("m4", "drift", None)]

    def test_windows_and_triggers(self, store: EventStore) -> None:
        with store.transaction() as tx:
            tx.add_windows([window(n=4)])
            tx.append_events([event("t", kind="trigger", body={"action": "retrain", "retrain_by": "soon"})])
        ((n, start, best_before),) = sql(store, "SELECT n, window_start, best_before FROM v_windows")
        assert (n, best_before) == (4, None)
        assert ".000001" in str(start)
        assert sql(store, "SELECT event_id, action FROM v_triggers") == [("t", "retrain")]


class TestErrors:
    def test_only_what_may_pass_is_unreachable(self, store_url: str) -> None:
        migrate.upgrade(store_url)
        store = EventStore(store_url)
        noise = np.random.default_rng(0).bytes(8_000).hex()  # no repetition, or the index would compress it
        with pytest.raises(StoreError, match="refused: index row") as caught, store.transaction() as tx:
            tx.add_windows([window(n=1, segment=noise)])
        assert not isinstance(caught.value, StoreUnreachable)
        for state in ("08006", "57P01", "53300", "40001", "55P03", "57014", "54000", "22001", "23505", "55006"):
            with pytest.raises(StoreError) as caught:
                sql(store, f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")
            assert isinstance(caught.value, StoreUnreachable) == (state[:2] in ("08", "53", "40", "57") or "P" in state)
        store.close()

    def test_a_lost_connection_is_unreachable_and_comes_back(self, store_url: str) -> None:
        migrate.upgrade(store_url)
        store = EventStore(store_url)
        with pytest.raises(StoreUnreachable):
            append_and_lose_the_connection(store)
        assert store.events() == []
        store.close()

    @pytest.mark.parametrize("bad", [predictions("a\ud800"), predictions("a", time_us=[2**63])])
    def test_a_value_that_fits_no_column_is_a_store_error(self, store: EventStore, bad: PredictionColumns) -> None:
        with pytest.raises(StoreError, match=r"prediction|out of range"):
            store.keep_predictions(bad)
        assert store.keep_predictions(predictions("a")) == 1

    def test_a_nul_character_in_a_client_text_does_not_stop_the_store(self, store: EventStore) -> None:
        store.keep_predictions(predictions("a", label=["x\x00y"], extra=[{"k\x00": "\\u0000\x00"}]))
        (found,) = store.find_predictions(["a"])["a"]
        assert (found.label, found.extra) == ("x\ufffdy", {"k\ufffd": "\\u0000\ufffd"})

    def test_postgres_takes_no_nul_in_an_identifier(self, store_url: str) -> None:
        migrate.upgrade(store_url)
        store = EventStore(store_url)
        with pytest.raises(StoreError, match="0x00"):
            store.keep_predictions(predictions("a\x00b"))
        store.close()
