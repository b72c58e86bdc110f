"""What the French profiles of HL7 v2 ask of a message, as tables of rules (`tables/profiles/*.toml`), and what breaks them.

`profiles` reads the tables and finds the one of a message, `evaluate` runs it. Nothing here refuses a message: that is the
work of its structure's `judge`.
"""
