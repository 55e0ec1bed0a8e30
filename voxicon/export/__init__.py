"""Weights in other programs' formats: `program` bakes the words in; `formats`, `bundle` write and run files."""
