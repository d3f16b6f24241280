#!/bin/sh
# MWAA runs this before each of Airflow's processes starts.
export DOCFERRY_MIGRATIONS=/usr/local/airflow/dags/migrations
export DOCFERRY_REPORTS=/tmp/docferry-reports
