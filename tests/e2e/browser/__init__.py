"""The tests that look at a running Airflow. A package, so that its fixtures end with it."""
