"""A DAG by cron, one by ticks, one that rests, and one that is begun by hand."""

from datetime import UTC, datetime, timedelta

from airflow import DAG
from airflow.operators.bash import BashOperator
from airflow.timetables.trigger import CronTriggerTimetable
from lib.places import PLACES

START = datetime(2026, 1, 1, tzinfo=UTC)

with DAG("nightly", schedule="30 1 * * *", start_date=START, catchup=True, max_active_runs=1):
    load = BashOperator(task_id="load", bash_command=f"echo {PLACES[0]} {{{{ ds }}}}", pool="reports")
    load >> BashOperator(task_id="tell", bash_command="echo told")

with DAG("ticking", schedule=CronTriggerTimetable("0 * * * *", timezone="UTC"), start_date=START, catchup=False):
    BashOperator(task_id="tick", bash_command="echo tick")

with DAG("resting", schedule=timedelta(days=1), start_date=START, catchup=False):
    BashOperator(task_id="rest", bash_command="echo rest")

with DAG("by_hand", schedule=None, start_date=START):
    BashOperator(task_id="do", bash_command="echo {{ conn.api.host }}")
