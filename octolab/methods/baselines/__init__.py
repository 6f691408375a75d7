"""Plain methods that everything else is compared with."""
