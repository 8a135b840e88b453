"""Commands around a user's own sales: from a file of them to a list of prices."""
