"""A fitted law as one self-contained web page: for a colleague who was not there. `build.page` makes it."""
