"""Measures bidlock beside redis-py on one server, in one run: ``python -m bench``."""
