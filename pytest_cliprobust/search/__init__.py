"""Searches of a perturbation's envelope, and attacks: how bad it gets between the published severities."""
