"""Loggers, one kind a file: what ``--clip-logger`` hands a run over to."""
