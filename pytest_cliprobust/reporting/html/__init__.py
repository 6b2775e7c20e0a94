"""The HTML report: one file, for people; :mod:`.page` makes it."""
