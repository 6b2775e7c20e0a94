"""pytest-cliprobust: a robustness test harness for CLIP models, as a pytest plugin.

Importing this package or :mod:`pytest_cliprobust.plugin` imports neither torch nor numpy, so that a
pytest session that has nothing to do with CLIP pays nothing.
"""

__version__ = "0.1.0"
