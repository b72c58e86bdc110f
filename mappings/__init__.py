"""Pure translations: one module a message structure or document type. `registry.builtin()` holds those the hub comes with."""
