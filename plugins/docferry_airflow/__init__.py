"""docferry for Airflow: hooks, operators, sensors and the DAG factory. Airflow on one side, the library on the other."""
