"""The bell wakes workers; a lost ring costs seconds (the sweep), never a message."""
