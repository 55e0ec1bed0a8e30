"""What people look at: pictures and tables made from masks; this package judges masks, it makes none."""
