"""From a fitted law to decisions: what to train under which budget, and how sure that is. It never fits."""
