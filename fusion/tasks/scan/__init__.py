"""Scans along internal coordinates."""

from fusion.tasks import lazily

__getattr__ = lazily("Scan", __name__)
