"""The embedded stack: PostgreSQL, a mail sink, an SFTP sink and Airflow on one machine.

Standard library only, because it also makes the venv; the sinks are the exception, they run inside the venv.
"""
