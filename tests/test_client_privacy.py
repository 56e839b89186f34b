"""What must not leave the process does not: redacted and hashed values are nowhere in what a recorder sends or says."""

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bestbefore_client import Recorder, Security
from bestbefore_client.privacy import Privacy

from tests.client_rig import NOWHERE, consumed, fresh_prefix, rows

SECRET = "a secret of some length"  # noqa: S105 -- of these tests
MARY = "mary@example.org"
ONE, TWO = "first", "second"


def privacy() -> Privacy:
    return Privacy(("name", "income"), ("user_id", "entity"), SECRET)


def pseudonym(text: str) -> str:
    key = blake2b(SECRET.encode(), person=b"bestbefore").digest()
    return blake2b(text.encode(), key=key, digest_size=16).hexdigest()


def test_features_keep_their_names() -> None:
    given = {"name": MARY, "user_id": 41, "age": 3.0}
    assert privacy().features(given) == {"name": None, "user_id": pseudonym("41"), "age": 3.0}
    assert given["name"] == MARY, "the server's own dictionary is left alone"
    assert privacy().features({"age": 1}) == {"age": 1}


@pytest.mark.parametrize(("value", "as_text"), [(41, "41"), (41.0, "41"), ("41", "41"), (True, "true"), (0.5, "0.5")])
def test_equal_values_have_equal_pseudonyms(value: Any, as_text: str) -> None:
    (column,) = privacy().feature_columns({"user_id": [value, None]}, 2).values()
    assert column == [pseudonym(as_text), None]
    assert privacy().features({"user_id": value})["user_id"] == pseudonym(as_text)


def test_columns_of_every_kind() -> None:
    columns = privacy().feature_columns(
        {"name": np.array(["a", "b"]), "user_id": pd.Series([7.0, np.nan]), "income": object(), "age": [1, 2]}, 2
    )
    assert columns == {"name": [None, None], "user_id": [pseudonym("7"), None], "income": [None, None], "age": [1, 2]}
    segments = privacy().segment_columns({"name": ["a", "b"], "user_id": "7", "site": "A"}, 2)
    assert segments == {"name": ["redacted"] * 2, "user_id": pseudonym("7"), "site": "A"}


