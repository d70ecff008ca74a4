"""From a specification to a graph of segments, and from the graph to a folder of runs."""
