"""What several pages share: constants and rates of theorems, and what a family has in common. No pages here."""
