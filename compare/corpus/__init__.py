"""What an adapter changes over a corpus that nobody asked about."""
