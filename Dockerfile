# The image of every Airflow service in docker-compose.yaml: Airflow, what requirements.txt pins, and the project.
FROM apache/airflow:3.3.2-python3.12

# The FAB provider (users and roles) is in the base image. Naming it makes pip refuse, while building, a pin
# of ours that FAB cannot work with.
COPY --chown=airflow:root requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir -r /tmp/requirements.txt apache-airflow-providers-fab

# Volumes take over the owner of the folder they are mounted on, so files has to exist here.
RUN mkdir -p /opt/airflow/files

COPY --chown=airflow:root dags /opt/airflow/dags
COPY --chown=airflow:root plugins /opt/airflow/plugins
COPY --chown=airflow:root include /opt/airflow/include
