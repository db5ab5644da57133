"""Airflow's names for DAG files that were written for it: thin names over Tidemill's own classes.

names     which module serves which name, and where it is
finder    lets `import airflow...` find them while a DAG file is loaded, or its tasks run
the rest  what Airflow's classes take beside what ours take
"""
