"""A study of several models: every property against ID accuracy, and the effects of six factors."""
