"""Airflow's connections and variables: read by its rules, from where ours are, and handed to its DAG files."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from tidemill.model import airflow
from tidemill.model.batch import Interval
from tidemill.model.errors import SettingsError, TidemillError
from tidemill.model.masking import GIVEN
from tidemill.wiring.connection_care import keep_secret, listed_connections
from tidemill.wiring.project import declared_in
from tidemill.wiring.secrets import connections_of, masker_of, variables_of
from tidemill.wiring.settings import load_settings
from tidemill.wiring.trials import try_dag

#: Addresses, and what Airflow 3.3.2 makes of them: kind, host, port, login, password, schema, extra.
ADDRESSES = {
    "postgresql://me:p%40ss%2Fw@db.example:5432/sh%2Fop?sslmode=require&n=5": (
        "postgres", "db.example", 5432, "me", "p@ss/w", "sh/op", {"sslmode": "require", "n": 5}),
    "http://https%3A%2F%2Fapi.example%2Fv1": ("http", "https://api.example/v1", None, None, None, "", None),
    "my-http://https://api.example:8443/?timeout=5": (
        "my_http", "https://api.example", 8443, None, None, "", {"timeout": 5}),
    "aws://AKIA:sec%2Fret@/?__extra__=%7B%22region_name%22%3A+%22eu%22%2C+%22deep%22%3A+%7B%22a%22%3A+%5B1%5D%7D%7D": (
        "aws", "", None, "AKIA", "sec/ret", "", {"region_name": "eu", "deep": {"a": [1]}}),
    "sqlite:////data/x.db": ("sqlite", "", None, None, None, "/data/x.db", None),
    "sqlite://%2Fdata%2FX.db": ("sqlite", "/data/X.db", None, None, None, "", None),
    "ssh://ops@host:22": ("ssh", "host", 22, "ops", None, "", None),
}  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a place for its store, and what is hidden anew."""
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "tidemill.toml").write_text('[project]\nname = "moved"\npipelines = ["dags/**/*.py"]\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    for name in list(os.environ):
        if name.startswith(("TIDEMILL_CONN_", "AIRFLOW_CONN_")):
            monkeypatch.delenv(name)
    GIVEN.forget()
    yield tmp_path / "p"
    GIVEN.forget()


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_are_read_as_by_airflow_and_written_again(address):
    found = airflow.parts_of(address, "c")
    assert tuple(found[name] for name in airflow.FIELDS[:-1]) == ADDRESSES[address]
    again = {**airflow.parts_of(airflow.address_of(found), "c"), "description": None}
    assert again == found
    assert airflow.parts_of(airflow.text_of(found), "c") == found


@pytest.mark.parametrize("text", ["{", '{"port": "x"}', "a://b://c://d", "http://u:pw@https://h", "http://h:port"])
def test_what_is_no_connection_is_told_without_its_value(text):
    with pytest.raises(SettingsError, match='"c" is neither an address nor the JSON of a connection') as raised:
        airflow.parts_of(text, "c")
    assert "pw" not in str(raised.value)


def test_our_own_systems_and_airflows_hooks_read_the_same_connections(project, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_API", "http://me:pass-word@api.example:8080/https?timeout=5")
    monkeypatch.setenv("AIRFLOW_CONN_LOCAL", json.dumps({"conn_type": "sqlite", "host": "/data/x.db"}))
    (project / ".env").write_text(
        "AIRFLOW_CONN_IN_FILE=postgres://u:pw@db/x\nTIDEMILL_CONN_OURS=https://h.example/v1\n"
    )
    os.chmod(project / ".env", 0o600)
    found = connections_of(load_settings(project))
    api, local = found.get("api"), found.get("local")
    assert [api[name] for name in ("conn_type", "host", "port", "schema")] == ["https", "api.example", 8080, ""]
    assert (local["schema"], local["host"]) == ("/data/x.db", "")
    assert api["airflow"]["schema"] == "https"
    assert airflow.to_theirs(found.get("ours"))["host"] == "https://h.example/v1"
    assert [one.name for one in listed_connections(load_settings(project))] == ["api", "in_file", "local", "ours"]
    # Our own name comes first.
    monkeypatch.setenv("TIDEMILL_CONN_API", "https://other.example")
    assert connections_of(load_settings(project)).get("api")["host"] == "other.example"


DAG_FILE = """
from airflow.sdk import DAG, Connection, Variable, task
from airflow.hooks.base import BaseHook
from airflow.models import Variable as Older
from airflow.exceptions import AirflowNotFoundException

PLACES = Variable.get("places", deserialize_json=True)
HOST = BaseHook.get_connection("shop").host

with DAG("d", schedule="@daily") as dag:
    @task
    def ask():
        made = Connection.get("shop")
        try:
            Variable.get("nowhere")
        except KeyError as error:
            told = str(error)
        try:
            BaseHook.get_connection("no.where")
        except AirflowNotFoundException as error:
            told += " " + str(error)
        return [HOST, made.extra_dejson["key"], made.get_uri(), PLACES, Older.get("nowhere", default_var=7),
                Variable.get("nowhere", default=None), told, repr(made)]
    @task.bash(env={"A": "{{ var.value.region }}", "B": "{{ var.json.places[0] }}", "C": "{{ conn.shop.host }}",
                    "D": "{{ conn.shop.extra_dejson.key }} {{ conn.get('none', 'no') }}"})
    def say():
        return "echo $A $B $C $D"
    ask() >> say()
"""


def test_dag_files_are_handed_connections_and_variables(project, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", "postgres://me:pass-word@db.example/shop?key=value")
    monkeypatch.setenv("AIRFLOW_VAR_PLACES", '["north", "south"]')
    keep_secret(load_settings(project), "variables/region", "eu-north")
    file = project / "dags" / "d.py"
    file.parent.mkdir()
    file.write_text(DAG_FILE)
    day = datetime(2026, 1, 15, tzinfo=UTC)
    trial = try_dag(declared_in(load_settings(project), file)["d"], Interval(day, day + timedelta(days=1)))
    assert trial.errors == {}
    host, key, uri, places, other, none, told, shown = trial.result("ask")
    assert (host, key, places, other, none) == ("db.example", "value", ["north", "south"], 7, None)
    assert uri == "postgres://me:pass-word@db.example/shop?key=value"
    assert "Variable nowhere does not exist: set TIDEMILL_VAR_NOWHERE" in told
    assert "The conn_id `no.where` isn't defined" in told
    assert "pass-word" not in shown
    assert trial.result("say") == "eu-north north db.example value no"


def test_what_is_secret_in_them_is_hidden(project, monkeypatch):
    extra = {"deep": {"private_key": "0123456789"}, "region": "north"}
    text = json.dumps({"conn_type": "x", "password": "pass-word", "extra": json.dumps(extra)})
    monkeypatch.setenv("AIRFLOW_CONN_IN_ENV", "postgres://me:pw%2Fpw%2Fpw@db/shop")
    monkeypatch.setenv("AIRFLOW_VAR_API_TOKEN", "a-token-of-mine")
    settings = load_settings(project)
    keep_secret(settings, "connections/stored", text)
    keep_secret(settings, "variables/options", '{"token": "another-token", "region": "north"}')
    masked = masker_of(settings)
    assert masked.mask("pw/pw/pw a-token-of-mine") == "*** ***"
    assert connections_of(settings).get("stored")["extra"] == extra
    assert variables_of(settings).get("options")
    said = "pass-word 0123456789 another-token north"
    assert masked.mask(said) == "*** *** *** north"


SETS = """
from airflow.sdk import DAG, Variable, task

with DAG("d", schedule=None) as dag:
    @task
    def change():
        Variable.set("region", "north")
        Variable.set("far", {"day": 3}, serialize_json=True)
        found = [Variable.get("region"), Variable.get("far", deserialize_json=True)]
        kept = [Variable.setdefault("region", "south"), Variable.setdefault("n", [1], deserialize_json=True)]
        return [*found, *kept, Variable.delete("far"), Variable.delete("far"), Variable.get("far", default=None)]
    change()
"""


def test_what_a_trial_sets_is_there_for_the_trial_alone(project):
    keep_secret(load_settings(project), "variables/region", "west")
    file = project / "dags" / "d.py"
    file.parent.mkdir()
    file.write_text(SETS)
    trial = try_dag(declared_in(load_settings(project), file)["d"])
    assert trial.errors == {}
    assert trial.result("change") == ["north", {"day": 3}, "north", [1], 1, 0, None]
    assert variables_of(load_settings(project)).get("region") == "west"
    file.write_text('from airflow.sdk import DAG, Variable\nVariable.set("region", "north")\n')
    with pytest.raises(TidemillError, match="a file that is loaded changes nothing") as raised:
        declared_in(load_settings(project), file)
    assert raised.value.where.endswith("d.py:2")


def test_variables_are_set_in_the_store_where_they_will_be_seen(project, monkeypatch):
    keep_secret(load_settings(project), "variables/region", "west")  # makes the key of the store
    known = variables_of(load_settings(project))
    known.set("region", "north")
    known.set("db_password", "hidden-from-logs")
    assert (known.get("region"), known.get("db_password")) == ("north", "hidden-from-logs")
    assert "hidden-from-logs" not in GIVEN.mask("hidden-from-logs")
    assert (known.delete("region"), known.delete("region"), known.get("region")) == (True, False, None)
    monkeypatch.setenv("AIRFLOW_VAR_REGION", "south")
    with pytest.raises(SettingsError, match=r"in the environment \(AIRFLOW_VAR_REGION\)"):
        known.set("region", "north")
    (project / ".env").write_text("TIDEMILL_VAR_PLACE=a\n")
    os.chmod(project / ".env", 0o600)
    with pytest.raises(SettingsError, match=r'"place" is of \.env, which is asked before'):
        known.set("place", "b")
    with pytest.raises(SettingsError, match="cannot name a variable"):
        known.set("no/name", "x")
    (project / "tidemill.toml").write_text('[project]\nname = "p"\n[secrets]\nfrom = ["environment"]\n')
    with pytest.raises(SettingsError, match="no store of variables"):
        variables_of(load_settings(project)).set("a", "b")
