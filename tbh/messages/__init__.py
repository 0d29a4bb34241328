"""The catalogue of messages: the only thing actors share."""
