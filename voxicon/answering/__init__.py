"""What was asked, answered from masks: which pieces are meant, how large they are, and in words. Needs no network."""
