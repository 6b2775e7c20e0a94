"""Data sets: from a name or path to samples. One layout per file; see :func:`.loading.load_dataset`."""
