"""The pages in the Airflow UI: what waits for a person, and where it is answered.

Rendered on the server from ``include/pages``; they work without JavaScript. Whoever may do what is decided
by the functions of the schema; the pages show what may be done, and hand answers to them.
"""
