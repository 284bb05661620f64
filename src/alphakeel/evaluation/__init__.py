"""Tables from ledgers: performance with its intervals, attribution, regimes, risk."""
