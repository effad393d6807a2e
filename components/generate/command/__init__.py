"""Videos for a person who asks: `zoetrope generate`. No pipeline uses it."""
