"""Partially labelled datasets: what each one annotates, in our words."""
