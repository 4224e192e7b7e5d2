"""What theory says of a configured run before it trains."""
