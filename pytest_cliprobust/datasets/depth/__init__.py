"""Depth for data sets that come without: from files, or from an estimator. See :mod:`.base`."""
