"""The way of a message: `receive` keeps and acknowledges, `route` files deliveries, `deliver` makes them,
`operate` is for people.
"""
