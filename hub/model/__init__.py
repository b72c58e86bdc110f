"""Words everyone shares: identifiers, refusals, states, record changes, ports, log. No I/O."""
