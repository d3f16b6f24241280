"""`make dist`: what each kind of Airflow takes. Of the repository, not of the wheel."""
