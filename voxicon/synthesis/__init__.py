"""Making CT: tumors planted into real organs, scans painted from label maps, and whole bodies out of nothing."""
