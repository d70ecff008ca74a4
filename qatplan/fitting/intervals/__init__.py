"""Bootstrap and profile intervals, and what trunks shared by runs add to them."""
