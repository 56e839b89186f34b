"""Settings: where they come from, which wins, and what is said of a wrong one."""

from pathlib import Path

import msgspec
import pytest

from streams.errors import SettingsError
from streams.settings import DURATIONS, FILES, Settings, load

STORE = "postgresql+psycopg://user:hunter2@db/bestbefore"


def write(folder: Path, text: str, name: str = FILES[0]) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    assert load({}, tmp_path) == Settings()
    assert load({"PATH": "/bin", "BESTBEFORE": "x"}, tmp_path) == Settings()


def test_what_is_given_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    write(tmp_path, 'broker = "file:1"\ngroup = "file"\npartitions = 7\n')
    environment = {"BESTBEFORE_BROKER": "env:1", "BESTBEFORE_GROUP": "env"}
    found = load(environment, tmp_path, broker="given:1", store=None)
    assert (found.broker, found.group, found.partitions, found.store) == ("given:1", "env", 7, Settings().store)


def test_the_file_is_the_named_one_or_the_first_that_exists(tmp_path: Path) -> None:
    write(tmp_path, 'group = "second"', FILES[1])
    assert load({}, tmp_path).group == "second"
    write(tmp_path, 'group = "first"')
    assert load({}, tmp_path).group == "first"
    named = write(tmp_path, 'group = "named"', "other.toml")
    assert load({"BESTBEFORE_CONFIG": str(named)}, tmp_path).group == "named"


def test_values_are_read_as_their_type_from_text_and_from_toml(tmp_path: Path) -> None:
    write(tmp_path, 'keep_rate = 0.5\nmodel_prefixes = ["s3://a", "s3://b"]\n')
    environment = {
        "BESTBEFORE_PARTITIONS": "12",
        "BESTBEFORE_DATAREF_PREFIXES": "s3://c,file:///d",
        "BESTBEFORE_IDLE_AFTER": "1.5 minutes",
    }
    found = load(environment, tmp_path)
    assert (found.keep_rate, found.partitions) == (0.5, 12)
    assert found.model_prefixes == ("s3://a", "s3://b")
    assert found.dataref_prefixes == ("s3://c", "file:///d")
    assert found.us("idle_after") == 90_000_000
    assert found.seconds("idle_after") == 90.0
    assert found.topic("labels") == "bestbefore.labels"


def test_empty_lists_of_prefixes_allow_nothing(tmp_path: Path) -> None:
    assert load({"BESTBEFORE_DATAREF_PREFIXES": ""}, tmp_path).dataref_prefixes == ()
    assert load({"BESTBEFORE_DATAREF_PREFIXES": " s3://a , "}, tmp_path).dataref_prefixes == ("s3://a",)


