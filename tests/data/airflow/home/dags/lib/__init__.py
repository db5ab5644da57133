"""What DAG files share."""
