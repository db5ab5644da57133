"""What is not served here."""

from airflow import DAG
from airflow.providers.google.cloud.operators.bigquery import BigQueryInsertJobOperator

with DAG("asks", schedule=None):
    BigQueryInsertJobOperator(task_id="ask", configuration={})
