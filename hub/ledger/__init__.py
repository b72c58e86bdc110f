"""The durable broker: messages, deliveries, attempts, lanes, receipts. Every function here runs inside one transaction."""
