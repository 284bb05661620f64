"""Target weights to returns: the day loop, costs, market rules, and the ledger."""
