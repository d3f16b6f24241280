# Two images: the AWS emulator of the compose file, and Airflow with docferry in it (the default target).

FROM python:3.11-slim AS ministack
# In an image of its own: it pins a botocore older than ours.
RUN pip install --no-cache-dir ministack==1.5.33
ENV BIND_HOST=0.0.0.0 GATEWAY_PORT=4566 MINISTACK_ACCOUNT_ID=123456789012 LOG_LEVEL=WARNING \
    SFTP_ENABLED=0 IOT_MTLS_ENABLED=0
EXPOSE 4566
USER nobody
WORKDIR /tmp
CMD ["ministack"]

FROM apache/airflow:3.3.2-python3.11 AS airflow
COPY --chown=airflow:0 requirements.txt pyproject.toml README.md /opt/docferry/
COPY --chown=airflow:0 include/docferry /opt/docferry/include/docferry
# The pins first, the library without its dependencies: nothing may move Airflow's own version.
RUN pip install --no-cache-dir -r /opt/docferry/requirements.txt \
 && pip install --no-cache-dir --no-deps /opt/docferry
COPY --chown=airflow:0 dags /opt/airflow/dags
COPY --chown=airflow:0 plugins /opt/airflow/plugins
COPY --chown=airflow:0 include/migrations /opt/airflow/include/migrations
ENV DOCFERRY_MIGRATIONS=/opt/airflow/include/migrations
