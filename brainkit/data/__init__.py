"""Data: the nouns (recordings, stimuli, spaces, splits), dataset cards, readers, downloads."""
