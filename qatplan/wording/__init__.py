"""What results say to people, worded once: titled sections that the terminal prints and the report sets."""
