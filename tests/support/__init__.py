"""What several test files share: simulated tables, small sweeps, servers on loopback."""
