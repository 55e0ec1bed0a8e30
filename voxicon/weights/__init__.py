"""Weights: what ships with the package, what is installed, and how to fetch more."""
