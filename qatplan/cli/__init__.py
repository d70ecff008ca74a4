"""The command line: a thin shell that parses, calls one function of the library and prints."""
