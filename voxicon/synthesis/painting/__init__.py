"""A map of structures becomes a CT: tissue, what hollow organs hold, what the scanner adds."""
