"""The pure pieces of targeting: criteria checked and turned into conditions, work tables and their SQL."""