def test_fields_are_looked_into() -> None:
    fields = {
        "entity": 41,
        "flags": {"user_id": "u", "deep": [{"name": MARY}]},
        "decision": json.dumps({"name": MARY, "by": "human"}),
        "request": "{no JSON",
    }
    found = privacy().fields(fields)
    assert found["entity"] == pseudonym("41")
    assert found["flags"] == {"user_id": pseudonym("u"), "deep": [{"name": None}]}
    assert json.loads(found["decision"]) == {"name": None, "by": "human"}
    assert found["request"] == "{no JSON"
    per_row = privacy().field_columns({"entity": ["a", None], "flags": {"name": 1}})
    assert per_row == {"entity": [pseudonym("a"), None], "flags": {"name": None}}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"hashed": ("user_id",)}, "secret"),
        ({"hashed": ("user_id",), "secret": "short"}, "at least 16 bytes"),
        ({"redact": ("a",), "hashed": ("a",), "secret": SECRET}, "'a' is in redact and in hashed"),
        ({"redact": ("id",)}, "'id' is what an event is made of"),
        ({"redact": "name"}, r"\('name',\)"),
    ],
)
def test_a_setting_that_would_not_protect_is_refused(setting: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Recorder(NOWHERE, model="m", version="1", **setting)


def test_the_secret_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BESTBEFORE_CLIENT_SECRET", SECRET)
    assert Privacy((), ("user_id",), None).features({"user_id": 1}) == {"user_id": pseudonym("1")}
    monkeypatch.delenv("BESTBEFORE_CLIENT_SECRET")
    (tmp_path / "secret").write_text(SECRET + "\n")
    monkeypatch.setenv("BESTBEFORE_CLIENT_SECRET_FILE", str(tmp_path / "secret"))
    assert Privacy((), ("user_id",), None).features({"user_id": 1}) == {"user_id": pseudonym("1")}


class Tell:
    """Quotes a value in every error it raises."""

    def __str__(self) -> str:
        raise ValueError(MARY)

    __repr__ = __float__ = __str__


@pytest.mark.parametrize("value", [MARY, [MARY], {MARY: 1}, Tell(), MARY.encode(), "\ud800" + MARY])
def test_errors_do_not_quote_what_is_hidden(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    options: Any = {"redact": ("name",), "hashed": ("user_id",), "secret": SECRET}
    with Recorder(NOWHERE, model="m", version="1", **options) as dead:
        said = []
        for name in ("name", "user_id"):
            dead.record("r", features={name: value}, scores=["x"], segment={name: value})
            said.append(dead.last_error)
            dead.record_many(["r"], features={name: [value]}, value=["x", "y"])
            said.append(dead.last_error)
            dead.label("r", label="x", metric={name: value}, loss=float("nan"))
            said.append(dead.last_error)
        assert dead.dropped["invalid"] >= 4
        dead.close(0.0)
    assert MARY not in repr(said) + caplog.text


def test_nothing_hidden_reaches_the_broker(broker: str) -> None:
    prefix = fresh_prefix(broker)
    with Recorder(
        broker, model="m", version="1", topic_prefix=prefix, input_rate=1.0, redact=("name",), hashed=("user_id",),
        secret=SECRET, segment={"user_id": MARY},
    ) as client:  # fmt: skip
        client.record("one", features={"name": MARY, "user_id": MARY, "x": 1}, input=b"x", flags={"name": MARY})
        client.record_many(
            ["a", "b"],
            features={"name": [MARY, "x"], "user_id": [MARY, "y"]},
            segment={"name": MARY},
            inputs=[b"x"] * 2,
        )
        client.label("one", label="1", annotator={"user_id": MARY}, tags={"name": MARY})
        assert client.flush(30)
    records = [r for topic in ("inference", "inputs", "labels") for r in consumed(broker, f"{prefix}{topic}", 1)]
    assert not any(MARY.encode() in r.value + repr(r.headers).encode() for r in records)
    found = rows([r for r in records if r.topic.endswith("inference")])
    assert (found["one"]["features.name"], found["one"]["features.user_id"]) == (None, pseudonym(MARY))
    assert (found["a"]["features.name"], found["a"]["features.user_id"]) == (None, pseudonym(MARY))
    assert (found["a"]["segment.name"], found["a"]["segment.user_id"]) == ("redacted", pseudonym(MARY))


# --- credentials


def test_security_is_said_once_for_both_libraries() -> None:
    own = Security(
        ca_file="ca.pem", cert_file="c.pem", key_file="k.pem", key_password=ONE, check_hostname=False,
        mechanism="SCRAM-SHA-256", username="u", password=TWO,
    )  # fmt: skip
    assert own.kafka_python() == {
        "security_protocol": "SASL_SSL", "ssl_cafile": "ca.pem", "ssl_certfile": "c.pem", "ssl_keyfile": "k.pem",
        "ssl_password": ONE, "ssl_check_hostname": False, "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "u", "sasl_plain_password": TWO,
    }  # fmt: skip
    assert own.confluent() == {
        "security.protocol": "sasl_ssl", "ssl.ca.location": "ca.pem", "ssl.certificate.location": "c.pem",
        "ssl.key.location": "k.pem", "ssl.key.password": ONE, "ssl.endpoint.identification.algorithm": "none",
        "sasl.mechanism": "SCRAM-SHA-256", "sasl.username": "u", "sasl.password": TWO,
    }  # fmt: skip
    assert ONE not in repr(own)
    assert TWO not in repr(own)
    assert Security(tls=False, mechanism="PLAIN", username="u", password=ONE).protocol == "SASL_PLAINTEXT"


@pytest.mark.parametrize(
    "wrong",
    [{"mechanism": "MD5"}, {"username": "u"}, {"mechanism": "PLAIN", "username": "u"}, {"cert_file": "c"},
     {"tls": False, "ca_file": "ca.pem"}],
)  # fmt: skip
def test_security_that_does_not_fit_together(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="security: "):
        Security(**wrong)


@pytest.mark.parametrize("backend", ["kafka-python", "confluent"])
def test_a_file_that_is_missing_is_told(backend: str) -> None:
    with Recorder(
        "127.0.0.1:9", model="m", version="1", backend=backend, security=Security(ca_file="missing.pem")
    ) as dead:
        dead.record("r")
        assert not dead.close(0.3)
        assert dead.dropped == {"closed": 1}
