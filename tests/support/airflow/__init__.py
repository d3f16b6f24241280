"""What the tests of DAGs and of a running Airflow share."""
