"""What a validation found, as a page."""
