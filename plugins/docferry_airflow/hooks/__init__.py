"""From Airflow connections to what the library needs."""
