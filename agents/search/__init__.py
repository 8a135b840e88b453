"""Tree search in games for two, many boards at once, with the policy and the values that an agent has learned."""
