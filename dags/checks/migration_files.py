"""No DAG: here Airflow's UI learns which migration files are refused, and why.

An import error of this file lists every problem of every refused file. The DAGs of the other files are not affected;
a refused file has none until it is mended.
"""

from docferry_airflow.dag_factory import report_refused_files

report_refused_files()
