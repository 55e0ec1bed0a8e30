"""Tumors and cysts that were never there, planted into real organs."""
