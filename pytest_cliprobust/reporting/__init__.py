"""Reports: from a :class:`~pytest_cliprobust.results.run.Run` to something to read. One file a form."""
