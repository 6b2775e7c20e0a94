"""``python -m pytest_cliprobust.cli`` is the ``cliprobust`` command."""

import sys

from pytest_cliprobust.cli import main

sys.exit(main())
