"""What a user asks for, one file for each verb. They tie the parts together and hold no arithmetic."""
