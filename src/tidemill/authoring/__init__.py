"""What a user's file calls: pipelines, decorators, checks. Builds model values; running is elsewhere."""
