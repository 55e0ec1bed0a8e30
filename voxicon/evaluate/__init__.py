"""How good masks are, in numbers: overlap, surfaces, lesions, detection, and what chance may have added to them."""