WRONG = [
    ("brokr", "localhost", "unknown setting 'brokr'"),
    ("partitions", "many", "partitions = 'many'"),
    ("partitions", "4.5", "partitions = '4.5'"),
    ("partitions", "0", "partitions: must be 1 or more, is 0"),
    ("max_record_bytes", "-1", "max_record_bytes: must be 1 or more, is -1"),
    ("keep_rate", "half", "keep_rate = 'half'"),
    ("keep_rate", "1.5", r"keep_rate: must lie in \[0, 1\], is 1.5"),
    ("keep_rate", "nan", r"keep_rate: must lie in \[0, 1\], is nan"),
    ("embed_batch", "100", "embed_batch: must be a power of two, is 100"),
    ("provider_policy", "gpu", "provider_policy = 'gpu'"),
    *((name, "90", f"{name}: '90' is not a duration") for name in DURATIONS),
    ("idle_after", "soon", "idle_after: 'soon' is not a duration"),
    ("idle_after", "5 fortnights", "idle_after: '5 fortnights' is not a duration"),
    ("default_window", "0 s", "default_window: must be longer than zero"),
    ("session_timeout", "0 s", "session_timeout: must be longer than zero"),
    ("web_port", "70000", "web_port: must lie in 0 to 65535"),
    ("web_host", "0.0.0.0", "web_host: '0.0.0.0' is seen by other machines, so web_token must be set"),  # noqa: S104 -- text
    ("web_host", "worker-1", "web_host: 'worker-1' is seen by other machines"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG)
def test_a_wrong_setting_ends_the_start_with_its_key_and_value(
    tmp_path: Path, key: str, value: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        load({f"BESTBEFORE_{key.upper()}": value}, tmp_path)
    write(tmp_path, f"{key} = {value!r}")
    with pytest.raises(SettingsError, match=message):
        load({}, tmp_path)


@pytest.mark.parametrize("key", ["brokr", "partitions", "keep_rate", "provider_policy"])
def test_the_place_of_a_wrong_setting_is_told(tmp_path: Path, key: str) -> None:
    with pytest.raises(SettingsError, match=rf"environment \(BESTBEFORE_{key.upper()}\)"):
        load({f"BESTBEFORE_{key.upper()}": "x"}, tmp_path)
    path = write(tmp_path, f'{key} = "x"')
    with pytest.raises(SettingsError, match=path.name):
        load({}, tmp_path)
    with pytest.raises(SettingsError, match="command line"):
        load({"BESTBEFORE_CONFIG": str(write(tmp_path, "", "empty.toml"))}, tmp_path, **{key: "x"})


def test_a_type_that_toml_knows_and_the_setting_does_not_is_refused(tmp_path: Path) -> None:
    for text in ("broker = 5", "store = [1]", "[broker]\nhost = 1", "dataref_prefixes = 5", "idle_after = 60"):
        write(tmp_path, text)
        with pytest.raises(SettingsError, match=text.split()[0].strip("[]")):
            load({}, tmp_path)


@pytest.mark.parametrize("text", ["broker = ", "= 5", "broker: x", "broker = 'a'\nbroker = 'b'"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SettingsError, match=f"{path.name} is not valid TOML"):
        load({}, tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is not valid TOML"):
        load({}, tmp_path)


def test_a_named_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"BESTBEFORE_CONFIG names .*gone\.toml, which is not a file"):
        load({"BESTBEFORE_CONFIG": str(tmp_path / "gone.toml")}, tmp_path)


def test_the_url_of_the_store_is_never_shown(tmp_path: Path) -> None:
    write(tmp_path, f'stor = "{STORE}"\n')
    shown = []
    for environment in (
        {"BESTBEFORE_STORE": STORE, "BESTBEFORE_PARTITIONS": "x"},
        {"BESTBEFORE_STORE_URL": STORE},
        {},
    ):
        with pytest.raises(SettingsError) as caught:
            load(environment, tmp_path)
        shown.append(str(caught.value))
    write(tmp_path, f'store = ["{STORE}"]\n')
    with pytest.raises(SettingsError, match=r"store = \(hidden\)") as caught:
        load({}, tmp_path)
    assert "hunter2" not in "".join([*shown, str(caught.value)])


def test_settings_cannot_be_changed_after_the_start() -> None:
    with pytest.raises(AttributeError):
        Settings().broker = "elsewhere"  # type: ignore[misc]
    assert msgspec.structs.replace(Settings(), broker="elsewhere").broker == "elsewhere"


def test_pages_that_other_machines_see_need_a_token_or_are_off(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert load({"BESTBEFORE_WEB_HOST": host}, tmp_path).web_token == ""
    assert load({"BESTBEFORE_WEB_HOST": "0.0.0.0", "BESTBEFORE_WEB_PORT": "0"}, tmp_path).web_port == 0  # noqa: S104
    assert load({"BESTBEFORE_WEB_HOST": "::", "BESTBEFORE_WEB_TOKEN": "hunter2"}, tmp_path).web_host == "::"


def test_a_token_is_not_printed(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"BESTBEFORE_WEB_TOKENS": "hunter2"}, tmp_path)
    assert "hunter2" not in str(caught.value)
