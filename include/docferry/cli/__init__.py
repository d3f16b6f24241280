"""`docferry <flow> FILE`: every flow without Airflow, for debugging, tests and scripts."""
