"""Targets: from a name to the model under test. See :func:`.loading.load_target`."""
