"""Comparison of methods on structures, reactions, scans and dimers."""

from fusion.tasks import lazily

__getattr__ = lazily("Compare", __name__)
