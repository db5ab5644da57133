"""What an installation of Airflow has kept: its database and its settings file, read and never written."""
