"""Tables: the algorithms of Sutton & Barto's book, as they read there."""
