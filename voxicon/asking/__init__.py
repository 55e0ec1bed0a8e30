"""Requests in plain English: :func:`parse` says what a sentence asks for, and never guesses."""

from voxicon.asking.grammar import parse
from voxicon.asking.request import Clause, Condition, Place, Request, Target
from voxicon.asking.several import understood

__all__ = ["Clause", "Condition", "Place", "Request", "Target", "parse", "understood"]
