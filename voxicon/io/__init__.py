"""Scans and masks as files: what is read is checked first, what is written is whole or absent."""
