"""The actor kernel: cells, mailboxes, supervision, wiring, and the three hosts that drive them."""
