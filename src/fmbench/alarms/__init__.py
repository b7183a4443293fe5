"""From scores to alarms: the rule, its choice on validation recordings, and what it then does."""
