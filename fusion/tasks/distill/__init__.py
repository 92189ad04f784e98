"""Distillation: a potential learns from a teacher, a method of any kind."""

from fusion.tasks import lazily

__getattr__ = lazily("Distill", __name__)
