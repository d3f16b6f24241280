"""`make demo`: the whole playbook in a real Airflow, under traffic. Of the repository, not of the wheel."""
