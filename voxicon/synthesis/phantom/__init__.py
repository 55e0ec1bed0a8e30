"""Bodies drawn from a plan of human anatomy."""
