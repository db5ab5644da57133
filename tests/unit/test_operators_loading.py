"""Naming operators loads no driver: a parser reads files that use all of them, and has none of what they need."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import tidemill.operators as operators
for name in operators.__all__:
    getattr(operators, name)
with __import__("tidemill").DAG("d"):
    operators.SqlOperator(task_id="sql", sql="select 1", conn_id="x")
    operators.DockerOperator(task_id="docker", image="x")
    operators.GlueJobOperator(task_id="glue", job_name="x")
    operators.HttpOperator(task_id="http", url="https://x")
    operators.EmailOperator(task_id="email", to="x", subject="x")
    operators.KafkaProduceOperator(task_id="kafka", topic="x", messages=["x"])
    operators.SparkSubmitOperator(task_id="spark", application="x.py")
heavy = ("boto3", "botocore", "confluent_kafka", "docker", "duckdb", "jinja2", "polars", "psycopg", "pyarrow",
         "requests", "smtplib", "sqlalchemy", "sqlglot", "sqlite3", "urllib.request")
print(",".join(name for name in heavy if name in sys.modules))
"""


def test_operators_load_no_driver_before_they_run():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
